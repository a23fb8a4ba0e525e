"""Find the runtime library of the C agent for a system: the user's, this machine's, or one that is downloaded once.

`runtimes.toml` lists the official libraries with their checksums. A library that the user gives may lie in an archive
(.aar, .apk, .zip, .whl). Its name in tables is that of the list if it has the same content, else a part of its
checksum.

The GPU accelerator is a library that libLiteRt.so opens from its own folder. It fits only the libLiteRt.so of its own
release, so it is taken from the same folder, archive or wheel, or downloaded for the official library of the list.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib import metadata, resources, util
from pathlib import Path, PurePosixPath

from devices.session_folder import SessionFolder
from ofa_core.atomic import write_bytes
from ofa_core.download import Download, fetch, holds
from ofa_core.errors import FormatError, OfaError
from ofa_core.schema import PositiveCount, structured
from ofa_core.text_files import ANOTHER_COPY
from ofa_core.toml_tables import read_toml
from profiler.native.build import cache_folder
from profiler.native.system import ABIS, System, check_library, this_system

__all__ = [
    "LIBRARY",
    "KnownAccelerator",
    "KnownRuntime",
    "Runtime",
    "accelerators_of",
    "find_runtime",
    "known_runtimes",
    "library_in",
    "runtime_for",
]

_LOG = logging.getLogger(__name__)
LIBRARY = "libLiteRt.so"
_ACCELERATOR = re.compile(r"libLiteRt[A-Za-z]*Accelerator\.so")  # ClGl on Android, WebGpu on Linux
_LIST = "OFA_LITERT_RUNTIMES"
_MAX_BYTES = 1 << 29
_PIP_S = 600.0


@dataclass(frozen=True, slots=True)
class KnownAccelerator:
    """The GPU accelerator of a row of `runtimes.toml`.

    Attributes:
        file: its name.
        sha256: its checksum.
        max_bytes: more than its size, which is not known.
        addresses: where it can be downloaded.
    """

    file: str
    sha256: str
    max_bytes: PositiveCount
    addresses: tuple[str, ...]

    def download(self) -> Download:
        """Return the file to download."""
        return Download(self.addresses, self.sha256, max_bytes=self.max_bytes)


@dataclass(frozen=True, slots=True)
class KnownRuntime:
    """A row of `runtimes.toml`.

    Attributes:
        name: name and version for tables.
        sha256: checksum of the library.
        n_bytes: its size.
        addresses: where it can be downloaded.
        wheel: else the pip requirement of a package that contains it.
        platform: pip's name of the platform of that package.
        accelerator: for a GPU.
    """

    name: str
    sha256: str
    n_bytes: PositiveCount
    addresses: tuple[str, ...] = ()
    wheel: str = ""
    platform: str = ""
    accelerator: KnownAccelerator | None = None

    def download(self) -> Download:
        """Return the file to download."""
        return Download(self.addresses, self.sha256, self.n_bytes)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime library.

    Attributes:
        path: of the library.
        name: name and version for tables.
        n_bytes: its size.
        known: row of the list by which it is downloaded to `path`; None for a library of this machine.
    """

    path: Path
    name: str
    n_bytes: int
    known: KnownRuntime | None = None


def runtime_for(system: System, given: Path | None = None) -> Runtime:
    """Return a runtime library for a system, downloaded if need be.

    Raises:
        OfaError: there is none, or it cannot be downloaded; the message says what to do.
        FormatError: it does not fit the system.
    """
    runtime = find_runtime(system, given)
    if runtime.known is not None:
        file = runtime.known.download()
        if runtime.known.wheel and not holds(runtime.path, file):
            write_bytes(runtime.path, _from_wheel(runtime.known, system, runtime.path))
        fetch(file, runtime.path)
        check_library(runtime.path, system)
    return runtime


def find_runtime(system: System, given: Path | None = None) -> Runtime:
    """Return a runtime library for a system, without downloading it.

    Args:
        system: of the device.
        given: library or archive that the user names.

    Raises:
        OfaError: there is none; the message says what to do.
        FormatError: the given file does not fit the system.
    """
    if given is not None:
        path = library_in(given, system) if _is_archive(given) else given
        check_library(path, system)
        return Runtime(path, _name(path), path.stat().st_size)
    if system == this_system() and (installed := _installed()) is not None:
        return installed
    known = known_runtimes().get(str(system))
    if known is None:
        install = "install ofa-latency[tflite], or " if system == this_system() else ""
        raise OfaError(f"no {LIBRARY} is known for {system.title}: {install}pass one with --litert-library")
    return Runtime(cache_folder() / str(system) / LIBRARY, known.name, known.n_bytes, known)


def known_runtimes() -> dict[str, KnownRuntime]:
    """Return the list of official libraries, or that of `$OFA_LITERT_RUNTIMES`, by system.

    Raises:
        FormatError: the file of the user has wrong fields.
    """
    path = Path(os.environ.get(_LIST) or str(resources.files("profiler.native").joinpath("runtimes.toml")))
    return structured(read_toml(path), dict[str, KnownRuntime], str(path))


def accelerators_of(runtime: Runtime, system: System, *, download: bool = True) -> list[Path]:
    """Return the GPU accelerators of a runtime library: those in its folder, or that of the list.

    Args:
        runtime: the library.
        system: of the device.
        download: False returns none where one would be downloaded.

    Raises:
        OfaError: there is none, or it cannot be downloaded; the message says what to do.
        FormatError: one does not fit the system.
    """
    folder = runtime.path.parent
    found = [path for path in sorted(folder.glob("libLiteRt*")) if _ACCELERATOR.fullmatch(path.name)]
    listed = runtime.known or _row_of(runtime.path, system)
    if listed is not None and listed.accelerator is not None and (runtime.known is not None or not found):
        path, file = cache_folder() / str(system) / _accelerator_name(listed.accelerator), listed.accelerator.download()
        if not download and not holds(path, file):
            return []
        found = [fetch(file, path)]
    if not found and not download and listed is not None and listed.wheel and not runtime.path.exists():
        return []
    if not found:
        official = "litert-VERSION.aar (com.google.ai.edge.litert:litert)"
        archive = official if system.kind == "android" else "a wheel of ai-edge-litert"
        raise OfaError(
            f"no GPU accelerator (libLiteRt...Accelerator.so) lies beside {runtime.path}: pass an archive that has "
            f"both for {system.title} with --litert-library: {archive}"
        )
    for path in found:
        check_library(path, system)
    return found


def library_in(archive: Path, system: System) -> Path:
    """Return the library for a system in an archive, extracted into the cache with the accelerators beside it.

    Raises:
        FormatError: the archive cannot be read, or holds no such library; the message lists those that it has.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entry = _choose(opened.infolist(), archive, system)
            beside = [
                other
                for other in opened.infolist()
                if PurePosixPath(other.filename).parent == PurePosixPath(entry.filename).parent
                and _ACCELERATOR.fullmatch(PurePosixPath(other.filename).name)
            ]
            for file in (entry, *beside):
                if file.file_size > _MAX_BYTES:
                    raise FormatError(f"{archive}: {file.filename} has {file.file_size} bytes; a library is smaller")
            contents = {PurePosixPath(file.filename).name: opened.read(file) for file in (entry, *beside)}
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise FormatError(f"{archive}: the archive cannot be read: {error}; {ANOTHER_COPY}") from error
    folder = cache_folder() / "extracted" / hashlib.sha256(contents[LIBRARY]).hexdigest()[:24]
    for name, content in contents.items():
        if not (folder / name).exists() or (folder / name).read_bytes() != content:
            write_bytes(folder / name, content)
    return folder / LIBRARY


def _choose(entries: list[zipfile.ZipInfo], archive: Path, system: System) -> zipfile.ZipInfo:
    """Return the entry whose folder names the system's instruction set, or the only one if no folder names any."""
    found = {entry.filename: entry for entry in entries if PurePosixPath(entry.filename).name == LIBRARY}
    named = {name: _machine_of(name) for name in found}
    fitting = [found[name] for name, machine in named.items() if machine == system.machine]
    if len(fitting) == 1:
        return fitting[0]
    if len(found) == 1 and set(named.values()) == {None}:
        return next(iter(found.values()))
    has = f"it has {', '.join(sorted(found))}" if found else "it has none"
    raise FormatError(f"{archive}: one {LIBRARY} for {system.title} is needed; {has}"[:400])


def _machine_of(name: str) -> str | None:
    """Return the instruction set that a folder in an archive names, such as `jni/arm64-v8a` or `android_arm64`."""
    for folder in PurePosixPath(name).parts[:-1]:
        word = re.sub(r"^(android|linux)[_-]", "", folder)
        if (machine := {**ABIS, "arm64": "arm64", "arm32": "arm", "arm": "arm"}.get(word)) is not None:
            return machine
    return None


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(2) == b"PK"
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error


def _name(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    names = [known.name for known in known_runtimes().values() if known.sha256 == digest]
    return names[0] if names else f"{LIBRARY} {digest[:12]}"


def _row_of(path: Path, system: System) -> KnownRuntime | None:
    """Return the system's row of the list if a library has its content."""
    row = known_runtimes().get(str(system))
    return row if row is not None and holds(path, row.download()) else None


def _accelerator_name(accelerator: KnownAccelerator) -> str:
    if not _ACCELERATOR.fullmatch(accelerator.file):
        raise FormatError(
            f"accelerator {accelerator.file[:80]!r}: a name such as libLiteRtClGlAccelerator.so is expected"
        )
    return accelerator.file


def _installed() -> Runtime | None:
    """Return the library of the ai-edge-litert package in this environment."""
    spec = util.find_spec("ai_edge_litert")
    if spec is None or spec.origin is None or not (path := Path(spec.origin).with_name(LIBRARY)).exists():
        return None
    return Runtime(path, f"ai-edge-litert {metadata.version('ai-edge-litert')}", path.stat().st_size)


def _from_wheel(known: KnownRuntime, system: System, dest: Path) -> bytes:
    """Let pip download a package for the device's platform, and return the library in it."""
    remedy = f"pass a wheel with --litert-library, or save the library as {dest} (SHA-256 {known.sha256})"
    _LOG.info("downloading %s for %s with pip", known.wheel, known.platform)
    with SessionFolder("wheel") as folder:
        command = [
            *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"),
            *("--only-binary=:all:", "--platform", known.platform, "--python-version", "3.11"),
            *("--dest", str(folder), known.wheel),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_S)
        except subprocess.TimeoutExpired as error:
            raise OfaError(f"pip did not download {known.wheel} within {_PIP_S:.0f} s: {remedy}") from error
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines() or ["?"]
            raise OfaError(f"pip cannot download {known.wheel} ({lines[-1].strip()[:200]}): {remedy}")
        [wheel] = folder.glob("*.whl")
        extracted = library_in(wheel, system)
        content = extracted.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != known.sha256:
        raise OfaError(f"{LIBRARY} in {known.wheel} has the SHA-256 checksum {digest}, not {known.sha256}: {remedy}")
    for accelerator in extracted.parent.glob("*Accelerator.so"):
        write_bytes(dest.with_name(accelerator.name), accelerator.read_bytes())
    return content
