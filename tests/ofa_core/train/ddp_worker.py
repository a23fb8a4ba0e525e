"""One rank of the gradient test: averages gradients of sub-nets over two gloo processes, and saves them."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from ofa_core.formats.preprocessing import Preprocessing
from ofa_core.nn.supernet import Supernet, extract
from ofa_core.spaces import tiny
from ofa_core.train.batches import Batch, Loader
from ofa_core.train.bn_calibration import calibrate
from ofa_core.train.distributed import Process, process_group, wrapped
from ofa_core.train.evaluation import evaluate
from ofa_core.train.images import Augmentation
from ofa_core.train.loop import PhaseRun, archs_of_step, make_optimizer, train_phase, train_step
from ofa_core.train.phases import Phase
from ofa_core.train.sources import open_sources

PX, N = 24, 16
PHASE = Phase("x", 1, 0.01, subnets_per_step=3, kd_ratio=1.0, batch_size=8, teacher_mode="eval", dropout=0.0)


def whole_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.randn((N, 3, PX, PX), generator=generator), torch.arange(N) % 10, 0, PX)


def share(batch: Batch, process: Process) -> Batch:
    return Batch(batch.images[process.rank :: process.world], batch.labels[process.rank :: process.world], 0, PX)


def fixed_norms(net: torch.nn.Module) -> torch.nn.Module:
    """Batch norm with running statistics: those of a batch depend on how it is shared out, gradients must not."""
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return net


def gradients(process: Process, *, reduce: bool = True) -> dict[str, torch.Tensor]:
    net = fixed_norms(Supernet(tiny(), seed=1, dropout=0.0))
    teacher = extract(net, tiny().largest()).requires_grad_(False)
    model = wrapped(net, process) if reduce else net
    archs = archs_of_step(tiny(), PHASE, PX, 0, 0, 3)
    train_step(model, share(whole_batch(), process), archs, PHASE, teacher)
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def main(out: Path) -> None:
    torch.set_num_threads(1)
    with process_group("cpu") as process:
        result = {"reduced": gradients(process), "alone": gradients(process, reduce=False)}
        train, val = open_sources("digits")
        half = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")
        import numpy as np

        sub = extract(Supernet(tiny(), seed=1).eval(), tiny().smallest(PX))
        calibration = Loader(train, np.arange(64), 16, (PX,), half, rank=process.rank, world=process.world)
        result["n_calibrated"] = torch.tensor(calibrate(sub, (b.images for b in calibration.batches()), all_ranks=True))
        result["statistics"] = {k: v for k, v in sub.state_dict().items() if "running" in k}
        loader = Loader(val, np.arange(101), 8, (PX,), half, rank=process.rank, world=process.world)
        accuracy = evaluate(sub, loader.batches(), process)
        result["accuracy"] = torch.tensor([accuracy.top1, accuracy.loss, accuracy.n_images])
        trained = Supernet(tiny(), seed=1, dropout=0.0)
        phase = replace(PHASE, kd_ratio=0.0, epochs=1)
        batches = Loader(
            train, np.arange(96), 8, (24, 32), half, Augmentation(flip=False), 0, 0, process.rank, process.world
        )
        model = wrapped(trained, process)
        optimizer = make_optimizer(trained, phase)
        steps = list(train_phase(PhaseRun(model, optimizer, batches, phase, process=process)))
        result["steps"] = torch.tensor([[s.px, s.n_images, s.loss] for s in steps])
        result["trained"] = {name: p.detach() for name, p in trained.named_parameters()}
        torch.save(result, out / f"{os.environ.get('RANK', 'single')}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
