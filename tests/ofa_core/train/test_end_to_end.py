"""The whole chain, through the command lines, from training to a deployed file that keeps a measured limit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(900)]

from ofa_core.arch import Arch  # noqa: E402
from ofa_core.arch_json import arch_from_dict, write_arch  # noqa: E402
from ofa_core.cli_app import run_app  # noqa: E402
from ofa_core.formats.checkpoint import read_checkpoint  # noqa: E402
from ofa_core.search import cli as search  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train import cli as train  # noqa: E402
from ofa_core.train.images import normalise, resize_for_evaluation  # noqa: E402
from ofa_core.train.sources import open_sources  # noqa: E402
from profiler import cli as profile  # noqa: E402
from profiler.model_files import WRITERS, ModelStore  # noqa: E402
from profiler.plan import Item, NetworkItem  # noqa: E402

SPACE = tiny()


@pytest.fixture
def call(capsys):
    def run(program, *words, codes=(0,)) -> str:
        code = run_app(program.app, [str(w) for w in words], prog="ofa")
        captured = capsys.readouterr()
        assert code in codes, captured.err
        return captured.out

    return run


@pytest.fixture
def verify(call, tmp_path):
    """Measure whole networks in new processes: by architecture, (lowest, likely, highest) milliseconds."""

    def measure(lut: Path, *archs: Arch) -> dict[Arch, tuple[float, float, float]]:
        words = []
        for i, arch in enumerate(archs):
            write_arch(tmp_path / f"verified-{i}.json", arch, SPACE)
            words += ["--arch", tmp_path / f"verified-{i}.json"]
        nets = json.loads(call(profile, "verify", "--lut", lut, *words, "--budget-s", 20, "--json"))["networks"]
        ends = [(2 * net["latency_ms"] - net["upper_ms"], net["latency_ms"], net["upper_ms"]) for net in nets]
        return dict(zip([arch_from_dict(net["arch"], SPACE) for net in nets], ends, strict=True))

    return measure


def validation_images(px: int, preprocessing) -> tuple[np.ndarray, np.ndarray]:
    _, val = open_sources("digits")
    photos = [resize_for_evaluation(val.load(i), px, preprocessing) for i in range(len(val.labels))]
    return normalise(np.stack(photos), preprocessing), val.labels


def test_from_training_to_a_deployed_net_within_its_measured_limit(call, verify, run_file, tmp_path, monkeypatch):
    run, table, lut = tmp_path / "run", tmp_path / "accuracy.csv", tmp_path / "lut.csv"
    call(train, "--out", run, "--epochs", 10)
    call(train, "accuracy-table", run / "supernet.pt", "--n", 40, "--images", 300, "--out", table)
    # Exit code 3: measured, but the machine was not quiet. What follows knows how wide the intervals are.
    call(profile, "--space", "tiny", "--budget-s", 25, "--out", lut, codes=(0, 3))

    # The limit is halfway between two networks that were measured here.
    smallest, largest = SPACE.smallest(), SPACE.largest()
    ends = verify(lut, smallest, largest)
    limit_ms = (ends[smallest][1] + ends[largest][1]) / 2
    words = ("--lut", lut, "--space", "tiny", "--accuracy", table, "--max-latency-ms", limit_ms)
    found = json.loads(
        call(
            search, *words, "--measure", "local", "--budget-s", 15, "--no-report", "--json", "--out", tmp_path / "found"
        )
    )
    with (tmp_path / "found/measured.csv").open() as stream:
        winners = [row for row in csv.DictReader(stream) if row["winner"] == "1"]
    assert len(winners) >= 2
    assert all(float(row["high_ms"]) <= limit_ms for row in winners)

    sub, files = tmp_path / "sub.pt", {suffix: tmp_path / f"sub.{suffix}" for suffix in ("onnx", "tflite")}
    call(train, "calibrate", tmp_path / "found/arch.json", "--weights", run / "supernet.pt", "--out", sub)
    for file in files.values():
        call(train, "export", sub, "--out", file)

    read = read_checkpoint(sub)
    images, labels = validation_images(read.arch.resolution_px, read.preprocessing)
    with torch.no_grad():
        logits = read.net(torch.from_numpy(images)).numpy()
    top1 = 100 * float((logits.argmax(1) == labels).mean())
    assert top1 > 60  # chance is 10
    for suffix, file in files.items():
        deployed = run_file(file, images)
        np.testing.assert_allclose(deployed, logits, atol=1e-4 * np.abs(logits).max())
        assert abs(100 * float((deployed.argmax(1) == labels).mean()) - top1) <= 0.1, suffix

    measured: list[bytes] = []
    random_weights = WRITERS[".onnx"]

    def trained_or_random(store: ModelStore, item: Item) -> bytes:
        """Return the trained file of the deployed network, and a model with random weights for all else."""
        if item != NetworkItem(SPACE, read.arch):
            return random_weights(store, item)
        measured.append(files["onnx"].read_bytes())
        return measured[-1]

    monkeypatch.setitem(WRITERS, ".onnx", trained_or_random)
    again = verify(lut, read.arch, largest)
    assert measured
    # The loop promises the limit with the upper ends of two intervals. This is a third session, with an error of its
    # own: the promise is broken if its whole 90 % interval lies beyond the limit. A busy machine widens the interval
    # and so cannot break it.
    assert again[read.arch][0] <= limit_ms, (again, ends)
    assert again[largest][1] > limit_ms, (again, ends)  # the same check, of a network that does not hold the limit
    print(
        f"top-1 {top1:.2f} %; limit {limit_ms:.4f} ms, promised {found['measured']['high_ms']:.4f}, "
        "the trained file took {:.4f} ({:.4f} to {:.4f})".format(*(again[read.arch][i] for i in (1, 0, 2)))
    )
