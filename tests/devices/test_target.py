"""Target parsing, aliases and the way from a name to an open device."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.errors import DeviceConfigError, UnknownTargetError
from devices.fake import FakeDevice
from devices.local import LocalDevice
from devices.target import Target, open_device, read_aliases

CONFIG = """
[pixel2]
target = "adb:HT7A1234"
backend = "tflite"
threads = 1
cpus = [4, 5]
work_dir = "/data/local/tmp/ofa"

[local]
threads = 2
"""


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "devices.toml").write_text(text)
    return folder / "devices.toml"


@pytest.mark.parametrize(
    ("text", "scheme", "address"),
    [
        ("local", "local", ""),
        ("fake", "fake", ""),
        ("adb:HT7A1234", "adb", "HT7A1234"),
        ("adb:192.168.1.5:5555", "adb", "192.168.1.5:5555"),
        ("adb", "adb", ""),
        ("adb:Pixel 6", "adb", "Pixel 6"),
        ("adb:adb-ZY22ABCD-Xy12Zz (2)._adb-tls-connect._tcp", "adb", "adb-ZY22ABCD-Xy12Zz (2)._adb-tls-connect._tcp"),
        ("adb:usb:1-2", "adb", "usb:1-2"),
        ("ssh:user@host:22", "ssh", "user@host:22"),
    ],
)
def test_literal_targets(text: str, scheme: str, address: str) -> None:
    target = Target.parse(text, {})
    assert (target.scheme, target.address, target.name) == (scheme, address, text)
    assert str(target) == text


def test_aliases_bring_defaults_by_name_and_by_target(tmp_path: Path) -> None:
    aliases = read_aliases([write(tmp_path, CONFIG)])
    expected = Target("adb", "HT7A1234", "pixel2", "tflite", 1, (4, 5), "/data/local/tmp/ofa")
    assert Target.parse("pixel2", aliases) == expected
    assert Target.parse("adb:HT7A1234", aliases) == expected
    assert Target.parse("local", aliases) == Target("local", name="local", threads=2)


def test_the_folder_at_hand_wins_over_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, '[a]\ntarget = "fake"\nthreads = 1')
    write(tmp_path / "ofa-latency", '[a]\ntarget = "local"\n[b]\ntarget = "ssh:h"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    aliases = read_aliases()
    assert aliases["a"] == Target("fake", name="a", threads=1)
    assert aliases["b"] == Target("ssh", "h", "b")


def test_a_missing_file_has_no_aliases(tmp_path: Path) -> None:
    assert read_aliases([tmp_path / "absent.toml"]) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "devices.toml"),
        ("a = 1", "must be a section"),
        ("[a]\ntarget = 3", "is not a string"),
        ('[a]\ntarget = "usb:1"', r"\[a\] unknown target 'usb:1'"),
        ("[nameless]", r"\[nameless\] unknown target 'nameless'"),
        ("[local]\nthread = 1", "unknown key 'thread', known are backend, cpus"),
        ("[local]\nthreads = 0", "threads = 0 is not a number of threads"),
        ("[local]\nthreads = true", "threads = True is not"),
        ("[local]\ncpus = []", "is not a list of core numbers"),
        ("[local]\ncpus = [-1]", "is not a list of core numbers"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DeviceConfigError, match=message) as caught:
        read_aliases([write(tmp_path, text)])
    assert "\n" not in str(caught.value)


def test_an_unknown_target_names_the_known_ones(tmp_path: Path) -> None:
    aliases = read_aliases([write(tmp_path, CONFIG)])
    with pytest.raises(UnknownTargetError, match="unknown target 'pixel3', known are local, pixel2, adb:ADDRESS"):
        Target.parse("pixel3", aliases)


def test_a_model_with_a_blank_in_devices_toml(tmp_path: Path) -> None:
    """In the form that a shell needs quotes for, and with the quotes."""
    aliases = read_aliases([write(tmp_path, '[a]\ntarget = "adb:Pixel 6"\n[b]\ntarget = \'adb:"Pixel 6"\'')])
    assert aliases["a"] == Target("adb", "Pixel 6", "a")
    assert aliases["b"] == Target("adb", '"Pixel 6"', "b")
    with pytest.raises(DeviceConfigError, match=r"\[c\] target 'ssh:a b' has no usable address"):
        read_aliases([write(tmp_path, '[c]\ntarget = "ssh:a b"')])


def test_adb_with_a_colon_and_no_address_is_plain_adb() -> None:
    assert Target.parse("adb:", {}) == Target.parse("adb", {}) == Target("adb", "", "adb")


@pytest.mark.parametrize(
    "text",
    [
        "adb:-s",
        "adb: ",
        "adb:a ",
        "adb:a\tb",
        "adb:a\x1b[0m",
        "ssh:",
        "ssh:-oProxyCommand=x",
        "ssh:a b",
        "ssh:a\nb",
        "ssh",
        "",
    ],
)
def test_addresses_that_could_be_mistaken_are_refused(text: str) -> None:
    with pytest.raises(UnknownTargetError):
        Target.parse(text, {})


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_a_known_error(text: str) -> None:
    try:
        target = Target.parse(text, {})
    except UnknownTargetError:
        return
    assert str(target) == ("adb" if text == "adb:" else text)


def test_open_device_opens_the_shipped_ones(tmp_path: Path) -> None:
    with open_device(Target("local", name="box", work_dir=str(tmp_path), python="py")) as device:
        assert isinstance(device, LocalDevice)
        assert (device.name, device.python) == ("box", "py")
        assert Path(device.work_dir).parent == tmp_path
    with open_device("fake") as device:
        assert isinstance(device, FakeDevice)


def test_an_unknown_scheme() -> None:
    with pytest.raises(UnknownTargetError, match="unknown scheme 'usb', known are"):
        open_device(Target("usb", "1"))


@pytest.mark.parametrize(
    "line",
    [
        'target = "adb:a\\u0000b"',
        'work_dir = "/tmp/a\\u0000b"',
        'python = "/usr/bin/python\\u001b[2J"',
        'backend = "tf\\nlite"',
        'backend = ""',
        "dtype = 16",
        'delegate = ""',
        f'python = "{"x" * 300}"',
        "threads = 99999999999999999999",
        "threads = true",
        "cpus = [1e999]",
        "cpus = [-1]",
        "deep = " + "[" * 5000 + "]" * 5000,
    ],
)
def test_unprintable_texts_are_refused(tmp_path: Path, line: str) -> None:
    file = write(tmp_path, f"[local]\n{line}\n")
    with pytest.raises(DeviceConfigError, match=r"devices.toml: ") as error:
        read_aliases([file])
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


def test_the_name_of_a_section_is_printable(tmp_path: Path) -> None:
    with pytest.raises(DeviceConfigError, match=r"a section has the name 'a.nb'"):
        read_aliases([write(tmp_path, '["a\\nb"]\ntarget = "fake"\n')])
