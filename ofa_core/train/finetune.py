"""Training of one extracted sub-net (the paper's "#25" and "#75" results)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from ofa_core.arch import Arch
from ofa_core.errors import OfaError
from ofa_core.formats.checkpoint import write_checkpoint
from ofa_core.nn.mbconv import Classifier
from ofa_core.nn.subnet import SubNet
from ofa_core.space import Space
from ofa_core.train.config import Config
from ofa_core.train.distributed import Process, wrapped
from ofa_core.train.divergence import check_finite
from ofa_core.train.loop import Step, make_optimizer, train_phase
from ofa_core.train.phases import Phase
from ofa_core.train.run import Data

__all__ = ["finetune_subnet"]


def finetune_subnet(
    net: SubNet,
    space: Space,
    arch: Arch,
    config: Config,
    phase: Phase,
    data: Data,
    process: Process,
    out: Path,
    *,
    on_step: Callable[[Step], None] = lambda _: None,
) -> SubNet:
    """Train a sub-net at its own image size, and write it.

    Args:
        net: extracted and calibrated; trained in place.
        space: its space.
        arch: its architecture.
        config: data, augmentation and seed.
        phase: epochs, rates and losses.
        data: images.
        process: this process among all.
        out: checkpoint of the result.
        on_step: called after each step.

    Returns:
        The network in evaluation mode. Its running statistics are those of training, which fit a network that is
        always the same.

    Raises:
        OfaError: if it shall be compiled and cannot be (on a CPU: no C++ compiler).
        DivergedError: if loss or weights are no longer finite, or the loss grows without end; nothing is written.
    """
    net.to(process.device)
    last = net.layers[-1]
    assert isinstance(last, Classifier)
    last.dropout = phase.dropout
    loader = replace(data.loader(config, phase, space, process), resolutions=(arch.resolution_px,))
    optimizer = make_optimizer(net, phase)
    # Evaluation, in another mode and with other batch sizes, stays with the network as it is: it would compile anew.
    model = wrapped(cast(nn.Module, torch.compile(net)) if config.run.compile else net, process)
    steps = train_phase(
        model,
        optimizer,
        loader,
        phase,
        phase_index=0,
        seed=config.run.seed,
        process=process,
        amp=config.run.amp,
        fixed=True,
    )
    try:
        for step in steps:
            on_step(step)
    except RuntimeError as error:
        from torch._dynamo.exc import BackendCompilerFailed

        if isinstance(error, BackendCompilerFailed):
            raise OfaError(f"compile = true: torch cannot compile here ({str(error).splitlines()[0]})") from error
        raise
    check_finite(net)
    net.eval()
    if process.is_root:
        write_checkpoint(out, net, space, config.preprocessing, arch, data.train.classes)
    return net
