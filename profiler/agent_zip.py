"""Pack the agent into one file that any Python 3.8 or newer can run."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from devices.device import Device
from devices.session_folder import SessionFolder

__all__ = ["PythonProgram", "build_pyz"]

_REMOTE = "agent.pyz"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold


def build_pyz(dest: Path) -> Path:
    """Write the agent as an executable zip (`python FILE --backend NAME`) to `dest`.

    The bytes depend on the sources only: sorted names, a constant time, no compression. The file is written under a
    temporary name and renamed. It holds `profiler/agent/**.py`, an empty `profiler/__init__.py` and a `__main__.py`.

    Returns:
        `dest`.
    """
    root = Path(str(resources.files("profiler.agent")))
    sources = {f"profiler/agent/{p.relative_to(root).as_posix()}": p.read_bytes() for p in root.rglob("*.py")}
    sources["profiler/__init__.py"] = b""
    sources["__main__.py"] = sources["profiler/agent/__main__.py"]
    dest.parent.mkdir(parents=True, exist_ok=True)
    temporary = dest.with_name(f".{dest.name}.{os.getpid()}")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(sources):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, sources[name])
    temporary.replace(dest)
    return dest


@dataclass(frozen=True, slots=True)
class PythonProgram:
    """Puts the agent on a device; see `profiler.agent_runner.AgentRunner`.

    Attributes:
        backend: backend of the agent.
        python: interpreter on the device; None takes the device's default.
        dtype: such as `fp16`.
        delegate: such as `cuda:1`; empty takes the agent's default.
        graph_form: form of the models; the agent refuses those of the form `integer` that are not wholly integer.
    """

    backend: str
    python: str | None = None
    dtype: str = "fp32"
    delegate: str = ""
    graph_form: str = ""

    def payload(self, device: Device) -> str:  # noqa: ARG002
        """Return what is pushed."""
        return "the agent"

    def prepare(self, device: Device) -> None:
        """Do nothing: the agent is packed when it is pushed."""

    def __call__(self, device: Device) -> list[str]:
        """Push the packed agent and return the command line; raises as `Device.push` does."""
        with SessionFolder("agent") as folder:
            device.push(build_pyz(Path(folder, _REMOTE)), _REMOTE)
        python = self.python if self.python is not None else device.python
        command = [python, f"{device.work_dir}/{_REMOTE}", "--backend", self.backend, "--dtype", self.dtype]
        command += ["--delegate", self.delegate] if self.delegate else []
        return [*command, *(["--graph-form", self.graph_form] if self.graph_form == "integer" else [])]
