"""Commands of `ofa-profile` that measure nothing: `devices` and `setup`."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.backends import BENCHMARK_MODEL
from profiler.options import DelegateOption, DtypeOption, PythonOption

if TYPE_CHECKING:
    from devices.facts import DeviceFacts

__all__ = ["commands"]

_LOG = logging.getLogger(__name__)
commands = typer.Typer()


@commands.command()
def devices() -> None:
    """List this machine, connected phones and the devices of devices.toml, with hardware, state and runtimes."""
    from profiler.device_list import list_devices

    for line in list_devices():
        sys.stdout.write(f"{line}\n")


@commands.command()
def setup(
    target: Annotated[str, typer.Option("--target", "-t", help="Host or phone to set up.")],
    backend: Annotated[
        str | None, typer.Option(help="Runtime to install. [default: onnxruntime; tflite on phones]")
    ] = None,
    dtype: DtypeOption = None,
    delegate: DelegateOption = None,
    python: PythonOption = None,
    index_url: Annotated[str | None, typer.Option(help="Install from this package index, for an older GPU.")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Checksum of the official benchmark_model, to download this for a phone.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands without running them.")] = False,
) -> None:
    """Install a backend's runtime on a host, in a virtual environment; download what a phone needs to this machine."""
    from devices.target import Target, open_device
    from profiler import setup as provision
    from profiler.launch import Launch, backend_for

    the_target = Target.parse(target)
    with open_device(the_target) as device:
        if device.kind == "phone":
            is_benchmark = backend == BENCHMARK_MODEL or sha256 is not None
            for_gpu = partial(_runtime, for_gpu=(backend or the_target.backend or "").startswith("litert-gpu"))
            prepare = partial(_benchmark_model, sha256=sha256) if is_benchmark else for_gpu
            sys.stdout.write(f"{prepare(device.facts(), dry_run=dry_run)}\n")
            return
        base = python or the_target.python or device.python
        facts = provision.host_facts(device, base)
        choice = backend_for(the_target, Launch(python=base), backend, dtype, delegate)
        plan = provision.plan_host(choice, facts, base, index_url)
        if dry_run:
            sys.stdout.write("\n".join(plan.commands) + "\n")
            return
        installed = provision.install(device, plan, base)
    _LOG.info("ready: use --python %s, or add it to devices.toml", installed)
    sys.stdout.write(f"{installed}\n")


def _benchmark_model(facts: DeviceFacts, sha256: str | None, *, dry_run: bool) -> str:
    """Download benchmark_model for a phone; return its path, or what would be downloaded."""
    from profiler import setup as provision

    machine = facts.arch or "aarch64"
    if not dry_run:
        return str(provision.fetch_benchmark_model(machine, sha256=sha256))
    address = provision.benchmark_address(machine)
    if sha256:
        return f"download {address} if its SHA-256 checksum is {sha256}"
    return f"do not download {address}: {provision.digest_advice(address)}"


def _runtime(facts: DeviceFacts, *, for_gpu: bool, dry_run: bool) -> str:
    """Download the C agent's runtime for a phone; return its path, or what would be downloaded."""
    from profiler.native.runtimes import accelerators_of, known_runtimes, runtime_for
    from profiler.native.system import system_of

    system = system_of(facts)
    known = known_runtimes().get(str(system))
    if not dry_run or known is None:
        runtime = runtime_for(system)
        return "\n".join(map(str, [runtime.path, *(accelerators_of(runtime, system) if for_gpu else [])]))
    source, name = known.wheel or known.addresses[0], f"{known.name} for {system.title}"
    line = f"download {name}: {source}, {known.n_bytes} bytes, SHA-256 checksum {known.sha256}"
    if not for_gpu or (gpu := known.accelerator) is None:
        return line
    return f"{line}\ndownload the GPU accelerator of {name}: {gpu.addresses[0]}, SHA-256 checksum {gpu.sha256}"
