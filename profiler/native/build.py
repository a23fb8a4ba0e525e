"""Find the C agent for a system: shipped with the package, or built here for this machine.

The agents for phones and boards were built by `tools/build_agents.sh`; `prebuilt/manifest.json` has their checksums.
The agent opens `libLiteRt.so` at run time, so building one takes only a C compiler.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path

from ofa_core import download
from ofa_core.errors import OfaError
from profiler.native.system import System, check_program, this_system

__all__ = ["agent_for", "build_agent", "cache_folder", "prebuilt_folder", "source_path"]

_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
_SECONDS = 120


def source_path() -> Path:
    """Return the path of `agent.c`."""
    return Path(str(resources.files("profiler.native").joinpath("agent.c")))


def prebuilt_folder() -> Path:
    """Return the folder of the agents that are shipped."""
    return source_path().parent / "prebuilt"


def cache_folder() -> Path:
    """Return the folder of built agents and downloaded programs: `$XDG_CACHE_HOME/ofa-latency/native`."""
    return download.cache_folder() / "native"


def agent_for(system: System, given: Path | None = None) -> Path:
    """Return the agent for a system: the user's, the shipped one, or one that is built once per version of its source.

    Args:
        system: of the device.
        given: program that the user names.

    Raises:
        OfaError: there is none, and none can be built; or the shipped one was changed.
        FormatError: the given program does not fit the system.
    """
    if given is not None:
        check_program(given, system)
        return given
    if (path := prebuilt_folder() / str(system)).exists():
        return _checked(path)
    if system != this_system():
        names = ", ".join(sorted(_manifest()))
        raise OfaError(f"no agent is shipped for {system} (only for {names}): pass a built one with --agent-binary")
    sources = sorted(source_path().parent.glob("*.[ch]"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    path = cache_folder() / str(system) / f"ofa-agent-{digest}"
    return path if path.exists() else build_agent(path)


def build_agent(dest: Path, compiler: str = "cc") -> Path:
    """Compile the agent for this machine, or for that of another compiler.

    Args:
        dest: file of the program.
        compiler: C compiler.

    Returns:
        `dest`.

    Raises:
        OfaError: there is no such compiler, or it fails.
    """
    if shutil.which(compiler) is None:
        raise OfaError(
            f"no C compiler {compiler}: install it (Debian: apt install gcc), or pass a built agent with --agent-binary"
        )
    dest.parent.mkdir(parents=True, exist_ok=True)
    temporary = dest.with_name(f".{dest.name}.{os.getpid()}")
    done = subprocess.run(
        [compiler, *_FLAGS, "-o", str(temporary), str(source_path()), "-ldl"],
        capture_output=True, text=True, timeout=_SECONDS,
    )  # fmt: skip
    if done.returncode != 0:
        temporary.unlink(missing_ok=True)
        raise OfaError(f"{compiler} cannot build the agent: {(done.stderr.strip().splitlines() or ['?'])[0]}")
    temporary.replace(dest)
    return dest


def _checked(program: Path) -> Path:
    """Return a shipped program if it has the checksum of the manifest."""
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    wanted = _manifest().get(program.name, {}).get("sha256")
    if digest != wanted:
        raise OfaError(f"{program} has the SHA-256 checksum {digest}, not {wanted}: install the package again")
    return program


def _manifest() -> dict[str, dict[str, object]]:
    manifest: dict[str, dict[str, object]] = json.loads((prebuilt_folder() / "manifest.json").read_text("utf-8"))
    return manifest
