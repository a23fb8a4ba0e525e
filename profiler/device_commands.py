"""Commands of `ofa-profile` that measure nothing: `devices` and `setup`."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from profiler.options import DelegateOption, DtypeOption, PythonOption

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
        str | None, typer.Option(help="Runtime to install. [default: onnxruntime; benchmark-model on phones]")
    ] = None,
    dtype: DtypeOption = None,
    delegate: DelegateOption = None,
    python: PythonOption = None,
    index_url: Annotated[str | None, typer.Option(help="Install from this package index, for an older GPU.")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Checksum of the official benchmark_model, for phones; none is built in.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands without running them.")] = False,
) -> None:
    """Install a backend's runtime on a host, in a virtual environment; download benchmark_model for a phone."""
    from devices.target import Target, open_device
    from profiler import setup as provision
    from profiler.launch import Launch, backend_for

    the_target = Target.parse(target)
    with open_device(the_target) as device:
        if device.kind == "phone":
            machine = device.facts().arch or "aarch64"
            if dry_run:
                address = provision.benchmark_address(machine)
                if sha256:
                    sys.stdout.write(f"download {address} if its SHA-256 checksum is {sha256}\n")
                else:
                    sys.stdout.write(f"do not download {address}: {provision.digest_advice(address)}\n")
                return
            sys.stdout.write(f"{provision.fetch_benchmark_model(machine, sha256=sha256)}\n")
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
