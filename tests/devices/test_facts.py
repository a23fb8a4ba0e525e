"""The parsers of what machines say of themselves; texts are of the kinds that real machines print."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.facts import (
    CONDITIONS_SCRIPT,
    FACTS_SCRIPT,
    Conditions,
    DeviceFacts,
    parse_conditions,
    parse_facts,
    quiet_report,
)
from devices.local import LocalDevice

PC = """@@ uname
Linux
6.1.0-18-amd64
x86_64
@@ cpuinfo
processor\t: 0
model name\t: AMD Ryzen 7 5800X 8-Core Processor
processor\t: 1
model name\t: AMD Ryzen 7 5800X 8-Core Processor
@@ devicetree

@@ max_freq
/sys/devices/system/cpu/cpu10/cpufreq/cpuinfo_max_freq:4850195
/sys/devices/system/cpu/cpu2/cpufreq/cpuinfo_max_freq:3800000
@@ meminfo
MemTotal:       32793004 kB
@@ release
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
@@ android
"""

PHONE = """@@ uname
Linux
4.14.190
aarch64
@@ cpuinfo
processor\t: 0
CPU part\t: 0xd05
Hardware\t: Qualcomm Technologies, Inc SM8150
@@ android
ro.product.manufacturer=Google
ro.product.model=Pixel 4
ro.soc.manufacturer=
ro.soc.model=
ro.board.platform=msmnile
ro.build.version.release=13
"""

PC_STATE = """@@ stat0
cpu  1000 0 500 8000 100 0 50 10 40 0
cpu0 500 0 250 4000 50 0 25 5 0 0
cpu1 500 0 250 4000 50 0 25 5 0 0
@@ stat1
cpu  1020 0 505 8060 105 0 55 15 60 0
cpu0 510 0 250 4030 50 0 25 5 0 0
cpu1 510 0 255 4030 55 0 30 10 0 0
@@ loadavg
0.72 0.50 0.40 2/345 6789
@@ meminfo
MemAvailable:   204800 kB
@@ governor
/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor:powersave
/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor:performance
@@ cur_freq
/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq:2200000
/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq:1400000
@@ boost
/sys/devices/system/cpu/intel_pstate/no_turbo:0
@@ throttle
/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count:3
/sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count:4
@@ thermal
/sys/class/thermal/thermal_zone0/type:x86_pkg_temp
/sys/class/thermal/thermal_zone1/type:acpitz
/sys/class/thermal/thermal_zone10/type:acpitz
/sys/class/thermal/thermal_zone0/temp:91000
/sys/class/thermal/thermal_zone1/temp:27800
/sys/class/thermal/thermal_zone10/temp:0
@@ power
/sys/class/power_supply/AC/type:Mains
/sys/class/power_supply/BAT0/type:Battery
/sys/class/power_supply/BAT0/capacity:17
/sys/class/power_supply/BAT0/status:Discharging
"""

PHONE_STATE = """@@ battery
Current Battery Service state:
  AC powered: false
  USB powered: true
  status: 2
  level: 84
  temperature: 326
@@ thermalservice
IsStatusOverride: false
Thermal Status: 2
Cached temperatures:
\tTemperature{mValue=99.9, mType=0, mName=OLD, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{mValue=31.5, mType=0, mName=AP, mStatus=0}
"""


def test_facts_of_a_pc() -> None:
    assert parse_facts(PC, "box") == DeviceFacts(
        name="box",
        model="AMD Ryzen 7 5800X 8-Core Processor",
        n_cores=2,
        max_freq_mhz=(3800.0, 4850.195),
        os="Debian GNU/Linux 12 (bookworm)",
        kernel="Linux 6.1.0-18-amd64",
        arch="x86_64",
        memory_bytes=32793004 * 1024,
    )


def test_facts_of_a_phone() -> None:
    facts = parse_facts(PHONE, "pixel4")
    assert facts.model == "Google Pixel 4 (msmnile)"
    assert facts.os == "Android 13"
    assert facts.max_freq_mhz is None


@pytest.mark.parametrize(
    ("section", "isa", "text"),
    [
        (
            "@@ isa\nflags\navx2\navx512bw\navx512_vnni\n",
            ("avx2", "avx512bw", "avx512_vnni"),
            "avx2 avx512bw avx512_vnni",
        ),
        ("@@ isa\nFeatures\nasimddp\ni8mm\nasimddp\n", ("asimddp", "i8mm"), "asimddp i8mm"),
        ("@@ isa\nFeatures\n", (), "none"),
        ("@@ isa\n", None, "unknown"),
        ("", None, "unknown"),
        ("@@ isa\nflags\n=cmd()\n", (), "none"),
    ],
)
def test_the_instructions_for_int8(section: str, isa: tuple[str, ...] | None, text: str) -> None:
    facts = parse_facts(section, "box")
    assert (facts.int8_isa, facts.int8_text) == (isa, text)


def test_facts_of_a_board_come_from_the_device_tree() -> None:
    text = "@@ cpuinfo\nprocessor : 0\nHardware : BCM2711\n@@ devicetree\nRaspberry Pi 4 Model B Rev 1.4\n"
    assert parse_facts(text, "pi").model == "Raspberry Pi 4 Model B Rev 1.4 (BCM2711)"


def test_conditions_of_a_pc() -> None:
    state = parse_conditions(PC_STATE)
    assert state.n_cores == 2
    assert state.governors == ("powersave", "performance")
    assert state.cur_freq_mhz == (1400.0, 2200.0)
    assert state.boost is True
    assert state.load_1min == 0.72
    # 100 ticks: 20 user, 5 system, 60 idle, 5 iowait, 5 softirq, 5 steal
    assert state.busy_cores == 0.3 * 2
    assert state.steal_share == 0.05
    assert state.temperatures_c == (("x86_pkg_temp", 91.0), ("acpitz", 27.8))
    assert (state.battery_percent, state.on_battery) == (17, True)
    assert state.throttle_count == 7
    assert state.throttled is None


def test_conditions_of_a_phone() -> None:
    state = parse_conditions(PHONE_STATE)
    assert (state.battery_percent, state.on_battery) == (84, False)
    assert state.thermal_status == 2
    assert state.throttled is True
    assert state.temperatures_c == (("thermalservice AP", 31.5),)


def test_advice_for_a_noisy_pc() -> None:
    advice = quiet_report(parse_conditions(PC_STATE))
    for word in (
        "powersave",
        "0.6 cores are busy",
        "hypervisor",
        "x86_pkg_temp is at 91 C",
        "17 %",
        "charger",
        "200 MiB",
    ):
        assert any(word in line for line in advice), word
    assert all("\n" not in line for line in advice)


def test_no_advice_for_a_quiet_machine_or_unknown_conditions() -> None:
    assert quiet_report(Conditions()) == []
    assert quiet_report(Conditions(n_cores=4, governors=("performance",) * 4, load_1min=0.1, busy_cores=0.0)) == []


@pytest.mark.parametrize("busy_cores", [None, 0.1])
def test_the_load_average_counts_where_use_is_low_or_cannot_be_read(busy_cores: float | None) -> None:
    advice = quiet_report(Conditions(n_cores=4, load_1min=3.0, busy_cores=busy_cores))
    assert advice == ["load average is 3.00 on 4 cores: wait, or stop other programs"]


@given(st.text())
def test_any_text_gives_facts_and_conditions(text: str) -> None:
    parse_facts(text, "x")
    quiet_report(parse_conditions(text))


@given(st.data())
def test_damaged_texts_give_facts_and_conditions(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([PC, PHONE, PC_STATE, PHONE_STATE]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 30)))
    damaged = text[:start] + data.draw(st.text(max_size=5)) + text[end:]
    parse_facts(damaged, "x")
    quiet_report(parse_conditions(damaged))


def test_the_scripts_run_on_this_machine(tmp_path: Path) -> None:
    with LocalDevice(tmp_path) as device:
        for script in (FACTS_SCRIPT, CONDITIONS_SCRIPT):
            done = device.run(["sh"], timeout_s=20, input=script.encode())
            assert (done.rc, done.stderr) == (0, b"")
        facts, state = device.facts(), device.conditions()
    assert facts.kernel == f"{os.uname().sysname} {os.uname().release}"
    assert facts.n_cores == state.n_cores == os.cpu_count()
    assert facts.memory_bytes
    assert state.load_1min is not None


@pytest.mark.parametrize(
    ("uname", "arch"),
    [
        ("Linux\n6.1\naarch64\n64", "aarch64"),
        ("Linux\n6.1\naarch64\n32", "armv8l"),  # a 32-bit system on a 64-bit kernel
        ("Linux\n6.1\narmv7l\n32", "armv7l"),
        ("Linux\n4.4\naarch64", "aarch64"),  # without getconf
        ("Linux", None),
    ],
)
def test_the_instruction_set_is_that_of_programs(uname: str, arch: str | None) -> None:
    assert parse_facts(f"@@ uname\n{uname}\n", "box").arch == arch


def test_the_abi_of_android() -> None:
    android = "@@ uname\nLinux\n4.4\naarch64\n@@ android\nro.product.cpu.abi="
    assert parse_facts(f"{android}armeabi-v7a\n", "phone").abi == "armeabi-v7a"
    assert parse_facts(f"{android}\n", "phone").abi is None
