"""Connect to an ssh host whose key is in known_hosts, with the user's keys and agent.

Passwords are never asked for or sent. A host key that is not in known_hosts is refused, with its fingerprint and the
way to accept it. A changed host key is refused.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import os
import shlex
import socket
from pathlib import Path
from typing import NoReturn

import paramiko

from devices.errors import AccessDeniedError, DeviceUnreachableError, HostKeyError
from devices.known_hosts import KnownHosts, error_text, read_known_hosts
from devices.ssh_config import Host
from devices.ssh_proxy import ProxySocket, open_proxy

__all__ = ["connect"]

CONNECT_TIMEOUT_S = 15.0
PROXY_TIMEOUT_S = 45.0  # several connections, one after another
KEEP_ALIVE_S = 10
PEER_DEAD_S = 30  # without an acknowledgement, of keep-alives too, the connection is lost


def connect(host: Host) -> paramiko.SSHClient:
    """Open an authenticated connection to a host whose key is known.

    Raises:
        HostKeyError: the host's key is unknown, revoked, or has changed.
        AccessDeniedError: the host accepts none of the user's keys.
        DeviceUnreachableError: the host does not answer.
    """
    logger = logging.getLogger("paramiko")
    if not logger.hasHandlers():  # otherwise it prints tracebacks; errors are raised here
        logger.addHandler(logging.NullHandler())
    client = paramiko.SSHClient()
    known = read_known_hosts(host.known_hosts, host.revoked_keys)
    for key in reversed(known.keys_of(host.key_name)):  # the first key of each type counts
        client.get_host_keys().add(host.key_name, key.get_name(), key)
    client.set_missing_host_key_policy(_Refuse(host, known))
    present = [key for key in host.keys if Path(key).exists() and not key.endswith(".pub")]
    sock: socket.socket | None = None
    try:
        sock = (
            open_proxy(host.proxy)
            if host.proxy
            else socket.create_connection((host.name, host.port), CONNECT_TIMEOUT_S)
        )
        with contextlib.closing(paramiko.Agent()) as agent:
            client.connect(
                host.key_name,  # for known_hosts only; the socket is open
                username=host.user,
                pkey=_agent_key(host, agent) if host.only_keys and host.agent != "none" else None,
                key_filename=present,  # type: ignore[arg-type]  # the documentation allows a list
                look_for_keys=False,
                allow_agent=not host.only_keys and host.agent != "none",
                banner_timeout=PROXY_TIMEOUT_S if host.proxy else CONNECT_TIMEOUT_S,
                auth_timeout=CONNECT_TIMEOUT_S,
                timeout=PROXY_TIMEOUT_S if host.proxy else CONNECT_TIMEOUT_S,
                sock=sock,
            )
    except Exception as error:  # any type, after a hostile packet
        client.close()
        if sock is not None:
            sock.close()
        _explain(host, error, sock, known)
    transport = client.get_transport()
    assert transport is not None
    transport.set_keepalive(KEEP_ALIVE_S)
    if not host.proxy and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_DEAD_S * 1000)
    return client


def _agent_key(host: Host, agent: paramiko.Agent) -> paramiko.AgentKey | None:
    """Return the agent's key of one of the host's key files; `IdentitiesOnly` allows no others."""
    wanted = set()
    for path in (Path(key if key.endswith(".pub") else f"{key}.pub") for key in host.keys):
        with contextlib.suppress(OSError, ValueError, IndexError):
            wanted.add(base64.b64decode(path.read_text().split()[1]))
    return next((key for key in agent.get_keys() if key.asbytes() in wanted), None)


class _Refuse(paramiko.MissingHostKeyPolicy):
    """Refuse a host whose key is in no known_hosts file, with a message on how to accept it."""

    def __init__(self, host: Host, known: KnownHosts) -> None:
        self._host = host
        self._known = known

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        _check_revocation(self._host, key, self._known)
        if self._host.key_alias is None and key in self._known.keys_of(self._host.name):
            return  # known without the port, which ssh accepts too
        raise HostKeyError(
            f"the key of {self._host.key_name} is not known: {key.get_name()} {_fingerprint(key)}; compare it with "
            f"`ssh-keygen -lf` of the key file on that machine, then accept it by running `{self._host.command}` once"
        )


def _check_revocation(host: Host, key: paramiko.PKey, known: KnownHosts) -> None:
    if where := known.revocation(key):
        raise HostKeyError(
            f"the key of {host.key_name} is REVOKED: {key.get_name()} {_fingerprint(key)} {where}; refused"
        )


def _explain(host: Host, error: Exception, sock: socket.socket | None, known: KnownHosts) -> NoReturn:
    where = f"{host.user}@{host.key_name}"
    if isinstance(error, HostKeyError):
        raise error
    if isinstance(error, paramiko.BadHostKeyException):
        _check_revocation(host, error.key, known)
        raise HostKeyError(
            f"the key of {host.key_name} HAS CHANGED: it is now {error.key.get_name()} {_fingerprint(error.key)}, in "
            f"known_hosts {error.expected_key.get_name()} {_fingerprint(error.expected_key)}; refused. If the "
            f"machine was really installed anew, remove the old key with `{_forget(host)}`"
        ) from error
    has_agent = host.agent in ("SSH_AUTH_SOCK", "none", os.environ.get("SSH_AUTH_SOCK"))
    if isinstance(error, paramiko.AuthenticationException) and not has_agent:
        raise AccessDeniedError(
            f"{where}: the host accepts none of your keys without the agent of IdentityAgent; repeat with "
            f"SSH_AUTH_SOCK={shlex.quote(host.agent)}"
        ) from error
    if isinstance(error, paramiko.PasswordRequiredException):
        raise AccessDeniedError(f"{where}: a private key is encrypted; load it with ssh-add first") from error
    if isinstance(error, paramiko.AuthenticationException):
        raise AccessDeniedError(
            f"{where}: the host accepts none of your keys ({error}); add one with `ssh-copy-id`, or name it in "
            "~/.ssh/config"
        ) from error
    if isinstance(sock, ProxySocket):
        through = shlex.join(sock.command)
        raise DeviceUnreachableError(
            f"{where}: no connection through `{through}`: {sock.words or error_text(error)}"
        ) from error
    if isinstance(error, TimeoutError):
        raise DeviceUnreachableError(f"{where}: no answer within {CONNECT_TIMEOUT_S:g} s") from error
    if isinstance(error, paramiko.SSHException) and "No existing session" in str(error):
        message = f"{where}: the ssh handshake did not end within {CONNECT_TIMEOUT_S:g} s"
        raise DeviceUnreachableError(message) from error
    if isinstance(error, paramiko.SSHException) and "protocol banner" in str(error):
        raise DeviceUnreachableError(f"{where}: no answer of an ssh server: {error_text(error)}") from error
    raise DeviceUnreachableError(f"{where}: {error_text(error)}") from error


def _forget(host: Host) -> str:
    """Return the command that removes the host's key from the first existing file of the user."""
    file = next((file for file in host.known_hosts if file.exists()), None)
    return shlex.join(["ssh-keygen", "-R", host.key_name, *(["-f", str(file)] if file else [])])


def _fingerprint(key: paramiko.PKey) -> str:
    """Return the fingerprint in the form of `ssh-keygen -l`."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
