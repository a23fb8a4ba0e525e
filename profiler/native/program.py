"""Put the C agent and its runtime on a device.

All files are found, downloaded and checked on this machine first, so that a wrong one is refused before anything is
pushed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devices.device import Device
from ofa_core.errors import OfaError
from profiler.native.build import agent_for
from profiler.native.glibc import LOADERS, bundle_for
from profiler.native.runtimes import LIBRARY, Runtime, accelerators_of, find_runtime, runtime_for
from profiler.native.system import System, system_of

__all__ = ["C_API", "WITH_GLIBC", "NativeProgram"]

_FOLDER = "native"
_AGENT = "ofa-agent"

C_API, WITH_GLIBC = "(C API)", "with glibc"
"""Parts of the runtime's version in tables: of all that the C agent measured, and of those with its own C library."""


@dataclass(frozen=True, slots=True)
class NativeProgram:
    """Puts the C agent and its runtime on a device; see `profiler.agent_runner.AgentRunner`.

    Attributes:
        agent: the program; None takes that for the device's system.
        library: its runtime, or an archive that contains it; None takes that for the device's system.
        prefix: command that starts the program, such as an emulator.
        backend: label of the backend: `tflite`, `tflite-fp16`, `tflite-int8`, `litert-gpu` or `litert-gpu-fp16`.
        graph_form: form of the models; the agent refuses `integer` ones that XNNPACK does not compute whole.
        with_glibc: run the agent for Linux, with a C library of its own.
    """

    agent: Path | None = None
    library: Path | None = None
    prefix: Sequence[str] = ()
    backend: str = "tflite"
    graph_form: str = ""
    with_glibc: bool = False

    def payload(self, device: Device) -> str:
        """Return the names and the size of what is pushed, before anything is downloaded.

        Raises:
            OfaError: there is no program or no runtime for the device, or it does not fit the device.
        """
        system = self._system(device)
        parts = [agent_for(system, self.agent)]
        runtime = find_runtime(system, self.library)
        accelerators = accelerators_of(runtime, system, download=False) if self._is_gpu else []
        is_more = self._is_gpu and not accelerators
        if self.with_glibc:
            is_more = is_more or not runtime.path.exists()
            known = [runtime.path] if runtime.path.exists() else []
            parts += bundle_for(system, *parts, *known, *accelerators)
        n_bytes = runtime.n_bytes + sum(path.stat().st_size for path in (*parts, *accelerators))
        more = "more than " if is_more else ""
        gpu = " for the GPU" if self._is_gpu else ""
        return f"the agent and {self._name(runtime)}{gpu}, {more}{n_bytes / 2**20:.1f} MiB"

    def prepare(self, device: Device) -> None:
        """Download what this machine lacks, and check it; raises as `__call__` does."""
        self._files(device)

    def __call__(self, device: Device) -> list[str]:
        """Push all files and return the command line.

        Raises:
            OfaError: there is no program or no runtime for the device, or it does not fit the device.
            DeviceError: a file cannot be pushed.
        """
        files = self._files(device)
        device.push(files.agent, f"{_FOLDER}/{_AGENT}")
        device.push(files.runtime.path, f"{_FOLDER}/{LIBRARY}")
        for path in files.others:
            device.push(path, f"{_FOLDER}/{path.name}")
        folder = f"{device.work_dir}/{_FOLDER}"
        script = 'test -x "$1" || chmod 700 "$1"'  # on this machine the file is a link to the cache
        made = device.run(["sh", "-c", script, "sh", f"{folder}/{_AGENT}"], timeout_s=30)
        if made.rc != 0:
            raise OfaError(f"{device.name}: cannot make the agent executable: {made.reason}")
        loader = [f"{folder}/{files.loader}", "--library-path", folder] if files.loader else []
        command = [f"{folder}/{_AGENT}", "--backend", self.backend, "--lib", f"{folder}/{LIBRARY}"]
        command += ["--graph-form", self.graph_form] if self.graph_form == "integer" else []
        return [*self.prefix, *loader, *command, "--runtime", f"{files.name} {C_API}"]

    def _files(self, device: Device) -> _Files:
        system = self._system(device)
        agent = agent_for(system, self.agent)
        runtime = runtime_for(system, self.library)
        others = accelerators_of(runtime, system) if self._is_gpu else []
        loader = ""
        if self.with_glibc:
            others, loader = [*others, *bundle_for(system, agent, runtime.path, *others)], LOADERS[system.machine]
        return _Files(agent, runtime, others, self._name(runtime), loader)

    @property
    def _is_gpu(self) -> bool:
        return self.backend.startswith("litert-gpu")

    def _system(self, device: Device) -> System:
        """Return the system that the files are for."""
        system = system_of(device.facts())
        return System("linux", system.machine) if self.with_glibc else system

    def _name(self, runtime: Runtime) -> str:
        """Return the runtime's name in tables."""
        return f"{runtime.name} {WITH_GLIBC}" if self.with_glibc else runtime.name


@dataclass(frozen=True, slots=True)
class _Files:
    """The files to push: agent, runtime and others; the runtime's name in tables; the loader that starts the agent."""

    agent: Path
    runtime: Runtime
    others: list[Path]
    name: str
    loader: str = ""
