"""`ofa-profile setup`: install the runtime that a backend needs on a device.

A host gets a private virtual environment below `~/.local/share/ofa-latency`; the GPU's compute capability selects the
build of a GPU runtime. Nothing is installed on a phone: the benchmark program is downloaded to this machine's cache and
its checksum verified.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from devices.device import Device
from devices.errors import DeviceError
from ofa_core.backend_names import split_number
from ofa_core.download import Download, fetch
from ofa_core.errors import OfaError
from profiler.backends import Choice, info
from profiler.native.build import cache_folder
from profiler.replies import checked_int, checked_word

__all__ = [
    "BENCHMARK_URL",
    "HostFacts",
    "Provision",
    "benchmark_address",
    "digest_advice",
    "fetch_benchmark_model",
    "host_facts",
    "install",
    "packages_for",
    "plan_host",
]

BENCHMARK_URL = "https://storage.googleapis.com/litert/binaries/{version}/{system}_{machine}/benchmark_model"
"""Address of the official program for each release of LiteRT, as litert-cli uses it.

The address was not reachable when this was written, so no checksum is known; the user must give one.
"""

LITERT_VERSION = "2.2.0"
_INSTALL_S = 1800.0
_OWN = "--benchmark-binary FILE"
_MACHINES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64"}

_PROBE = """
import json, platform, sys
print(json.dumps({"python": list(sys.version_info[:2]), "machine": platform.machine()}))
"""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Facts of a host that select the packages.

    Attributes:
        python: (major, minor) version of the interpreter.
        machine: instruction set.
        compute_capability: (major, minor) of the first NVIDIA GPU; None if there is none.
        gpu: name of that GPU.
    """

    python: tuple[int, int]
    machine: str
    compute_capability: tuple[int, int] | None = None
    gpu: str | None = None


@dataclass(frozen=True, slots=True)
class Provision:
    """Steps that install a backend on a host.

    Attributes:
        folder: folder of the virtual environment, below the host's home directory.
        packages: pip's arguments; empty if no package is needed.
        commands: shell commands, as a user would type them.
        python: the installed interpreter, for `--python` and devices.toml.
    """

    folder: str
    packages: tuple[str, ...]
    commands: tuple[str, ...]
    python: str


def host_facts(device: Device, python: str) -> HostFacts:
    """Read the facts of a host; nothing is changed.

    Raises:
        OfaError: there is no usable Python.
    """
    try:
        done = device.run([python, "-c", _PROBE], timeout_s=60)
        record = json.loads(done.stdout)
        major, minor = record["python"]
        version = (checked_int(major, "version", 0, 999), checked_int(minor, "version", 0, 999))
        machine = checked_word(record["machine"], "machine")
    except (DeviceError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise OfaError(f"{device.name}: {python} is not a usable Python ({error}): name one with --python") from error
    if version < (3, 8):
        raise OfaError(f"{device.name}: Python {version[0]}.{version[1]} is too old; 3.8 or newer is needed")
    query = ["nvidia-smi", "--query-gpu=compute_cap,name", "--format=csv,noheader"]
    try:
        lines = device.run(query, timeout_s=60).stdout.decode("utf-8", "replace").splitlines()
        capability, _, gpu = lines[0].partition(",")
        numbers = re.fullmatch(r"([0-9]{1,2})\.([0-9]{1,2})", capability.strip())
        if not numbers:
            return HostFacts(version, machine)
        return HostFacts(version, machine, (int(numbers[1]), int(numbers[2])), checked_word(gpu.strip(), "GPU"))
    except (DeviceError, ValueError, IndexError):
        return HostFacts(version, machine)


def packages_for(choice: Choice, facts: HostFacts, index_url: str | None = None) -> tuple[str, ...]:
    """Return pip's arguments for a backend.

    Args:
        choice: the backend with its delegate.
        facts: of the host.
        index_url: index with the wheels for one CUDA version.

    Raises:
        OfaError: no package fits; the message gives the reason and the remedy.
    """
    row = info(choice)
    if row.packages is None:
        raise OfaError(f"backend {choice.backend} is not installed by pip")
    packages = row.packages
    if row.device_kind == "cuda":
        packages = _for_gpu(choice, packages, facts, index_url)
    if facts.python < (3, 10):
        packages = tuple(_FOR_PYTHON_3_9.get(package, package) for package in packages)
    if choice.backend == "tflite-runtime" and facts.python >= (3, 12):
        raise OfaError("tflite-runtime has no build for Python 3.12 or newer: name an older Python with --python")
    return (*(("--index-url", index_url) if index_url and packages else ()), *packages)


_FOR_PYTHON_3_9 = {"ai-edge-litert>=2.1": "tflite-runtime==2.14.0"}
_FOR_OLD_GPU = {"torch>=2.1": "torch>=2.1,<2.15", "onnxruntime-gpu>=1.17": "onnxruntime-gpu>=1.17,<1.23"}


def _for_gpu(choice: Choice, packages: tuple[str, ...], facts: HostFacts, index_url: str | None) -> tuple[str, ...]:
    """Return the packages whose builds have kernels for the host's GPU; raises as `packages_for` does."""
    capability = facts.compute_capability
    if capability is None:
        raise OfaError(f"backend {choice.label} needs an NVIDIA GPU; nvidia-smi lists none")
    if capability >= (7, 5):
        return packages
    if choice.backend == "torch" and not index_url:
        raise OfaError(
            f"{facts.gpu or 'GPU'} (compute capability {capability[0]}.{capability[1]}): torch's default builds have "
            "no kernels for it; give --index-url of the cu126 builds (pytorch.org, Get started); torch 2.14 is the "
            "last release that has them"
        )
    return tuple(_FOR_OLD_GPU.get(package, package) for package in packages)


def plan_host(choice: Choice, facts: HostFacts, python: str, index_url: str | None = None) -> Provision:
    """Return the steps that install a backend on a host; raises as `packages_for` does."""
    packages = packages_for(choice, facts, index_url)
    folder = f".local/share/ofa-latency/venv-{split_number(choice.label)[0]}"
    commands = [f"{shlex.quote(python)} -m venv ~/{folder}"]
    if packages:
        commands.append(f"~/{folder}/bin/python -m pip install {shlex.join(packages)}")
    return Provision(folder, packages, tuple(commands), f"~/{folder}/bin/python")


def install(device: Device, plan: Provision, python: str) -> str:
    """Carry out the steps and return the absolute path of the interpreter on the host.

    Raises:
        OfaError: a step failed; the message has its last line of output.
        DeviceError: the connection failed.
    """
    script = (
        'set -e; d="$HOME/$1"; p="$2"; shift 2; mkdir -p "$(dirname "$d")"; "$p" -m venv "$d" >&2; '
        'if [ $# -gt 0 ]; then "$d/bin/python" -m pip install -q --disable-pip-version-check "$@" >&2; fi; '
        'echo "$d/bin/python"'
    )
    done = device.run(["sh", "-c", script, "sh", plan.folder, python, *plan.packages], timeout_s=_INSTALL_S)
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    if done.rc != 0 or not lines:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.rc}"]
        raise OfaError(f"{device.name}: installation failed: {words[-1][:200]}")
    if not lines[-1].startswith("/") or not lines[-1].endswith(f"/{plan.folder}/bin/python"):
        raise OfaError(f"{device.name}: the reply {lines[-1][:200]!r} is not the path of an interpreter")
    return lines[-1]


def benchmark_address(machine: str, system: str = "android", version: str = LITERT_VERSION) -> str:
    """Return the address of the official program for a machine.

    Raises:
        OfaError: no program for this machine is known.
    """
    if machine not in _MACHINES:
        known = ", ".join(sorted(set(_MACHINES.values())))
        raise OfaError(f"no official benchmark_model for {machine}, only for {known}: give your own with {_OWN}")
    return BENCHMARK_URL.format(version=version, system=system, machine=_MACHINES[machine])


def digest_advice(address: str) -> str:
    """Return advice on a program without a known checksum."""
    return (
        f"no checksum is known for this file; compute it (curl -fL {address} | sha256sum) on a connection that you "
        f"trust and give it with --sha256, or download the file yourself and give {_OWN}"
    )


def fetch_benchmark_model(
    machine: str, *, sha256: str | None, system: str = "android", version: str = LITERT_VERSION
) -> Path:
    """Download the official program into the cache, unless it is there already.

    Args:
        machine: instruction set of the device.
        sha256: expected SHA-256 checksum of the file, 64 hexadecimal digits.
        system: `android` or `linux`.
        version: release of LiteRT.

    Returns:
        The program, for `--benchmark-binary`.

    Raises:
        OfaError: no checksum is given, the address is not reachable, or the file has another checksum.
    """
    address = benchmark_address(machine, system, version)
    if sha256 is None:
        raise OfaError(f"{address}: {digest_advice(address)}")
    wanted = sha256.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", wanted):
        raise OfaError(f"--sha256 {sha256[:80]!r} is not a SHA-256 checksum: 64 hexadecimal digits are expected")
    path = cache_folder() / f"{system}-{machine}" / f"benchmark_model-{wanted[:12]}"
    fetch(Download((address,), wanted), path).chmod(0o755)
    return path
