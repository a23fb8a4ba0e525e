"""One unit of the experiment: one recipe, one seed, one row of results. README.md has the protocol."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from ofa_core.arch import Arch
from ofa_core.nn.supernet import Supernet
from ofa_core.space import Space
from ofa_core.train.config import Config, DataConfig, RunConfig, SpaceConfig
from ofa_core.train.distributed import ALONE
from ofa_core.train.images import Augmentation
from ofa_core.train.loop import Step
from ofa_core.train.phases import Phase
from ofa_core.train.run import Data, Events, TrainingRun
from ofa_core.train.sources import ArraySource, Source, open_sources
from ofa_core.train.supernet import SUPERNET_FILE, train_supernet

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
MAX_CPU_S = 25 * 60
PX = 24
SPACE = SpaceConfig("tiny", resolutions=(PX,), dropout=0.0)
N_TRAIN, N_HELD_OUT, SPLIT_SEED = 10_000, 10_000, 20
N_FULL, N_ELASTIC = 30, 15
SEEDS, SEARCH_SEED = (0, 1, 2), 100
CHOSEN = "ps"
ALL = "mean of the 8"
# (depth, expand ratio, kernel size)
SUBNETS = [(d, e, k) for d in (1, 2) for e in (3, 6) for k in (3, 5)]

Row = dict[str, Any]


def recipes() -> dict[str, tuple[Phase, ...]]:
    """The phases of each recipe; `ps*` are what follows the full net; the length of `joint-cpu` is set later."""
    start = Phase("full", N_FULL, 0.1, batch_size=128, label_smoothing=0.0, dropout=0.0)
    full = replace(start, kernels=(5,), expands=(6,), n_depths=1)
    whole = replace(start, epochs=N_FULL + N_ELASTIC)
    warm = replace(start, name="all", epochs=N_ELASTIC, subnets_per_step=2, kd_ratio=1.0, sort_kept=())
    staged = replace(warm, expands=(6,), sort_kept=None)
    return {
        "full": (full,),
        "full-long": (replace(full, epochs=40),),
        "joint": (replace(whole, name="joint"),),
        "joint-fast": (replace(whole, name="joint", lr=0.2),),
        "joint-cpu": (replace(whole, name="joint"),),
        "ps": (warm,),
        "ps-slow": (replace(warm, lr=0.03),),
        "ps-nokd": (replace(warm, kd_ratio=0.0),),
        "ps-staged": (
            replace(staged, name="kernel", epochs=3, n_depths=1, subnets_per_step=1),
            replace(staged, name="depth", epochs=4),
            replace(staged, name="expand", epochs=8, expands=(3, 6), subnets_per_step=4, sort_kept=()),
        ),
    }


def balanced_split(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the training images, then of the held-out ones: equally many of each class, the same in every run."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    by_class = [order[labels[order] == c] for c in np.unique(labels)]
    n, m = N_TRAIN // len(by_class), N_HELD_OUT // len(by_class)
    return np.concatenate([i[:n] for i in by_class] + [i[n : n + m] for i in by_class])


def decoded(source: Source, indices: Sequence[int], title: str) -> ArraySource:
    """Images in memory, so that decoding is nobody's CPU time."""
    images = np.stack([np.asarray(source.load(int(i))) for i in indices])
    return ArraySource(images, source.labels[indices], tuple(source.classes), title)


def open_images(data: str, seed: int) -> Data:
    """10,000 training images; evaluated are the test images, with the search seed the held-out training images."""
    train, test = open_sources(data)
    both = decoded(train, balanced_split(train.labels), "train")
    train_indices, held_out = np.arange(N_TRAIN), np.arange(N_TRAIN, len(both.labels))
    val = decoded(test, range(len(test.labels)), "test")
    if seed == SEARCH_SEED:
        val = ArraySource(both.images[held_out], both.labels[held_out], both.classes, "held out")
    return Data(both, val, train_indices, held_out)


def settings(data: str, seed: int, phases: tuple[Phase, ...]) -> Config:
    return Config(
        space=SPACE,
        data=DataConfig(data, held_out=N_HELD_OUT, n_calibration=1000),
        augmentation=Augmentation(scale=(0.5, 1.0), brightness=0.0, saturation=0.0),
        preprocessing=replace(Config().preprocessing, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26), resize="direct"),
        phase=phases,
        run=RunConfig(seed=seed, device="cpu", checkpoint_s=1e9),
    )


def rows() -> list[Row]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def row_of(table: list[Row], recipe: str, seed: int) -> Row | None:
    return next((r for r in table if (r["recipe"], r["seed"]) == (recipe, seed)), None)


def cpu_factor(table: list[Row]) -> float:
    """CPU time of `full` and the chosen recipe over that of `joint`, each taken from its least disturbed run."""
    full, chosen, joint = (min(r["cpu_s"] for r in table if r["recipe"] == n) for n in ("full", CHOSEN, "joint"))
    return float((full + chosen) / joint)


@dataclass
class Meter:
    """Images and CPU time of training steps; evaluation between them does not count."""

    images: int = 0
    cpu_s: float = 0.0
    _since: float = field(default_factory=time.process_time)

    def restart(self) -> None:
        """Count CPU time from now on."""
        self._since = time.process_time()

    def step(self, step: Step) -> None:
        """Count a step, and the time since the last."""
        self.images += step.n_images
        now = time.process_time()
        self.cpu_s, self._since = self.cpu_s + now - self._since, now


def run_unit(data: str, recipe: str, seed: int, folder: Path) -> Row:
    """Train one (recipe, seed), evaluate the eight sub-nets, return the row."""
    torch.set_num_threads(1)
    phases, before, done = recipes()[recipe], Row(images_total=0, cpu_s_total=0.0), rows()

    def needed(other: str) -> Row:
        row = row_of(done, other, seed)
        if row is None:
            raise SystemExit(f"{recipe} needs the row of {other} of seed {seed}; run it first")
        return row

    if recipe == "joint-cpu":
        needed(CHOSEN), needed("joint")
        factor = cpu_factor(done)
        phases = (replace(phases[0], epochs=phases[0].epochs * factor),)
    start_from = None
    if recipe.startswith("ps"):
        before, start_from = needed("full"), folder / f"full-{seed}" / SUPERNET_FILE
    config, opened, meter = settings(data, seed, phases), open_images(data, seed), Meter()
    few = replace(opened, val=replace(opened.val, images=opened.val.images[:200], labels=opened.val.labels[:200]))
    curve: list[float] = []
    held_out = replace(opened, held_out=opened.held_out[::5]).evaluator(config, ALONE, held_out=True)

    def after_epoch(phase: Phase, done: int, net: Supernet) -> None:
        if recipe.startswith("full"):
            curve.append(round(held_out.accuracy(net, net.space.largest(PX)).top1, 2))
        print(f"{phase.name} epoch {done}: {meter.images} images, {meter.cpu_s:.0f} CPU s {curve[-1:]}", flush=True)
        meter.restart()

    out = folder / f"{recipe}-{seed}"
    shutil.rmtree(out, ignore_errors=True)  # a unit without a row was cut off
    events = Events(
        start=lambda *_: meter.restart(),
        step=meter.step,
        epoch=after_epoch,
        stop=lambda: meter.cpu_s > MAX_CPU_S,
    )
    net = train_supernet(TrainingRun(config, few, out, events=events), start_from=start_from)
    evaluator = opened.evaluator(config, ALONE)
    chosen = list(subnets(net.space))[-1 if recipe.startswith("full") else 0 :]
    top1 = {name: round(evaluator.accuracy(net, arch).top1, 2) for name, arch in chosen}
    return {
        "recipe": recipe,
        "seed": seed,
        "evaluated": opened.val.title,
        "top1": top1,
        "mean": round(statistics.mean(top1.values()), 3),
        "curve_held_out": curve,
        "images": meter.images,
        "cpu_s": round(meter.cpu_s, 1),
        "images_total": meter.images + before["images_total"],
        "cpu_s_total": round(meter.cpu_s + before["cpu_s_total"], 1),
        "phases": [asdict(p) for p in phases],
    }


def subnets(space: Space) -> Iterator[tuple[str, Arch]]:
    for d, e, k in SUBNETS:
        yield f"D{d}-E{e}-K{k}", space.uniform(k, e, d, PX)


def paired(table: list[Row], recipe: str, baseline: str) -> dict[str, list[float]]:
    """Sub-net -> its top-1 with a recipe less that with the baseline, for each seed that has both; the mean is last."""
    pairs = [(row_of(table, recipe, s), row_of(table, baseline, s)) for s in SEEDS]
    both = [(a["top1"], b["top1"]) for a, b in pairs if a and b]
    if not both:
        return {}
    found = {name: [a[name] - b[name] for a, b in both] for name in both[0][0]}
    return found | {ALL: [statistics.mean(a[n] - b[n] for n in a) for a, b in both]}


def with_interval(differences: list[float]) -> str:
    """Mean and 95 % t interval."""
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.2f}"
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def summary() -> None:
    """Every row, the curves of the full nets, and the paired differences per sub-net, as Markdown."""
    table = rows()
    print("| recipe | seed | evaluated on | images | CPU s | top-1, mean |\n|---|---|---|---|---|---|")
    for row in table:
        cells = [row["recipe"], row["seed"], row["evaluated"], f"{row['images_total']:,}", f"{row['cpu_s_total']:.0f}"]
        print(f"| {' | '.join(map(str, cells))} | {row['mean']:.2f} |")
    print("\n| full net, held-out images | epoch 5 | 10 | 20 | last ten: lowest | highest | last |")
    print("|---|---|---|---|---|---|---|")
    for row in table:
        if curve := row["curve_held_out"]:
            cells = [*(curve[i - 1] for i in (5, 10, 20)), min(curve[-10:]), max(curve[-10:]), curve[-1]]
            print(f"| {row['recipe']}, seed {row['seed']} | {' | '.join(f'{c:.2f}' for c in cells)} |")
    columns = {f"{CHOSEN} - {baseline}": paired(table, CHOSEN, baseline) for baseline in ("joint", "joint-cpu")}
    columns = {name: found for name, found in columns.items() if found}
    if not columns:
        return
    print(f"\n| sub-net | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in next(iter(columns.values())):
        print(f"| {name} | {' | '.join(with_interval(found[name]) for found in columns.values())} |")
    for column, found in columns.items():
        print(f"\n{column}, {ALL}, seed by seed: {', '.join(f'{d:+.2f}' for d in found[ALL])}")


def main() -> int:
    parser = argparse.ArgumentParser(description="One unit of the shrinking experiment.")
    parser.add_argument("--data", default="")
    parser.add_argument("--recipe", default="full", choices=recipes())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/shrinking"))
    parser.add_argument("--summary", action="store_true", help="print the tables of README.md from results.jsonl")
    arguments = parser.parse_args()
    if arguments.summary:
        summary()
        return 0
    if row_of(rows(), arguments.recipe, arguments.seed) is not None:
        print("this unit has its row already")
        return 0
    row = run_unit(arguments.data, arguments.recipe, arguments.seed, arguments.folder)
    with RESULTS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
    print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
