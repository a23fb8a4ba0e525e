"""Who is behind an ssh target, and a connection to it: ~/.ssh/config, keys and agent, a host key that must be known.

No password is ever asked for or sent. A host key that is not in known_hosts is refused with its fingerprint and the
way to accept it; one that changed is refused outright.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import paramiko

from devices.device import DeviceUnreachableError, HostKeyError, UnknownTargetError

__all__ = ["Host", "connect", "parse_address", "resolve"]

CONNECT_TIMEOUT_S = 15.0
KEEP_ALIVE_S = 10
PEER_DEAD_S = 30  # without an acknowledgement of what was sent, keep-alives included, the connection counts as broken


@dataclass(frozen=True, slots=True)
class Host:
    """A host after ~/.ssh/config had its say.

    Attributes:
        alias: as the user called it.
        name: to connect to.
        port: TCP port.
        user: to log in as.
        keys: private key files to offer; empty for the usual ones.
        only_keys: whether other keys of the agent are not to be offered (`IdentitiesOnly`).
        proxy: command whose stdin and stdout are the connection; None for TCP.
        known_hosts: files with host keys.
    """

    alias: str
    name: str
    port: int
    user: str
    keys: tuple[str, ...]
    only_keys: bool
    proxy: str | None
    known_hosts: tuple[Path, ...]

    @property
    def key_name(self) -> str:
        """The name in known_hosts files."""
        return self.name if self.port == 22 else f"[{self.name}]:{self.port}"

    @property
    def command(self) -> str:
        """The ssh command that a person would type."""
        port = "" if self.port == 22 else f"-p {self.port} "
        return f"ssh {port}{self.user}@{self.name}"


def parse_address(address: str) -> tuple[str | None, str, int | None]:
    """Read `[user@]host[:port]`, the host an IPv6 address in brackets if need be.

    Returns:
        user, host and port; None where the address does not say.

    Raises:
        UnknownTargetError: anything else.
    """
    user, at, rest = address.rpartition("@")
    host, port = rest, ""
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        port = tail.removeprefix(":") if bracket else "?"
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    good_port = not port or (port.isascii() and port.isdecimal() and 0 < int(port) < 65536)
    if not host or (at and not user) or not good_port or host.startswith("-") or user.startswith("-"):
        raise UnknownTargetError(f"ssh:{address} is not of the form ssh:[USER@]HOST[:PORT]")
    return user or None, host, int(port) if port else None


def resolve(address: str, home: Path | None = None) -> Host:
    """Look an address up in `~/.ssh/config` (below `home`, by default the user's).

    Raises:
        UnknownTargetError: the address has another form.
        DeviceUnreachableError: the configuration cannot be read.
    """
    user, alias, port = parse_address(address)
    home = home if home is not None else Path("~").expanduser()
    config = paramiko.SSHConfig()
    file = home / ".ssh" / "config"
    try:
        if file.exists():
            config = paramiko.SSHConfig.from_path(str(file))
        entry = config.lookup(alias)
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise DeviceUnreachableError(f"cannot read {file}: {error}") from error
    known = entry.get("userknownhostsfile", "").split() or [str(home / ".ssh" / "known_hosts")]
    name = entry.get("hostname", alias)
    port = port or int(entry.get("port", 22))
    proxy = entry.get("proxycommand")
    if proxy is None and entry.get("proxyjump", "none") != "none":
        proxy = f"ssh -W [{name}]:{port} {entry['proxyjump']}"
    return Host(
        alias=alias,
        name=name,
        port=port,
        user=user or entry.get("user") or _login_name(),
        keys=tuple(entry.get("identityfile", ())),
        only_keys=entry.get("identitiesonly", "no").lower() == "yes",
        proxy=None if proxy == "none" else proxy,
        known_hosts=(*(Path(k).expanduser() for k in known), Path("/etc/ssh/ssh_known_hosts")),
    )


def connect(host: Host) -> paramiko.SSHClient:
    """Open an authenticated connection whose peer is who it was.

    Raises:
        HostKeyError: the host's key is unknown, or has changed.
        DeviceUnreachableError: no answer, or no key of ours is accepted; `retry` on it says whether time may help.
    """
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(_Refuse(host))
    for file in host.known_hosts:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
            client.load_system_host_keys(str(file))
    present = [key for key in host.keys if Path(key).exists()]
    try:
        client.connect(
            host.name,
            host.port,
            username=host.user,
            key_filename=present,  # type: ignore[arg-type]  # a list is documented, and works
            look_for_keys=not present,
            allow_agent=not host.only_keys,
            timeout=CONNECT_TIMEOUT_S,
            banner_timeout=CONNECT_TIMEOUT_S,
            auth_timeout=CONNECT_TIMEOUT_S,
            sock=paramiko.ProxyCommand(host.proxy) if host.proxy else None,
        )
    except HostKeyError:
        client.close()
        raise
    except (paramiko.SSHException, OSError, EOFError) as error:
        client.close()
        _explain(host, error)
    transport = client.get_transport()
    assert transport is not None
    transport.set_keepalive(KEEP_ALIVE_S)
    if isinstance(transport.sock, socket.socket) and hasattr(socket, "TCP_USER_TIMEOUT"):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_DEAD_S * 1000)
    return client


class NotWelcomeError(DeviceUnreachableError):
    """The host answers, but does not let us in: trying again is no use."""


class _Refuse(paramiko.MissingHostKeyPolicy):
    """Refuses hosts whose key is in no known_hosts file, and says how to accept it."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        raise HostKeyError(
            f"the key of {self._host.key_name} is not known: {key.get_name()} {_fingerprint(key)}; compare it with "
            f"`ssh-keygen -lf` of the key file on that machine, then accept it by running `{self._host.command}` once"
        )


def _explain(host: Host, error: Exception) -> NoReturn:
    where = f"{host.user}@{host.key_name}"
    if isinstance(error, paramiko.BadHostKeyException):
        raise HostKeyError(
            f"the key of {host.key_name} HAS CHANGED: it shows {error.key.get_name()} {_fingerprint(error.key)}, known "
            f"is {error.expected_key.get_name()} {_fingerprint(error.expected_key)}; refused. If the machine was "
            f"really set up anew, remove the old key with `ssh-keygen -R '{host.key_name}'`"
        ) from error
    if isinstance(error, paramiko.PasswordRequiredException):
        raise NotWelcomeError(f"{where}: a private key is encrypted; load it with ssh-add first") from error
    if isinstance(error, paramiko.AuthenticationException):
        raise NotWelcomeError(
            f"{where}: no key of ours is accepted ({error}); add one with `ssh-copy-id`, or name it in ~/.ssh/config"
        ) from error
    if isinstance(error, TimeoutError):
        raise DeviceUnreachableError(f"{where}: no answer within {CONNECT_TIMEOUT_S:g} s") from error
    raise DeviceUnreachableError(f"{where}: {_text(error)}") from error


def _fingerprint(key: paramiko.PKey) -> str:
    """The form that ssh-keygen -l prints."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _login_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return os.environ.get("USER", "root")
