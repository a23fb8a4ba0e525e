"""Build the C agent and find its runtime library.

The agent opens `libLiteRt.so` at run time, so a C compiler is enough: this machine's own, Debian's cross compiler
(`apt install gcc-aarch64-linux-gnu`) for Pi, Jetson and other Linux boards, or an NDK for Android:

    $NDK/toolchains/llvm/prebuilt/linux-x86_64/bin/aarch64-linux-android29-clang -O2 -o ofa-agent agent.c

Pass the result with `--agent-binary`, and the arm64-v8a `libLiteRt.so` of Google's archive
`com.google.ai.edge.litert:litert` with `--litert-library`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, resources, util
from pathlib import Path

from devices.device import Device
from ofa_core.errors import OfaError

__all__ = ["COMPILERS", "NativeProgram", "agent_for", "build_agent", "cache_folder", "library_for", "source_path"]

COMPILERS = {"x86_64": "x86_64-linux-gnu-gcc", "aarch64": "aarch64-linux-gnu-gcc"}
"""Cross compiler by the machine that it builds for."""

_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
_SECONDS = 120


def source_path() -> Path:
    """Return the path of `agent.c`."""
    return Path(str(resources.files("profiler.native").joinpath("agent.c")))


def cache_folder() -> Path:
    """Return the folder of built agents and downloaded programs: `$XDG_CACHE_HOME/ofa-latency/native`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "ofa-latency", "native")


def build_agent(machine: str, dest: Path, compiler: str | None = None) -> Path:
    """Compile the agent.

    Args:
        machine: instruction set as `uname -m` names it.
        dest: file of the program.
        compiler: by default `cc` for this machine, else one of `COMPILERS`.

    Returns:
        `dest`.

    Raises:
        OfaError: there is no compiler for the machine, or it fails.
    """
    program = compiler or ("cc" if machine == platform.machine() else COMPILERS.get(machine))
    if program is None or shutil.which(program) is None:
        raise OfaError(
            f"no C compiler for {machine} ({program or 'none known'}): on Debian `apt install gcc` or "
            f"`gcc-{machine.replace('_', '-')}-linux-gnu`, or pass a built agent with --agent-binary"
        )
    dest.parent.mkdir(parents=True, exist_ok=True)
    temporary = dest.with_name(f".{dest.name}.{os.getpid()}")
    done = subprocess.run(
        [program, *_FLAGS, "-o", str(temporary), str(source_path()), "-ldl"],
        capture_output=True, text=True, timeout=_SECONDS,
    )  # fmt: skip
    if done.returncode != 0:
        temporary.unlink(missing_ok=True)
        raise OfaError(f"{program} cannot build the agent: {(done.stderr.strip().splitlines() or ['?'])[0]}")
    temporary.replace(dest)
    return dest


def agent_for(machine: str) -> Path:
    """Return the agent for a machine; it is built once per version of its source."""
    sources = sorted(source_path().parent.glob("*.[ch]"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    path = cache_folder() / machine / f"ofa-agent-{digest}"
    return path if path.exists() else build_agent(machine, path)


def library_for(machine: str) -> tuple[Path, str]:
    """Return the LiteRT runtime for a machine: that of the installed ai-edge-litert, or one in the cache.

    Returns:
        The library, and its name and version for tables.

    Raises:
        OfaError: there is no library; the message says where to get one.
    """
    spec = util.find_spec("ai_edge_litert")
    if machine == platform.machine() and spec is not None and spec.origin is not None:
        path = Path(spec.origin).with_name("libLiteRt.so")
        if path.exists():
            return path, f"ai-edge-litert {metadata.version('ai-edge-litert')}"
    path = cache_folder() / machine / "libLiteRt.so"
    if path.exists():
        return path, describe_library(path)
    raise OfaError(
        f"no libLiteRt.so for {machine}: take it from the ai-edge-litert wheel for that machine or, for Android, from "
        "com.google.ai.edge.litert:litert, and pass it with --litert-library"
    )


def describe_library(path: Path) -> str:
    """Return the name of a library of unknown version for tables: a digest of its content."""
    try:
        return f"libLiteRt.so {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    except OSError as error:
        raise OfaError(f"{path}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class NativeProgram:
    """Puts the C agent and its runtime on a device; see `profiler.agent_runner.AgentRunner`.

    Attributes:
        agent: the program; None builds it for the device's machine.
        library: its runtime; None takes the result of `library_for`.
        prefix: command that starts the program, such as an emulator.
        backend: label of the backend: `tflite` or `tflite-fp16`.
    """

    agent: Path | None = None
    library: Path | None = None
    prefix: Sequence[str] = ()
    backend: str = "tflite"

    def __call__(self, device: Device) -> list[str]:
        """Push both files and return the command line.

        Raises:
            OfaError: there is no compiler or no runtime for the device.
            DeviceError: a file cannot be pushed.
        """
        machine = ""
        if self.agent is None or self.library is None:
            machine = device.facts().arch or ""
        agent = self.agent if self.agent is not None else agent_for(machine)
        if self.library is not None:
            library, runtime = self.library, describe_library(self.library)
        else:
            library, runtime = library_for(machine)
        device.push(agent, "native/ofa-agent")
        device.push(library, "native/libLiteRt.so")
        folder = f"{device.work_dir}/native"
        script = 'test -x "$1" || chmod 700 "$1"'  # on this machine the file is a link to the cache
        made = device.run(["sh", "-c", script, "sh", f"{folder}/ofa-agent"], timeout_s=30)
        if made.rc != 0:
            raise OfaError(f"{device.name}: cannot make the agent executable: {made.stderr.decode('utf-8', 'replace')}")
        command = [f"{folder}/ofa-agent", "--backend", self.backend, "--lib", f"{folder}/libLiteRt.so"]
        return [*self.prefix, *command, "--runtime", f"{runtime} (C API)"]
