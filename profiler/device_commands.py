"""The commands of `ofa-profile` that measure nothing on a device: `devices` and `setup`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from profiler.options import DelegateOption, DtypeOption, PythonOption

__all__ = ["devices", "setup"]


def devices() -> None:
    """List this machine, the phones that adb knows and the named devices: what they are, in which state."""
    from profiler.device_list import list_devices

    for line in list_devices():
        sys.stdout.write(f"{line}\n")


def setup(
    target: Annotated[str, typer.Option("--target", "-t", help="A host, or a phone.")],
    backend: Annotated[str | None, typer.Option(help="[default: onnxruntime; benchmark-model on phones]")] = None,
    dtype: DtypeOption = None,
    delegate: DelegateOption = None,
    python: PythonOption = None,
    index_url: Annotated[str | None, typer.Option(help="Where pip finds the wheels for an older GPU.")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Digest of the official benchmark_model, for phones; we know none.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Install a backend's runtime on a host, in a place of its own; fetch the official program for a phone."""
    from devices.target import Target, open_device
    from profiler import setup as provision
    from profiler.backends import choose

    the_target = Target.parse(target)
    with open_device(the_target) as device:
        if device.kind == "phone":
            machine = device.facts().arch or "aarch64"
            if dry_run:
                address = provision.benchmark_address(machine)
                why = f"if its sha256 is {sha256}" if sha256 else f"not yet: {provision.digest_advice(address)}"
                sys.stdout.write(f"fetch {address}, {why}\n")
                return
            sys.stdout.write(f"{provision.fetch_benchmark_model(machine, sha256=sha256)}\n")
            return
        base = python or the_target.python or device.python
        facts = provision.host_facts(device, base)
        choice = choose(backend or the_target.backend or "onnxruntime", dtype, delegate)
        plan = provision.plan_host(choice, facts, base, index_url)
        if dry_run:
            sys.stdout.write("\n".join(plan.commands) + "\n")
            return
        installed = provision.install(device, plan, base)
    typer.echo(f"ready: give --python {installed}, or put it into devices.toml", err=True)
    sys.stdout.write(f"{installed}\n")
