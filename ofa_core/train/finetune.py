"""Train one extracted sub-net (the paper's "#25" and "#75" results), in float32 or as its int8 form."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from ofa_core.arch import Arch
from ofa_core.errors import OfaError
from ofa_core.export.network_ranges import Ranges
from ofa_core.formats.checkpoint import checkpoint_dict
from ofa_core.formats.torch_files import write_torch
from ofa_core.nn.mbconv import Classifier
from ofa_core.nn.subnet import SubNet
from ofa_core.space import Space
from ofa_core.train.distributed import wrapped
from ofa_core.train.divergence import check_finite
from ofa_core.train.integer import IntegerTraining
from ofa_core.train.loop import PhaseRun, make_optimizer, n_steps, train_phase
from ofa_core.train.phases import Phase
from ofa_core.train.run import TrainingRun

__all__ = ["finetune_subnet"]


def finetune_subnet(
    run: TrainingRun, net: SubNet, space: Space, arch: Arch, phase: Phase, ranges: Ranges | None = None
) -> SubNet:
    """Train a sub-net at its own image size, and write it to `run.out`.

    Args:
        run: settings, images, process and file.
        net: extracted and calibrated; trained in place.
        space: its space.
        arch: its architecture.
        phase: epochs, rates and losses.
        ranges: for int8: the network computes with integers while it is trained, and its file holds the ranges. They
            and the statistics of batch norm stay as they are. There is no dropout. None trains in float32.

    Returns:
        The network in evaluation mode, with the running statistics of training. They need no calibration, since every
        step trained the same network.

    Raises:
        OfaError: if `compile` is set and torch cannot compile (on a CPU: no C++ compiler), or with `ranges`.
        DivergedError: if loss or weights are not finite, or the loss stays far too high; nothing is written.
    """
    net.to(run.process.device)
    cast(Classifier, net.layers[-1]).dropout = phase.dropout
    model = wrapped(_trained_form(net, ranges, compiled=run.config.run.compile), run.process)
    ready = PhaseRun(
        model,
        make_optimizer(net, phase),
        run.loader(phase, (arch.resolution_px,)),
        phase,
        seed=run.config.run.seed,
        process=run.process,
        amp=run.config.run.amp,
    )
    run.events.start(phase, 0, n_steps(phase, ready.loader)[1])
    try:
        for step in train_phase(ready):
            run.events.step(step)
    except RuntimeError as error:
        from torch._dynamo.exc import BackendCompilerFailed

        if isinstance(error, BackendCompilerFailed):
            raise OfaError(f"compile = true: torch cannot compile here ({str(error).splitlines()[0]})") from error
        raise
    check_finite(net)
    net.eval()
    if run.process.is_root:
        content = checkpoint_dict(net, space, run.config.preprocessing, arch, run.data.train.classes)
        write_torch(run.out, content if ranges is None else {**content, "ranges": ranges.to_dict()})
    return net


def _trained_form(net: SubNet, ranges: Ranges | None, *, compiled: bool) -> nn.Module:
    """Return the module to train; evaluation uses `net` itself, since its other batch sizes would be compiled anew."""
    if ranges is None:
        return cast(nn.Module, torch.compile(net)) if compiled else net
    if compiled:
        raise OfaError("compile = true is for float32 only; remove it, or leave out --dtype int8")
    return IntegerTraining(net, ranges.blocks)
