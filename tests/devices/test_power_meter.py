"""Power meters over made-up kernel trees: counters that wrap, phones on a charger, files that cannot be read."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from devices.fake import FakeDevice
from devices.local import LocalDevice
from devices.power_meter import METER_NAME, Meter, MeterError, Reading, average, meter_command, parse_reading


def zone(root: Path, number: str, name: str, value: int, limit: int = 262_143_328_850) -> Path:
    folder = root / "powercap" / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")
    (folder / "energy_uj").write_text(f"{value}\n")
    return folder / "energy_uj"


def battery(root: Path, status: str, current: int, voltage: int, name: str = "battery") -> Path:
    folder = root / "power_supply" / name
    folder.mkdir(parents=True)
    for file, text in {"type": "Battery", "status": status, "current_now": current, "voltage_now": voltage}.items():
        (folder / file).write_text(f"{text}\n")
    return folder


# ---- readings ------------------------------------------------------------------------------------------------------


def counters(*values: int, limit: int = 0) -> list[Reading]:
    return [Reading(float(i), ((value, limit),)) for i, value in enumerate(values)]


def test_power_is_the_counter_s_rise_over_time() -> None:
    power = average(counters(0, 10_000_000, 20_000_000, 30_000_000))
    assert power.watts == pytest.approx(10)
    assert power.error_w == 0
    uneven = average(counters(0, 8_000_000, 20_000_000, 30_000_000))
    assert uneven.watts == pytest.approx(10)
    assert uneven.error_w == pytest.approx((8 / 3) ** 0.5 / 3**0.5 * (3 / 2) ** 0.5)  # of 8, 12 and 10 W


def test_a_counter_that_starts_again_goes_on_from_its_limit() -> None:
    limit = 65_712_999_613
    power = average(counters(limit - 12_000_000, limit - 2_000_000, 8_000_000, 18_000_000, limit=limit))
    assert power.watts == pytest.approx(10)
    several = [
        Reading(0.0, ((limit - 5_000_000, limit), (1_000_000, limit))),
        Reading(1.0, ((1_000_000, limit), (3_000_000, limit))),
        Reading(2.0, ((7_000_000, limit), (5_000_000, limit))),
    ]
    assert average(several).watts == pytest.approx(8)


def test_columns_without_a_measurement_are_named() -> None:
    with pytest.raises(MeterError, match=r"^the energy counter does not change$"):
        average(counters(5, 5, 5, 5))
    with pytest.raises(MeterError, match="fell from 9 to 3"):
        average(counters(5, 9, 3))
    with pytest.raises(MeterError, match="2 readings of the meter are too few"):
        average(counters(5, 9))
    with pytest.raises(MeterError, match="lost a counter"):
        average([*counters(1, 2), Reading(3.0)])


@pytest.mark.parametrize(
    ("line", "watts"),
    [
        ("1.5 battery Discharging -412000 3871000", 0.412 * 3.871),  # as the kernel's documentation has it
        ("1.5 battery Discharging 412000 3871000", 0.412 * 3.871),  # the other sign
        ("1.5 battery Discharging 412 3871000", 0.412 * 3.871),  # milliamperes
        ("1.5 battery Discharging -1290 3871", 1.29 * 3.871),  # and millivolts
        ("1.5 dumpsys   status: 3;  voltage: 3871;  current now: -412;", 0.412 * 3.871),
        ("1.5 dumpsys   current now: 412000;  status: 3;  voltage: 3871;", 0.412 * 3.871),
        ("1.5 mw 75123", 75.123),
    ],
)
def test_units_and_signs_of_batteries(line: str, watts: float) -> None:
    reading = parse_reading(line)
    assert reading.time_s == 1.5
    assert average([Reading(float(i), watts=reading.watts) for i in range(4)]).watts == pytest.approx(watts)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not", "Unknown", "2", "5"])
def test_a_charging_battery_gives_no_reading(status: str) -> None:
    with pytest.raises(MeterError, match=f"^the battery's status is '{status}': .*only while it is discharging.*Wi-Fi"):
        parse_reading(f"1.5 battery {status} 412000 3871000")
    with pytest.raises(MeterError, match="discharging"):
        parse_reading("1.5 dumpsys status: 2; voltage: 4100; current now: 10;")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        "1.0",
        "1.0 uj",
        "1.0 uj x/3",
        "1.0 mw",
        "1.0 battery 3",
        "1.0 dumpsys status: 3;",
        "x mw 5",
        "nan mw 5",
        "1e999 mw 5",
        "-1 mw 5",
        f"1.0 mw {'9' * 400}",
        f"1.0 uj 5/{'9' * 30}",
        "1.0 mw \u0665",
        f"1.0 battery Discharging 4 {'9' * 400}",
    ],
)
def test_invalid_meter_output_gives_no_reading(line: str) -> None:
    with pytest.raises(MeterError, match=r"^the meter printed .*, which is not a reading$"):
        parse_reading(line)


def test_the_error_of_a_gauge_has_its_step_and_update_rate() -> None:
    steady = average([Reading(float(i), watts=2.0) for i in range(30)])
    assert (steady.watts, steady.error_w) == (2.0, 0.0)
    # Two updates, ten readings of each: the error is that of two values, and a step is a step.
    coarse = average([Reading(float(i), watts=2.0 if i < 10 else 2.4) for i in range(20)])
    assert coarse.watts == pytest.approx(2.2)
    assert coarse.error_w >= 0.2


# ---- the process on the device -------------------------------------------------------------------------------------


@pytest.fixture
def device(tmp_path: Path):
    with LocalDevice(tmp_path) as opened:
        yield opened


def test_packages_and_memory_are_counted_once(device: LocalDevice, tmp_path: Path) -> None:
    limit = 1_000_000
    package = zone(tmp_path, "0", "package-0", limit - 7, limit)
    zone(tmp_path, "0:0", "core", 5)  # part of the package
    zone(tmp_path, "0:1", "dram", 300)
    zone(tmp_path, "1", "package-1", 20)
    zone(tmp_path, "2", "psys", 9)  # the whole platform, packages included
    with closing(Meter(device, meter_command(str(tmp_path)))) as meter:
        assert meter.source == "rapl"
        first = meter.wait()
        package.write_text("13\n")
        later = [meter.wait(), meter.wait()][-1]
    assert sorted(value for value, _ in first.counters) == [20, 300, limit - 7]
    assert later.time_s > first.time_s
    at = {value: other for (value, _), (other, _) in zip(first.counters, later.counters, strict=True)}
    assert at == {20: 20, 300: 300, limit - 7: 13}
    assert average([first, later, later]).watts * (later.time_s - first.time_s) == pytest.approx(20e-6)


def test_counters_readable_by_root_only_name_the_remedy(device: LocalDevice, tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0", 5)
    file.unlink()
    file.mkdir()  # unreadable for root as well, who runs these tests
    with pytest.raises(MeterError, match=r"^only root may read .*intel-rapl:0/energy_uj: run as root, or .*chmod a\+r"):
        Meter(device, meter_command(str(tmp_path)))


def test_a_device_without_a_meter_is_reported(
    device: LocalDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("type", "online"):
        path = tmp_path / "power_supply" / "usb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("USB\n")
    with pytest.raises(MeterError, match=r"^it has no RAPL counters, and no battery that reports its current$"):
        Meter(device, meter_command(str(tmp_path)))
    with pytest.raises(MeterError, match="no RAPL"):
        Meter(FakeDevice(), meter_command())


def test_a_phone_on_its_battery_and_then_on_a_charger(device: LocalDevice, tmp_path: Path) -> None:
    folder = battery(tmp_path, "Discharging", -500_000, 4_000_000)
    with closing(Meter(device, meter_command(str(tmp_path)))) as meter:
        assert meter.source == "battery"
        assert meter.wait().watts == pytest.approx(2.0)
        (folder / "status").write_text("Not charging\n")
        with pytest.raises(MeterError, match="the battery's status is 'Not'"):
            meter.wait()


def test_a_phone_without_a_thermal_service(
    device: LocalDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "dumpsys"
    program.parent.mkdir()
    text = "Current Battery Service state:\\n  status: 3\\n  voltage: 4000\\n  Current now: -500\\n  level: 80"
    program.write_text(f"#!/bin/sh\nprintf '{text}\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with closing(Meter(device, meter_command(str(tmp_path)))) as meter:
        assert meter.source == "battery"
        assert average([meter.wait()] * 2 + [meter.wait()]).watts == pytest.approx(2.0)


def test_a_meter_that_ends_is_noticed_and_one_that_is_closed_leaves_nothing(
    device: LocalDevice, tmp_path: Path
) -> None:
    zone(tmp_path, "0", "package-0", 5)
    meter = Meter(device, meter_command(str(tmp_path)))
    meter.wait()
    meter.close()
    here = [path for path in Path("/proc").glob("[0-9]*/cmdline") if METER_NAME.encode() in _content(path)]
    assert here == []
    ended = Meter(device, ["sh", "-c", "echo source rapl; echo 1 uj 1/0"])
    assert ended.wait().counters == ((1, 0),)
    with pytest.raises(MeterError, match=r"^no reading of the meter: "):
        ended.wait()
    with pytest.raises(MeterError, match=r"^the meter printed 'hello', which is not a source$"):
        Meter(device, ["sh", "-c", "echo hello"])
    with pytest.raises(MeterError, match=r"^no reading of the meter: "):
        Meter(device, ["false"])


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_the_fake_meter_wraps_and_distinguishes_load_from_rest() -> None:
    device = FakeDevice(watts=lambda model: 20.0 if model is None else 50.0)
    with closing(Meter(device, meter_command())) as meter:
        rest = [meter.wait() for _ in range(31)]
        assert average(rest).watts == pytest.approx(20)
        device.advance(30.0, b"model")
        assert average(meter.drain()).watts == pytest.approx(50)
        assert meter.drain() == []
        assert {limit for r in rest for _, limit in r.counters} == {1_000_000_000}
        device.advance(5.0, b"model")
        values = [value for r in meter.drain() for value, _ in r.counters]
        device.advance(20.0)
    assert device.clock() > 80
    assert max(values) < 1_000_000_000


def _meter_of_a_pushed_battery(device, tmp_path: Path) -> None:
    folder = battery(tmp_path / "here", "Discharging", 500, 4_000_000)  # milliamperes, as some drivers tell
    for file in folder.iterdir():
        device.push(file, f"sys/power_supply/battery/{file.name}")
    with closing(Meter(device, meter_command(f"{device.work_dir}/sys"))) as meter:
        assert meter.source == "battery"
        readings = [meter.wait() for _ in range(3)]
        assert average(readings).watts == pytest.approx(2.0)
        assert meter.drain() == []
    with pytest.raises(MeterError):
        Meter(device, meter_command(f"{device.work_dir}/none"))


def test_the_meter_of_a_host_behind_ssh(sshd, tmp_path: Path) -> None:
    from devices.remote_options import RemoteOptions
    from devices.ssh import SshDevice
    from devices.ssh_config import resolve

    with SshDevice(resolve("box"), RemoteOptions(parent_dir=str(tmp_path))) as device:
        _meter_of_a_pushed_battery(device, tmp_path)


@pytest.mark.android
def test_the_meter_of_a_phone(phones, tmp_path: Path) -> None:
    from devices.adb import AdbDevice

    with AdbDevice(phones.serial(1)) as device:
        _meter_of_a_pushed_battery(device, tmp_path)
        phones.set(1, "battery", "  status: 3\n  voltage: 4000\n  current now: -250\n")
        with closing(Meter(device, meter_command(f"{device.work_dir}/none"))) as meter:
            assert average([meter.wait() for _ in range(3)]).watts == pytest.approx(1.0)
        phones.set(1, "battery", "  status: 2\n  voltage: 4000\n  current now: 250\n")
        with (
            closing(Meter(device, meter_command(f"{device.work_dir}/none"))) as meter,
            pytest.raises(MeterError, match="Wi-Fi"),
        ):
            meter.wait()
