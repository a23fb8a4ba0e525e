"""Training, extraction, calibration and evaluation beside the authors' code, in one process, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--pairs 7]

Needs `pip install --no-deps ofa==0.1.0.post202307202001`. Times are CPU seconds of the process; each figure is the
median over alternating pairs (theirs, ours) of the ratio theirs / ours. Exit code 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
from published_code import import_ofa, set_active
from torch.nn import functional

from ofa_core.formats.published_weights import load_published
from ofa_core.genomes import sample_arch
from ofa_core.nn.allocator import keep_freed_memory
from ofa_core.nn.kernels import measure_plan
from ofa_core.nn.supernet import Supernet, extract
from ofa_core.spaces import mobilenet_v3
from ofa_core.train.bn_calibration import calibrate
from ofa_core.train.loop import make_optimizer
from ofa_core.train.phases import Phase

PX, BATCH = 128, 32


def cpu_s(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def ratio(theirs: Callable[[], object], ours: Callable[[], object], pairs: int) -> tuple[float, float, float]:
    """Median ratio and the two median times, over alternating pairs after one warm-up of each."""
    theirs()
    ours()
    times = [(cpu_s(theirs), cpu_s(ours)) for _ in range(pairs)]
    return (
        statistics.median(a / b for a, b in times),
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Training beside the authors' code.")
    parser.add_argument("--pairs", type=int, default=7)
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kept = keep_freed_memory()  # as the trainer does; it helps both sides alike
    print(f"freed memory is {'kept' if kept else 'given back'} between steps, for both")
    ofa = import_ofa()
    space = mobilenet_v3()
    theirs = ofa.networks.OFAMobileNetV3(ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4])
    start = time.process_time()
    plan = measure_plan(space.all_blocks((PX,)), BATCH)
    took = ", ".join(f"{n} {form}" for form, n in sorted(Counter(plan.forms.values()).items()))
    print(f"kernel plan measured in {time.process_time() - start:.1f} s: {took}")
    ours = Supernet(space, plan=plan)
    load_published(ours, theirs.state_dict())
    images, labels = torch.randn(BATCH, 3, PX, PX), torch.randint(0, 1000, (BATCH,))
    decayed, spared = theirs.get_parameters(["bn", "bias"], "exclude"), theirs.get_parameters(["bn", "bias"], "include")
    groups = [{"params": decayed, "weight_decay": 3e-5}, {"params": spared, "weight_decay": 0.0}]
    optimizers = [
        torch.optim.SGD(groups, lr=1e-4, momentum=0.9, nesterov=True),  # as their run manager makes it
        make_optimizer(ours, Phase("benchmark", epochs=1, lr=1e-4)),
    ]
    rng = np.random.default_rng(0)
    archs = [sample_arch(space, rng, (PX,)) for _ in range(pairs + 1)]
    failed = 0

    def report(name: str, limit: float, measured: tuple[float, float, float]) -> None:
        nonlocal failed
        value, peer_s, own_s = measured
        failed += value < limit
        print(
            f"{name:38s} theirs {peer_s * 1e3:8.1f} ms   ours {own_s * 1e3:8.1f} ms   "
            f"ratio {value:5.2f}   limit {limit:.1f}   {'ok' if value >= limit else 'MISSED'}",
            flush=True,
        )

    def their_step() -> None:
        optimizers[0].zero_grad()
        functional.cross_entropy(theirs(images), labels).backward()
        optimizers[0].step()

    def our_step(arch: object) -> None:
        optimizers[1].zero_grad()
        functional.cross_entropy(ours(images, arch), labels).backward()  # type: ignore[arg-type]
        optimizers[1].step()

    largest = space.largest(PX)
    set_active(theirs, space, largest)
    report("training step, largest", 1.9, ratio(their_step, lambda: our_step(largest), pairs))

    times = []
    for arch in archs:
        set_active(theirs, space, arch)
        times.append((cpu_s(their_step), cpu_s(lambda: our_step(arch))))  # noqa: B023
    times = times[1:]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    report("training step, random sub-nets", 1.8, (statistics.median(a / b for a, b in times), medians[0], medians[1]))

    set_active(theirs, space, archs[0])
    report("extraction", 3.0, ratio(theirs.get_active_subnet, lambda: extract(ours, archs[0]), 3 * pairs))

    batches = [torch.randn(50, 3, PX, PX) for _ in range(4)]
    labelled = [(batch, None) for batch in batches]
    theirs.eval()
    ours.eval()
    measured = ratio(
        lambda: ofa.utils.set_running_statistics(theirs, labelled),
        lambda: calibrate(extract(ours, archs[0]), batches),
        pairs,
    )
    report("batch norm calibration, 200 images", 1.8, measured)

    with torch.no_grad():
        measured = ratio(lambda: theirs(images), lambda: ours(images, archs[0]), 3 * pairs)
    report("evaluation forward, random sub-net", 1.0, measured)
    with torch.no_grad():
        sub, their_sub = extract(ours, archs[0]), theirs.get_active_subnet().eval()
        measured = ratio(lambda: their_sub(images), lambda: sub(images), 3 * pairs)
    report("evaluation forward, extracted", 1.0, measured)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
