"""Resolve an ssh target: its address, and the settings of ssh's configuration for it.

The settings are those of `ssh -G HOST`, so that `Include`, `Match`, `CanonicalizeHostname` and the system's files apply
as for ssh itself. Without an ssh program, paramiko reads `~/.ssh/config`; settings that it cannot read are refused.
"""

from __future__ import annotations

import getpass
import os
import pwd
import re
import shlex
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko

from devices.errors import DeviceUnreachableError, UnknownTargetError
from devices.ssh_proxy import one_line

if TYPE_CHECKING:
    from devices.target import Target

__all__ = ["Host", "identify", "parse_address", "resolve"]

_SSH_SECONDS = 30.0  # `Match exec` runs programs, `CanonicalizeHostname` asks name servers
_NOT_IN_NAMES = re.compile(r"[\s'\"$\\`;&<>|(){}]")  # the configuration may insert names into a shell command
_SSH_ONLY = re.compile(
    r"^[ \t]*(include\b|match\b.*\b(canonical|command|final|localnetwork|sessiontype|tagged|version)\b).*",
    re.IGNORECASE | re.MULTILINE,
)  # paramiko ignores or misreads these
_LISTS = ("globalknownhostsfile", "identityfile", "userknownhostsfile")
_Settings = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Host:
    """A host with the settings of ssh's configuration.

    Attributes:
        alias: host in the user's words.
        name: host name or address to connect to.
        port: TCP port.
        user: login name.
        keys: private key files to offer.
        only_keys: True if other keys of the agent must not be offered (`IdentitiesOnly`).
        proxy: command whose stdin and stdout are the connection; None for TCP.
        known_hosts: files with host keys.
        revoked_keys: files with keys that no host may have (`RevokedHostKeys`).
        key_alias: name in known_hosts files instead of the host's own (`HostKeyAlias`); None if not set.
        command: equivalent ssh command.
        agent: socket of the agent (`IdentityAgent`): `SSH_AUTH_SOCK`, `none`, or a path.
    """

    alias: str
    name: str
    port: int
    user: str
    keys: tuple[str, ...]
    only_keys: bool
    proxy: tuple[str, ...] | None
    known_hosts: tuple[Path, ...]
    key_alias: str | None = None
    command: str = "ssh"
    agent: str = "SSH_AUTH_SOCK"
    revoked_keys: tuple[Path, ...] = ()

    @property
    def key_name(self) -> str:
        """Name in known_hosts files."""
        name = self.name.lower()
        return self.key_alias or (name if self.port == 22 else f"[{name}]:{self.port}")


def parse_address(address: str) -> tuple[str | None, str, int | None]:
    """Parse `[user@]host[:port]`; an IPv6 address stands in brackets, and `//` may precede as in a URI.

    Returns:
        User, host and port; None if not given.

    Raises:
        UnknownTargetError: the text has another form.
    """
    user, at, rest = address.removeprefix("//").removesuffix("/").rpartition("@")
    host, port = rest, ""
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        port = tail.removeprefix(":") if bracket else "?"
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    good_port = not port or (port.isascii() and port.isdecimal() and 0 < int(port) < 65536)
    is_option = host.startswith("-") or user.startswith("-")
    if not host or (at and not user) or not good_port or is_option or _NOT_IN_NAMES.search(user + host):
        raise UnknownTargetError(f"ssh:{address} is not of the form ssh:[USER@]HOST[:PORT]")
    return user or None, host, int(port) if port else None


def resolve(address: str) -> Host:
    """Return the host of an address with its settings.

    Raises:
        UnknownTargetError: the address has another form.
        DeviceUnreachableError: the configuration cannot be read, or has a setting that is not supported.
    """
    user, alias, port = parse_address(address)
    settings = _from_ssh(alias, user, port)
    home = _home() if settings is not None else Path("~").expanduser()
    if settings is None:
        settings = _from_file(home / ".ssh" / "config", alias)
    name = _first(settings, "hostname") or alias
    user_name = user or _first(settings, "user") or _login_name()
    number = port or int(_first(settings, "port") or 22)
    key_alias = _first(settings, "hostkeyalias")
    tokens = {
        "%": "%",
        "L": socket.gethostname().partition(".")[0],
        "d": str(home),
        "h": name,
        "i": str(os.getuid()),
        "j": _first(settings, "proxyjump") or "",
        "k": key_alias or alias,
        "l": socket.gethostname(),
        "n": alias,
        "p": str(number),
        "r": user_name,
        "u": _login_name(),
    }
    known = settings.get("userknownhostsfile") or ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
    known += settings.get("globalknownhostsfile") or ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
    port_option = ("-p", str(port)) if port else ()
    return Host(
        alias=alias,
        name=name,
        port=number,
        user=user_name,
        keys=tuple(_expand(key, tokens, home) for key in settings.get("identityfile", ()) if key != "none"),
        only_keys=_first(settings, "identitiesonly") == "yes",
        proxy=_proxy(settings, name, number, tokens),
        known_hosts=tuple(Path(_expand(file, tokens, home)) for file in known if file != "none"),
        key_alias=key_alias,
        agent=_expand(_first(settings, "identityagent") or "SSH_AUTH_SOCK", tokens, home),
        revoked_keys=tuple(
            Path(_expand(file, tokens, home)) for file in settings.get("revokedhostkeys", ()) if file != "none"
        ),
        command=shlex.join(["ssh", *port_option, f"{user}@{alias}" if user else alias]),
    )


def identify(target: Target) -> tuple[object, ...]:
    """Return the machine that a target connects to; raises as `resolve` does."""
    host = resolve(target.address)
    return host.key_name, host.name.lower(), host.port, host.proxy


def _from_ssh(alias: str, user: str | None, port: int | None) -> _Settings | None:
    """Read the settings from `ssh -G`; None if ssh is not installed or does not start for this user."""
    command = ["ssh", "-G", "-T", *(["-l", user] if user else []), *(["-p", str(port)] if port else []), "--", alias]
    try:
        pwd.getpwuid(os.getuid())  # without an entry ssh refuses to start
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SSH_SECONDS)
    except (KeyError, FileNotFoundError):
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceUnreachableError(f"ssh -G {alias}: {error}") from error
    if done.returncode != 0:
        words = one_line(done.stderr)
        raise DeviceUnreachableError(f"ssh cannot read its configuration for {alias}: {words}")
    settings: dict[str, tuple[str, ...]] = {}
    for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
        key, _, value = line.partition(" ")
        values = _split_files(value) if _holds_files(key) else (value,)
        settings[key] = (*settings.get(key, ()), *values)
    return settings


def _holds_files(key: str) -> bool:
    return key.endswith("knownhostsfile") or key == "revokedhostkeys"


def _split_files(text: str) -> tuple[str, ...]:
    """Split ssh's list of files, whose names may contain blanks: the longest name that exists is one file."""
    words, files = text.split(" "), list[str]()
    while words:
        ends = range(len(words), 1, -1)
        n = next((end for end in ends if Path(" ".join(words[:end])).is_file()), 1)
        files.append(" ".join(words[:n]))
        words = words[n:]
    return tuple(files)


def _from_file(file: Path, alias: str) -> _Settings:
    """Read a configuration file with paramiko; see the module's docstring for the limits."""
    need = "install the ssh program (Debian: apt install openssh-client)"
    try:
        text = file.read_text("utf-8", "surrogateescape") if file.exists() else ""
        if found := _SSH_ONLY.search(text):
            raise DeviceUnreachableError(f"{file}: {found[0].strip()!r} is read by ssh only: {need}")
        entry = paramiko.SSHConfig.from_text(text).lookup(alias)
        if entry.get("proxyjump", "none") != "none":
            raise DeviceUnreachableError(f"{file}: ProxyJump {entry['proxyjump']} needs ssh: {need}")
        files = {key: tuple(shlex.split(entry[key])) for key in entry if _holds_files(key)}
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise DeviceUnreachableError(f"cannot read {file}: {error}") from error
    usual = [str(file.with_name(f"id_{kind}")) for kind in ("rsa", "ecdsa", "ed25519")]
    one = {key: (value,) for key, value in entry.items() if key not in _LISTS}
    return {**one, **files, "identityfile": tuple(entry.get("identityfile", usual))}


def _proxy(settings: _Settings, name: str, port: int, tokens: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the command that reaches the host; None for TCP."""
    jump = _first(settings, "proxyjump")
    if jump is not None:
        *before, last = jump.split(",")
        through = ["-J", ",".join(before)] if before else []
        if not last.startswith("ssh://"):
            user, last, jump_port = parse_address(last)
            through += [*(["-l", user] if user else []), *(["-p", str(jump_port)] if jump_port else [])]
        return ("ssh", "-o", "BatchMode=yes", "-T", "-W", f"[{name}]:{port}", *through, "--", last)
    command = _first(settings, "proxycommand")
    if command is None:
        return None
    if _first(settings, "proxyusefdpass") == "yes":
        raise DeviceUnreachableError(f"ProxyUseFdpass is not supported: give {name} a ProxyCommand that copies bytes")
    # ssh runs a ProxyCommand with the user's shell.
    return (os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {_expand_tokens(command, tokens)}")


def _first(settings: _Settings, key: str) -> str | None:
    value = settings.get(key, (None,))[0]
    return None if value is not None and key.startswith("proxy") and value.lower() == "none" else value


def _expand(path: str, tokens: Mapping[str, str], home: Path) -> str:
    """Expand tokens such as `%h`, `${NAME}` and a leading `~`."""
    text = re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], found[0]), _expand_tokens(path, tokens))
    return f"{home}{text[1:]}" if text == "~" or text.startswith("~/") else str(Path(text).expanduser())


def _expand_tokens(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub("%(.)", lambda found: tokens.get(found[1], found[0]), text)


def _home() -> Path:
    """Return the home directory of the password file, which ssh uses instead of HOME."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return os.environ.get("USER", "root")
