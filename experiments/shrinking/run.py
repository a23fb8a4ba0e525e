"""One unit of the experiment: one recipe, one seed, one row of results. README.md has the protocol."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from scipy import stats

from ofa_core.space import Space
from ofa_core.train.config import Config, DataConfig, RunConfig, SpaceConfig, build_space
from ofa_core.train.distributed import ALONE
from ofa_core.train.images import Augmentation
from ofa_core.train.loop import Step
from ofa_core.train.phases import Phase
from ofa_core.train.run import SUPERNET_FILE, Events, open_data, train_supernet

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
MAX_S = 25 * 60
SPACE = SpaceConfig("mbv3-w0.25", first_stride=2, stage_strides=(2, 1, 2, 1, 1), resolutions=(24,), dropout=0.0)
N_FULL, N_ELASTIC = 25, 15
# (depth, expand ratio, kernel size)
SUBNETS = [(d, e, k) for d in (2, 4) for e in (3, 6) for k in (3, 7)]


def phases_of(recipe: str, epochs: float | None) -> tuple[Phase, ...]:
    """The phases of a recipe; `ps-*` are what follows the full net."""
    start = Phase("full", N_FULL, 0.1, warmup_epochs=0, batch_size=128, label_smoothing=0.0, dropout=0.0)
    full = replace(start, kernels=(7,), expands=(6,), n_depths=1)
    later = replace(start, lr=0.03, kd_ratio=1.0)
    if recipe == "full":
        return (full,)
    if recipe == "ps":
        return (
            replace(later, name="kernel", epochs=5, expands=(6,), n_depths=1),
            replace(later, name="depth1", epochs=2, expands=(6,), n_depths=2, subnets_per_step=2),
            replace(later, name="depth2", epochs=3, expands=(6,), subnets_per_step=2),
            replace(later, name="expand1", epochs=2, expands=(4, 6), subnets_per_step=4, sort_kept=()),
            replace(later, name="expand2", epochs=3, subnets_per_step=4, sort_kept=(4,)),
        )
    if recipe in ("ps-warm", "ps-nokd"):
        kd = 1.0 if recipe == "ps-warm" else 0.0
        return (replace(later, name="all", epochs=N_ELASTIC, subnets_per_step=2, kd_ratio=kd, sort_kept=()),)
    n = N_FULL + N_ELASTIC if epochs is None else epochs
    if recipe in ("joint", "joint-cpu"):
        return (replace(start, name="joint", epochs=n),)
    if recipe == "sandwich":
        return (replace(start, name="sandwich", epochs=n, subnets_per_step=4, sampling="sandwich", kd_ratio=1.0),)
    raise SystemExit(f"recipe {recipe!r}: full, ps, ps-warm, ps-nokd, joint, joint-cpu or sandwich")


def settings(data: str, seed: int, phases: tuple[Phase, ...]) -> Config:
    return Config(
        space=SPACE,
        data=DataConfig(data, held_out=5000, n_calibration=2000),
        augmentation=Augmentation(scale=(0.5, 1.0), brightness=0.0, saturation=0.0),
        preprocessing=replace(Config().preprocessing, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26), resize="direct"),
        phase=phases,
        run=RunConfig(seed=seed, device="cpu", checkpoint_s=120),
    )


def rows() -> list[dict[str, object]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def row_of(recipe: str, seed: int) -> dict[str, object] | None:
    return next((r for r in rows() if (r["recipe"], r["seed"]) == (recipe, seed)), None)


def run_unit(data: str, recipe: str, seed: int, folder: Path, *, resume: bool) -> dict[str, object]:
    """Train one (recipe, seed), evaluate the eight sub-nets, return the row."""
    torch.set_num_threads(1)
    epochs = None
    if recipe == "joint-cpu":
        ps, joint = row_of("ps", seed), row_of("joint", seed)
        if ps is None or joint is None:
            raise SystemExit("joint-cpu needs the rows of ps and joint of this seed, whose CPU times it compares")
        epochs = (N_FULL + N_ELASTIC) * float(str(ps["cpu_s_total"])) / float(str(joint["cpu_s_total"]))
    follows = recipe.startswith("ps")
    before = row_of("full", seed) if follows else None
    if follows and before is None:
        raise SystemExit(f"{recipe} needs the row of full of seed {seed}")
    config = settings(data, seed, phases_of(recipe, epochs))
    opened = open_data(config)
    out = folder / f"{recipe}-{seed}"
    images, started, cpu = 0, time.monotonic(), time.process_time()
    spent = out / "spent.json"
    earlier = json.loads(spent.read_text()) if resume and spent.exists() else {"images": 0, "cpu_s": 0.0}

    def count(step: Step) -> None:
        nonlocal images
        images += step.n_images

    def stop() -> bool:
        late = time.monotonic() - started > MAX_S
        if late:
            spent.write_text(json.dumps({"images": earlier["images"] + images, "cpu_s": used()}))
        return late

    def used() -> float:
        return float(earlier["cpu_s"]) + time.process_time() - cpu

    net = train_supernet(
        config,
        out,
        opened,
        ALONE,
        resume=resume,
        start_from=folder / f"full-{seed}" / SUPERNET_FILE if follows else None,
        events=Events(step=count, stop=stop, warn=lambda line: print(line, file=sys.stderr)),
    )
    cpu_s, images = used(), images + int(earlier["images"])
    evaluator = opened.evaluator(config, ALONE)
    space = build_space(SPACE, 10)
    top1 = {name: round(evaluator.accuracy(net, arch).top1, 2) for name, arch in subnets(space)}
    whole = before or {"images_total": 0, "cpu_s_total": 0.0}
    return {
        "recipe": recipe,
        "seed": seed,
        "top1": top1,
        "mean": round(statistics.mean(top1.values()), 3),
        "images_total": images + int(str(whole["images_total"])),
        "cpu_s_total": round(cpu_s + float(str(whole["cpu_s_total"])), 1),
        "phases": [asdict(p) for p in config.phase],
    }


def subnets(space: Space) -> Iterator[tuple[str, object]]:
    for d, e, k in SUBNETS:
        yield f"D{d}-E{e}-K{k}", space.uniform(k, e, d, 24)


def summary() -> None:
    """Paired differences to the joint recipes over seeds, with 95 % t intervals."""
    table = rows()
    for row in table:
        print(f"{row['recipe']:10s} seed {row['seed']:3d}  mean {row['mean']:6.2f}  {row['cpu_s_total']:8.0f} CPU s")
    for baseline in ("joint", "joint-cpu"):
        for recipe in sorted({str(r["recipe"]) for r in table} - {baseline, "full"}):
            pairs = [(row_of(recipe, s), row_of(baseline, s)) for s in (0, 1, 2, 3, 4)]
            differences = [float(str(a["mean"])) - float(str(b["mean"])) for a, b in pairs if a and b]
            if not differences:
                continue
            mean = statistics.mean(differences)
            text = f"{recipe} - {baseline}: {mean:+.2f} points over {len(differences)} seeds"
            if len(differences) > 1:
                half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
                text += f", 95 % interval {mean - half:+.2f} to {mean + half:+.2f}"
            print(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="One unit of the shrinking experiment.")
    parser.add_argument("--data", default="")
    parser.add_argument("--recipe", default="full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/shrinking"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    if arguments.summary:
        summary()
        return 0
    if row_of(arguments.recipe, arguments.seed) is not None:
        print("this unit has its row already")
        return 0
    row = run_unit(arguments.data, arguments.recipe, arguments.seed, arguments.folder, resume=arguments.resume)
    with RESULTS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
    print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
