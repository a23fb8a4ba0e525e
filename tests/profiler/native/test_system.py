"""The system of a device, and files that are built for another one."""

from __future__ import annotations

from pathlib import Path

import pytest
from elf_files import ANDROID, GLIBC, write_elf

from devices.facts import DeviceFacts
from ofa_core.errors import FormatError, OfaError
from profiler.native.build import prebuilt_folder
from profiler.native.system import System, check_library, check_program, system_of, this_system

PHONE = System("android", "arm64")
BOARD = System("linux", "arm64")


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (DeviceFacts("p", arch="aarch64", abi="arm64-v8a"), "android-arm64"),
        (DeviceFacts("p", arch="aarch64", abi="armeabi-v7a"), "android-arm"),  # a 32-bit system on a 64-bit kernel
        (DeviceFacts("p", arch="x86_64", abi="x86_64"), "android-x86_64"),
        (DeviceFacts("p", arch="riscv64", abi="riscv64"), "android-riscv64"),
        (DeviceFacts("b", arch="aarch64"), "linux-arm64"),
        (DeviceFacts("b", arch="armv7l"), "linux-arm"),
        (DeviceFacts("b", arch="armv8l"), "linux-arm"),
        (DeviceFacts("b", arch="armv6l"), "linux-armv6l"),  # the shipped program needs ARMv7
        (DeviceFacts("b", arch="riscv64"), "linux-riscv64"),
    ],
)
def test_the_system_of_a_device(facts: DeviceFacts, name: str) -> None:
    assert str(system_of(facts)) == name


def test_a_device_without_an_instruction_set_is_refused() -> None:
    with pytest.raises(OfaError, match=r"box reports no instruction set \(uname -m\): pass --agent-binary and"):
        system_of(DeviceFacts("box"))


def test_every_shipped_agent_fits_its_own_system_only() -> None:
    systems = [System("android", "arm64"), System("android", "arm"), System("linux", "arm64"), System("linux", "arm")]
    for shipped in systems:
        for system in systems:
            if shipped == system:
                check_program(prebuilt_folder() / str(shipped), system)
            else:
                with pytest.raises(FormatError) as error:
                    check_program(prebuilt_folder() / str(shipped), system)
                assert f" is built for {shipped.title}, loader " in str(error.value)
                assert str(error.value).endswith(f"; a program for {system.title} is needed")


@pytest.mark.parametrize(
    ("machine", "needed", "interpreter", "message"),
    [
        (
            "arm64",
            GLIBC,
            "/lib/ld-linux-aarch64.so.1",
            r"Linux on arm64 \(64-bit\), loader /lib/ld-linux-aarch64\.so\.1; ",
        ),
        (
            "arm",
            ANDROID,
            "/system/bin/linker",
            r"built for Android on arm \(32-bit\), loader /system/bin/linker; a prog",
        ),
        (
            "x86_64",
            ANDROID,
            "/system/bin/linker64",
            r"built for Android on x86_64 \(64-bit\).*Android on arm64 \(64-bit\)",
        ),
        ("arm64", ANDROID, "", "is a shared library; a program for Android on arm64"),
    ],
)
def test_programs_that_do_not_start_on_a_phone(
    tmp_path: Path, machine: str, needed: tuple[str, ...], interpreter: str, message: str
) -> None:
    with pytest.raises(FormatError, match=message) as error:
        check_program(write_elf(tmp_path / "ofa-agent", machine, needed, interpreter), PHONE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("system", "machine", "needed", "interpreter", "message"),
    [
        (
            PHONE,
            "arm64",
            GLIBC,
            "",
            r"built for Linux on arm64 \(64-bit\), needs libm\.so\.6, libc\.so\.6, ld-linux-aarch64",
        ),
        (
            PHONE,
            "arm",
            ANDROID,
            "",
            r"built for Android on arm \(32-bit\); libLiteRt\.so for Android on arm64 \(64-bit\)",
        ),
        (PHONE, "x86_64", GLIBC, "", r"built for Linux on x86_64 \(64-bit\); libLiteRt\.so for Android on arm64"),
        (PHONE, "arm64", ANDROID, "/system/bin/linker64", "is a program; libLiteRt.so for Android on arm64"),
        (BOARD, "arm64", ANDROID, "", r"built for Android on arm64 \(64-bit\), needs libc\.so, .*for Linux on arm64"),
    ],
)
def test_libraries_that_cannot_be_loaded(
    tmp_path: Path, system: System, machine: str, needed: tuple[str, ...], interpreter: str, message: str
) -> None:
    with pytest.raises(FormatError, match=message) as error:
        check_library(write_elf(tmp_path / "libLiteRt.so", machine, needed, interpreter), system)
    assert "\n" not in str(error.value)


def test_fitting_files(tmp_path: Path) -> None:
    check_library(write_elf(tmp_path / "a.so", "arm64", ANDROID), PHONE)
    check_library(write_elf(tmp_path / "b.so", "arm64", GLIBC), BOARD)
    check_library(write_elf(tmp_path / "c.so", "arm", ANDROID), System("android", "arm"))
    check_program(write_elf(tmp_path / "d", "arm64", ANDROID, "/system/bin/linker64"), PHONE)
    check_program(write_elf(tmp_path / "e", "arm64", ()), PHONE)  # static
    assert this_system().kind == "linux"
