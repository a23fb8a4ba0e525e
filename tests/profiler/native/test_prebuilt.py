"""The agents that the package ships: what they are, that the script makes the same bytes, and that they start."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from android_system import CACHE, make_system

from profiler.native.build import source_path
from profiler.native.elf import read_elf

ROOT = Path(__file__).parents[3]
PREBUILT = source_path().parent / "prebuilt"
MANIFEST = json.loads((PREBUILT / "manifest.json").read_text())


@pytest.mark.parametrize("name", MANIFEST)
def test_the_manifest_is_true(name: str) -> None:
    content = (PREBUILT / name).read_bytes()
    assert len(content) == MANIFEST[name]["bytes"]
    assert hashlib.sha256(content).hexdigest() == MANIFEST[name]["sha256"]


@pytest.mark.parametrize(
    ("name", "bits", "machine", "interpreter", "needed"),
    [
        ("android-arm64", 64, "aarch64", "/system/bin/linker64", ("libc.so", "libdl.so")),
        ("android-arm", 32, "arm", "/system/bin/linker", ("libc.so", "libdl.so")),
        ("linux-arm64", 64, "aarch64", "/lib/ld-linux-aarch64.so.1", ("libc.so.6", "libdl.so.2")),
        ("linux-arm", 32, "arm", "/lib/ld-linux-armhf.so.3", ("libc.so.6", "libdl.so.2")),
    ],
)
def test_what_they_need(name: str, bits: int, machine: str, interpreter: str, needed: tuple[str, ...]) -> None:
    elf = read_elf(PREBUILT / name)
    assert (elf.bits, elf.machine, elf.interpreter, elf.needed) == (bits, machine, interpreter, needed)
    assert elf.page_bytes == 16384
    assert ("Android" in elf.notes) == name.startswith("android")


@pytest.mark.parametrize("name", ["android-arm64", "android-arm"])
def test_android_agents_take_only_old_symbols_and_copy_none(name: str) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("readelf (binutils) is not installed")
    symbols = subprocess.run(
        ["readelf", "-W", "--dyn-syms", str(PREBUILT / name)], capture_output=True, text=True, check=True
    ).stdout
    wanted = {line.split()[-1] for line in symbols.splitlines() if " UND " in line and len(line.split()) == 8}
    # All of these are in Android 6 (API level 23): bionic's libc.map.txt and libdl.map.txt give each one's first level.
    known = {
        "__errno", "__libc_init", "abort", "access", "calloc", "clock_gettime", "dlerror", "dlopen", "dlsym", "dup",
        "dup2", "fclose", "fdopen", "fflush", "fgets", "fopen", "fprintf", "fputc", "fputs", "free", "fwrite",
        "getline", "getpid", "getrusage", "malloc", "memcmp", "memcpy", "memset", "raise", "realloc",
        "sched_getaffinity", "sched_setaffinity", "snprintf", "stderr", "stdin", "strcmp", "strerror",
        "strlen", "strncmp", "strtoll", "sysconf", "uname", "vsnprintf",
    }  # fmt: skip
    assert "dlopen" in wanted
    assert wanted <= known
    relocations = subprocess.run(["readelf", "-rW", str(PREBUILT / name)], capture_output=True, text=True, check=True)
    assert "_COPY" not in relocations.stdout


def test_the_script_makes_the_same_bytes(tmp_path: Path) -> None:
    for entry in MANIFEST.values():
        compiler = entry["compiler"].split()[0]
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
        told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
        if told.splitlines()[0] != entry["compiler"]:
            pytest.skip(f"{compiler} is {told.splitlines()[0]}; the programs were made by {entry['compiler']}")
    subprocess.run([str(ROOT / "tools" / "build_agents.sh"), str(tmp_path)], check=True, capture_output=True)
    for name in [*MANIFEST, "manifest.json"]:
        assert (tmp_path / name).read_bytes() == (PREBUILT / name).read_bytes(), name


@pytest.fixture(scope="module")
def android_system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_system(tmp_path_factory.mktemp("android")).parent


@pytest.mark.parametrize("name", ["android-arm64", "linux-arm64"])
def test_an_agent_starts_and_answers(android_system: Path, name: str) -> None:
    cache = CACHE / "aarch64"
    folders = [
        android_system / "system" / "lib64",
        cache / "lib/aarch64-linux-gnu",
        cache / "usr/lib/aarch64-linux-gnu",
    ]
    prefix = android_system if name == "android-arm64" else cache
    done = subprocess.run(
        ["qemu-aarch64-static", "-L", str(prefix), "-E", f"LD_LIBRARY_PATH={':'.join(map(str, folders))}",
         str(PREBUILT / name), "--backend", "tflite", "--lib", str(cache / "libLiteRt.so"), "--runtime", "LiteRT 2"],
        input='{"id":1,"op":"hello"}\n{"id":2,"op":"load","model":"nothing.tflite"}\n{"id":3,"op":"quit"}\n',
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    hello, load, bye = (json.loads(line) for line in done.stdout.splitlines())
    assert (hello["ok"], hello["machine"], hello["versions"]) == (True, "aarch64", {"tflite": "LiteRT 2"})
    assert hello["n_cores"] == os.cpu_count()
    assert load["error"] == {"type": "FileNotFoundError", "message": "nothing.tflite: No such file or directory"}
    assert bye["ok"]


def test_the_32_bit_agent_starts_and_loads_a_library(tmp_path: Path) -> None:
    """No LiteRT for 32-bit ARM could be had: the agent finds that an empty library is none."""
    compiler, arm, headers = (
        "arm-linux-gnueabi-gcc",
        Path("/usr/arm-linux-gnueabi/lib"),
        "/usr/arm-linux-gnueabihf/include",
    )
    for missing in [name for name in (compiler, "qemu-arm-static") if shutil.which(name) is None]:
        pytest.skip(f"{missing} is not installed (tools/install_test_devices.sh)")
    libraries = tmp_path / "system" / "lib"
    libraries.mkdir(parents=True)
    (tmp_path / "system" / "bin").mkdir()
    shutil.copy(arm / "ld-linux.so.3", tmp_path / "system" / "bin" / "linker")
    shutil.copy(arm / "libc.so.6", libraries)
    shared = [compiler, "-shared", "-fPIC", "-nostdlib", "-w"]
    bionic = [str(Path(__file__).with_name("bionic_over_glibc.c")), "-isystem", headers, "-D__ARM_PCS_VFP"]
    libc = ["-Wl,-soname,libc.so", "-o", str(libraries / "libc.so"), str(libraries / "libc.so.6"), "-lgcc"]
    subprocess.run([*shared, *bionic, *libc], check=True)
    for name in ("libdl.so", "empty.so"):
        subprocess.run([*shared, f"-Wl,-soname,{name}", "-o", str(libraries / name), "-xc", "/dev/null"], check=True)
    done = subprocess.run(
        ["qemu-arm-static", "-L", str(tmp_path), "-E", f"LD_LIBRARY_PATH={libraries}", str(PREBUILT / "android-arm"),
         "--backend", "tflite", "--lib", str(libraries / "empty.so")],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr == (
        f"cannot use the runtime (it has no function LiteRtCreateEnvironment): {libraries}/empty.so\n"
    )


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        ("empty.so", "it has no function LiteRtCreateEnvironment"),
        ("needs.so", "undefined symbol: PyExc_ImportError"),
        ("64.so", "wrong ELF class: ELFCLASS64"),
        ("absent.so", "cannot open shared object file: No such file or directory"),
    ],
)
def test_the_32_bit_agent_for_boards_names_what_is_wrong_with_a_library(
    tmp_path: Path, library: str, reason: str
) -> None:
    """With the C library of Debian's armhf: all symbols of the agent are bound when it starts."""
    compilers = {"empty.so": "arm-linux-gnueabihf-gcc", "64.so": "aarch64-linux-gnu-gcc"}
    for program in ("qemu-arm-static", *compilers.values()):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (tools/install_test_devices.sh)")
    # A Python module, as in a wheel of tflite-runtime for armv7l, needs symbols of its interpreter.
    source = "extern int PyExc_ImportError; int *x = &PyExc_ImportError;" if library == "needs.so" else ""
    if library != "absent.so":
        compiler = compilers.get(library, "arm-linux-gnueabihf-gcc")
        shared = [compiler, "-shared", "-fPIC", "-nostdlib", "-o", str(tmp_path / library), "-xc", "-"]
        subprocess.run(shared, input=source, text=True, check=True)
    done = subprocess.run(
        ["qemu-arm-static", "-L", "/usr/arm-linux-gnueabihf", str(PREBUILT / "linux-arm"), "--backend", "tflite",
         "--lib", str(tmp_path / library)],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr == f"cannot use the runtime ({reason}): {tmp_path / library}\n"
