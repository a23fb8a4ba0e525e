"""Open the device of a target and choose the runner for it.

Python agent         on any device with an interpreter: this machine, ssh hosts, a phone with a `python` in its section
C agent              phones by default: backend `tflite` over libLiteRt.so (`profiler/native`)
benchmark_model      if the user gives one (`--benchmark-binary`): backend `benchmark-model`
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from devices.schemes import find_scheme
from devices.target import Target, open_device
from ofa_core.errors import OfaError
from profiler.agent_zip import PythonProgram
from profiler.backends import BACKENDS, BENCHMARK_MODEL, Choice, choice_of, choose, info

if TYPE_CHECKING:
    from devices.device import Device
    from devices.schemes import FoundDevice
    from ofa_core.context import Context
    from profiler.runner import Runner

__all__ = ["Launch", "backend_for", "expand_targets", "launch", "launch_again", "resumed", "target_of"]

_LOG = logging.getLogger(__name__)

OFFICIAL, GLIBC = RUNTIMES = ("official", "glibc")
"""Values of `--runtime`: the runtime for the device's system, or the one for Linux with a C library of its own."""

_EVERY = ":*"  # after a scheme: all connected devices of that scheme


@dataclass(frozen=True, slots=True)
class Launch:
    """Options of the runner; None takes the target's value.

    Attributes:
        python: interpreter on the device.
        benchmark_binary: the official benchmark_model, built for the device.
        agent_binary: the C agent, built for the device.
        litert_library: libLiteRt.so for the C agent.
        keep: leave files on the device.
        runtime: `official`, or `glibc` to run the C agent for Linux on a phone; None takes that of the session that is
            resumed or measured again, else `official`.
        c_agent: run the C agent also where the device has Python.
    """

    python: str | None = None
    benchmark_binary: Path | None = None
    agent_binary: Path | None = None
    litert_library: Path | None = None
    keep: bool = False
    runtime: str | None = None
    c_agent: bool = False

    @property
    def is_native(self) -> bool:
        """True if the C agent is asked for."""
        given = self.agent_binary is not None or self.litert_library is not None
        return given or self.c_agent or self.runtime == GLIBC


def backend_for(
    target: Target, options: Launch, backend: str | None = None, dtype: str | None = None, delegate: str | None = None
) -> Choice:
    """Return the backend, dtype and delegate for a target: those of the command line, else the target's defaults.

    The target's dtype and delegate belong to its backend, so `--backend` replaces all three.

    Args:
        target: the device.
        options: options of the runner.
        backend: value of `--backend`.
        dtype: value of `--dtype`.
        delegate: value of `--delegate`.

    Raises:
        OfaError: there is no such backend, or it has no such dtype or delegate.
    """
    if backend is not None:
        return choose(backend, dtype, delegate)
    if options.benchmark_binary is not None:
        return choose(BENCHMARK_MODEL, dtype, delegate)
    native = next(row.name for row in BACKENDS if row.native)
    backend = target.backend or (native if _wants_native(target, options) else "onnxruntime")
    return choose(backend, dtype or target.dtype, delegate or target.delegate)


def launch(target: Target, choice: Choice, options: Launch, graph_form: str = "") -> tuple[Device, Runner]:
    """Open the device and make a runner for it; the caller closes both.

    Args:
        target: the device.
        choice: the backend with its dtype and delegate.
        options: options of the runner.
        graph_form: form of the models; those of the form `integer` are refused unless they are wholly integer.

    Raises:
        OfaError: the options contradict each other.
        DeviceError: the device cannot be opened.
    """
    from profiler.agent_runner import AgentRunner

    if choice.backend == BENCHMARK_MODEL and options.benchmark_binary is None:
        raise OfaError(f"backend {choice.label} needs --benchmark-binary FILE")
    if choice.backend != BENCHMARK_MODEL and options.benchmark_binary is not None:
        raise OfaError(f"--benchmark-binary works only with --backend {BENCHMARK_MODEL}, not with {choice.label}")
    runtime = options.runtime or OFFICIAL
    if runtime not in RUNTIMES or (runtime != OFFICIAL and options.benchmark_binary is not None):
        raise OfaError(f"--runtime {runtime!r} is not {' or '.join(RUNTIMES)}, or --benchmark-binary is given")
    is_native = _wants_native(target, options) and options.benchmark_binary is None
    if is_native and not info(choice).native:
        raise OfaError(f"backend {choice.label!r} needs Python on {target}: name an interpreter with --python")
    device = open_device(replace(target, keep=target.keep or options.keep))
    if options.benchmark_binary is not None:
        from profiler.benchmark_runner import BenchmarkRunner

        whole = ("--use_xnnpack=true", "--require_full_delegation=true") if graph_form == "integer" else ()
        return device, BenchmarkRunner(device, options.benchmark_binary, extra=whole)
    if is_native:
        from profiler.native.program import NativeProgram

        native = NativeProgram(
            options.agent_binary,
            options.litert_library,
            backend=choice.label,
            graph_form=graph_form,
            with_glibc=runtime == GLIBC,
        )
        return device, AgentRunner(device, choice.label, program=native)
    python = options.python or target.python
    program = PythonProgram(choice.backend, python, choice.dtype, choice.delegate, graph_form)
    return device, AgentRunner(device, choice.backend, program=program)


def launch_again(target: Target, context: Context, options: Launch) -> tuple[Device, Runner]:
    """Open the device and make a runner, to measure again in the context of an earlier session.

    Args:
        target: the device.
        context: context of the earlier session.
        options: options of the runner; the agent and its runtime are those of the context.

    Raises:
        As `launch` and `resumed`.
    """
    return launch(target, choice_of(context), resumed(options, context.backend_version), context.graph_form)


def resumed(options: Launch, version: str) -> Launch:
    """Return the options with the agent and the runtime of an earlier session.

    Args:
        options: options of the runner.
        version: the runtime's version in that session.

    Raises:
        OfaError: the options ask for another agent or runtime.
    """
    from profiler.native.program import C_API, WITH_GLIBC

    runtime = GLIBC if WITH_GLIBC in version else OFFICIAL
    c_agent = C_API in version
    if options.runtime not in (None, runtime):
        raise OfaError(
            f"leave out --runtime {options.runtime}: the earlier measurements are of {version!r} (--runtime {runtime})"
        )
    if c_agent and options.python is not None:
        raise OfaError(f"leave out --python: the earlier measurements are of {version!r}, by the agent in C")
    return replace(options, runtime=runtime, c_agent=c_agent)


def target_of(device: str, named: str | None) -> Target:
    """Return the target to measure on again.

    Args:
        device: device name in the context of the earlier measurement.
        named: target that the user names; None takes the device.

    Raises:
        OfaError: the user names no target, and the device's name is not a target.
        UnknownTargetError: the named target is unknown.
    """
    from devices.errors import UnknownTargetError

    if named is not None:
        target = Target.parse(named)
        if (target.name or str(target)) != device:
            _LOG.warning("the earlier measurements were made on %r, not on %s", device, named)
        return target
    try:
        return Target.parse(device)
    except UnknownTargetError as error:
        raise OfaError(f"device {device!r} is not a target; name one with --target") from error


def expand_targets(texts: list[str]) -> list[Target]:
    """Read targets. `adb:*` is replaced by each connected, usable phone that no other target names.

    Raises:
        UnknownTargetError: a target is unknown, two targets name one device, or `adb:*` matches no usable phone.
    """
    from devices.errors import UnknownTargetError

    every = {text: text.removesuffix(_EVERY) for text in texts if text.endswith(_EVERY)}
    targets = list(dict.fromkeys(Target.parse(text) for text in texts if text not in every))
    taken = _named_once(targets, bool(every))
    for text, scheme in every.items():
        found = find_scheme(scheme).find()
        usable = [device for device in found if device.is_usable]
        if not usable:
            names = ", ".join(device.text for device in found) or "none"
            raise UnknownTargetError(f"{text} matches no usable device; connected are: {names}")
        targets += [_target_of(scheme, device) for device in usable if (scheme, device.addresses[0]) not in taken]
    return targets


def _named_once(targets: Sequence[Target], has_more: bool) -> set[tuple[str, object]]:
    """Return scheme and identity of each target, and refuse two targets of one device.

    Args:
        targets: as the user gave them.
        has_more: True if connected devices are added to them.

    Raises:
        UnknownTargetError: two targets name one device, which would be measured twice at once.
    """
    from devices.errors import DeviceError, UnknownTargetError

    if len(targets) < 2 and not has_more:
        return set()
    first: dict[tuple[str, object], Target] = {}
    for target in targets:
        try:
            identity = (target.scheme, find_scheme(target.scheme).identify(target))
        except DeviceError:  # reported when this target is measured; the others are measured
            continue
        if first.setdefault(identity, target) is not target:
            raise UnknownTargetError(f"{first[identity].name} and {target.name} are one device: name it once")
    return set(first)


def _target_of(scheme: str, device: FoundDevice) -> Target:
    """Return the target of a connected device: a section of devices.toml with one of its addresses, else the best."""
    targets = [Target.parse(f"{scheme}:{address}") for address in device.addresses]
    return next((target for target in targets if target.name != str(target)), targets[0])


def _wants_native(target: Target, options: Launch) -> bool:
    has_python = options.python is not None or target.python is not None
    return options.is_native or (target.kind == "phone" and not has_python)
