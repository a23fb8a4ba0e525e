"""From nothing to an exported, evaluated network in five commands, with a photo folder and a hub on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
image = pytest.importorskip("PIL.Image", reason="needs pillow")
pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(600)]

from ofa_core.cli_app import run_app  # noqa: E402
from ofa_core.formats.checkpoint import read_checkpoint  # noqa: E402
from ofa_core.formats.published_weights import write_published  # noqa: E402
from ofa_core.nn.supernet import Supernet  # noqa: E402
from ofa_core.search import cli as search  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train import cli as train  # noqa: E402
from ofa_core.train.sources import open_sources  # noqa: E402
from profiler import cli as profile  # noqa: E402

NAMES = ("zero", "one", "two", "three", "four")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of the first five digits as PNG files, in folders of the classes."""
    for part, source in zip(("train", "val"), open_sources("digits"), strict=True):
        for i, label in enumerate(source.labels):
            if label < len(NAMES):
                folder = tmp_path / "photos" / part / NAMES[label]
                folder.mkdir(parents=True, exist_ok=True)
                image.fromarray(np.asarray(source.load(i))).save(folder / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def published(mirror, hub, tmp_path: Path) -> str:
    """A supernet of ten classes, published as the authors do, with random weights; its name."""
    write_published(tmp_path / "tiny_supernet", Supernet(tiny(), seed=1))
    file = mirror.add("nets/tiny_supernet", (tmp_path / "tiny_supernet").read_bytes())
    hub([{"name": "tiny_supernet", "kind": "supernet", "space": "tiny", "preprocessing": "half", "files": [file]}])
    return "hub:tiny_supernet"


def test_five_commands_from_photos_to_an_exported_network(photos, published, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(program, *words: object, codes: tuple[int, ...] = (0,)) -> str:
        capsys.readouterr()
        code = run_app(program.app, [str(w) for w in words], prog="ofa")
        captured = capsys.readouterr()
        assert code in codes, captured.err
        return captured.out

    data = ("--data", f"imagefolder:{photos}")
    call(profile, "--space", published, "--budget-s", 12, "--out", "lut.csv", codes=(0, 3))  # 3: a busy machine
    call(search, "--lut", "lut.csv", "--accuracy", "proxy:macs", "--max-latency-ms", 1000, "--no-report")
    tuned = call(
        train,
        "finetune",
        "search/arch.json",
        "--weights",
        published,
        *data,
        "--new-classifier",
        "--epochs",
        8,
        "--batch-size",
        16,
        "--lr",
        0.03,
    )
    evaluated = call(train, "evaluate", "subnet.pt", *data)
    call(train, "export", "subnet.pt", *data, "--out", "subnet.onnx")

    before, after = (float(line.split()[-4]) for line in tuned.splitlines()[1:])
    top1 = float(evaluated.splitlines()[1].split()[-4])
    assert top1 == after > 50 > before  # chance is 20
    assert read_checkpoint(Path("subnet.pt")).classes == tuple(sorted(NAMES))
    assert Path("subnet.onnx").stat().st_size > 10_000
