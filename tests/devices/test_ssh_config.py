"""ssh's configuration, as the real ssh reads it, and connections through the hosts and commands that it names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_setups import answer, configure, gates, move_known_hosts

from devices.errors import (
    DeviceUnreachableError,
    HostKeyError,
    UnknownTargetError,
)
from devices.ssh_config import parse_address, resolve
from devices.ssh_connect import connect
from devices.target import open_device
from profiler.launch import expand_targets

# ---- the answer of ssh ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("include", ["config.d/*", "~/.ssh/config.d/pi", "{home}/.ssh/config.d/*.absent config.d/p?"])
def test_an_included_host(sshd, include: str) -> None:
    folder = sshd.home / ".ssh" / "config.d"
    folder.mkdir()
    (folder / "pi").write_text(
        f"Host pi\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User root\n  IdentityFile {sshd.folder / 'user'}\n"
    )
    configure(sshd, f"Include {include.format(home=sshd.home)}")
    assert (resolve("pi").name, resolve("pi").port) == ("127.0.0.1", sshd.port)
    with open_device("ssh:pi") as device:
        assert device.run(["echo", "here"], timeout_s=20).stdout == b"here\n"


def test_match_blocks_apply_where_they_match(sshd) -> None:
    configure(
        sshd,
        'Match host one exec "true"\n  HostName 10.0.0.1\n  ProxyJump gate\nMatch host two exec "false"\n'
        "  HostName 10.0.0.2\n  ProxyJump gate\nMatch final all\n  Port 77\n",
    )
    one, two = resolve("one"), resolve("two")
    assert (one.name, one.port) == ("10.0.0.1", 77)
    assert one.proxy is not None
    assert (two.name, two.port, two.proxy) == ("two", 77, None)
    assert resolve("two:78").port == 78


def test_a_canonical_name(sshd) -> None:
    (sshd.home / "hosts").write_text("127.0.0.1 localhost\n127.0.0.1 box.example.test.\n")
    configure(
        sshd, "CanonicalizeHostname yes\nCanonicalDomains absent.test example.test\nHost box.example.test\n  Port 77"
    )
    sshd.home.joinpath(".ssh", "config").write_text(
        sshd.home.joinpath(".ssh", "config").read_text().replace("Host box\n", "Host other\n")
    )
    assert (resolve("box").name, resolve("box").port) == ("box.example.test", 77)
    assert resolve("box").key_name == "[box.example.test]:77"


def test_a_configuration_that_ssh_cannot_read_is_one_line(sshd) -> None:
    configure(sshd, "Host box\n  Colour blue")
    with pytest.raises(DeviceUnreachableError, match=r"config.*line 2: Bad configuration option: colour") as caught:
        resolve("box")
    assert "\n" not in str(caught.value)


def test_identity_files_with_tokens(sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    configure(
        sshd, 'Host a\n  HostName h\n  User me\n  IdentityFile "~/my keys/%n-%h-%r%%"\n  IdentityFile ${KEYS}/%p\n'
    )
    home = Path("~root").expanduser() if os.geteuid() == 0 else Path("~").expanduser()
    assert resolve("a").keys == (f"{home}/my keys/a-h-me%", "/keys/22")
    assert f"{home}/.ssh/id_ed25519" in resolve("elsewhere").keys


@pytest.mark.parametrize("address", ["$(id)", "a;b", "`id`@h", "a|b", "'h'", "a&b", "me@h>x", 'a"b', "a\\b"])
def test_names_that_a_shell_would_read_are_refused(address: str) -> None:
    """They go into the user's ProxyCommand, which a shell runs."""
    with pytest.raises(UnknownTargetError, match="USER@"):
        parse_address(address)


# ---- which known_hosts files count, and under which name -----------------------------------------------------------


def test_a_host_key_alias(sshd) -> None:
    move_known_hosts(sshd, sshd.known_hosts, "the-farm")
    with pytest.raises(HostKeyError, match=r"key of \[127\.0\.0\.1\]"):
        connect(resolve("box"))
    configure(sshd, "Host box\n  HostKeyAlias the-farm")
    assert resolve("box").key_name == "the-farm"
    assert answer(resolve("box")) == "here\n"
    assert answer(resolve(f"root@box:{sshd.port}")) == "here\n"


@pytest.mark.parametrize("setting", ["UserKnownHostsFile", "GlobalKnownHostsFile"])
@pytest.mark.parametrize(
    "value", ['"{folder}/my known hosts"', '/absent "{folder}/my known hosts"', "{folder}/%%h {file}"]
)
def test_the_files_with_host_keys(sshd, tmp_path: Path, setting: str, value: str) -> None:
    """Quoted, several, with a blank inside; of the user and of the system."""
    file = tmp_path / ("my known hosts" if "my" in value else "known")
    move_known_hosts(sshd, file, f"[127.0.0.1]:{sshd.port}")
    configure(sshd, f"Host box\n  {setting} {value.format(folder=tmp_path, file=file).replace('%%', '%%%%')}")
    assert file in resolve("box").known_hosts
    assert answer(resolve("box")) == "here\n"


def test_a_file_with_tokens(sshd, tmp_path: Path) -> None:
    move_known_hosts(sshd, tmp_path / f"box-127.0.0.1-{sshd.port}-root", f"[127.0.0.1]:{sshd.port}")
    configure(sshd, f"Host box\n  UserKnownHostsFile {tmp_path}/%n-%h-%p-%r")
    assert answer(resolve("box")) == "here\n"


def test_no_user_file_at_all(sshd) -> None:
    configure(sshd, "Host box\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none")
    assert resolve("box").known_hosts == ()
    with pytest.raises(HostKeyError, match="is not known"):
        connect(resolve("box"))


# ---- two names of one host -----------------------------------------------------------------------------------------


def test_two_names_of_one_host_are_refused(sshd) -> None:
    configure(sshd, f"{gates(sshd)}Host far\n  HostName 127.0.0.1\n  Port {sshd.port}\n  ProxyJump gate\n")
    for other in ("ssh:gate", f"ssh:127.0.0.1:{sshd.port}", "ssh://root@box/"):
        with pytest.raises(UnknownTargetError, match=f"ssh:box and {other} are one device: name it once"):
            expand_targets(["ssh:box", other])
    targets = ["local", "ssh:box", "ssh:far", "ssh:box:77", "ssh:$(id)"]  # another network, another port, no name
    assert [str(target) for target in expand_targets(targets)] == targets


# ---- without ssh ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_ssh(sshd, tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "empty"))
        yield


def test_without_ssh_paramiko_reads_the_file(sshd, no_ssh, tmp_path: Path) -> None:
    move_known_hosts(sshd, tmp_path / "my known hosts", "the-farm")
    configure(sshd, f'Host box\n  HostKeyAlias the-farm\n  UserKnownHostsFile /absent "{tmp_path}/my known hosts"')
    host = resolve("box")
    assert (host.name, host.port, host.user, host.only_keys) == ("127.0.0.1", sshd.port, "root", True)
    assert answer(host) == "here\n"
    assert resolve("elsewhere").keys[-1] == f"{sshd.home}/.ssh/id_ed25519"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("Include config.d/*", r"'Include config\.d/\*' is read by ssh only: install"),
        ("Match final all\n  Port 7", "'Match final all' is read by ssh only"),
        ("Match localnetwork 10.0.0.0/8\n  ProxyJump gate", "'Match localnetwork .*' is read by ssh only"),
        ("Host box\n  ProxyJump gate", "ProxyJump gate needs ssh: install"),
        ('Host box\n  UserKnownHostsFile "open', "cannot read .*config"),
    ],
)
def test_without_ssh_what_cannot_be_read_is_refused(sshd, no_ssh, lines: str, message: str) -> None:
    configure(sshd, lines)
    with pytest.raises(DeviceUnreachableError, match=message):
        resolve("box")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("h", (None, "h", None)),
        ("me@h.example:2222", ("me", "h.example", 2222)),
        ("me@[::1]:22", ("me", "::1", 22)),
        ("[fe80::1]", (None, "fe80::1", None)),
        ("fe80::1", (None, "fe80::1", None)),
        ("a@b@h", ("a@b", "h", None)),
    ],
)
def test_addresses(address: str, parts: tuple[str | None, str, int | None]) -> None:
    assert parse_address(address) == parts


@pytest.mark.parametrize("address", ["", "@h", "me@", "h:0", "h:99999", "h:x", "-oProxyCommand=x", "-l@h", "[::1]x"])
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(UnknownTargetError, match="USER@"):
        parse_address(address)


def test_the_address_wins_over_the_configuration(sshd) -> None:
    host = resolve("me@box:77")
    assert (host.user, host.name, host.port) == ("me", "127.0.0.1", 77)
    assert resolve("box").user == "root"
    assert resolve("elsewhere").name == "elsewhere"
