"""Files of version 0.1.0 keep loading, and keep giving the numbers that version 0.1.0 gave."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.target import Target
from ofa_core.arch_json import arch_from_dict
from ofa_core.cli_app import run_app
from ofa_core.search.saved import read_folder
from ofa_core.spaces import get_space
from ofa_core.table import LatencyTable
from predictors.loading import load_accuracy, load_latency
from predictors.persistence import load_predictor
from profiler.journal import read_journal

FILES = Path(__file__).parent / "data" / "v0_1"
EXPECTED: dict[str, Any] = json.loads((FILES / "expected.json").read_text())
TINY = get_space("tiny")


def archs(name: str = "archs"):
    space = TINY if name == "archs" else get_space("mbv3-w1.0")
    return [arch_from_dict(values, space) for values in EXPECTED[name]]


@pytest.mark.parametrize("name", sorted(EXPECTED["predictors"]))
def test_a_predictor(name: str) -> None:
    predictor = load_predictor(FILES / "predictors" / f"{name}.predictor")
    found = predictor.predict(archs("large_archs" if name == "builtin" else "archs"), return_interval=True)
    expected = EXPECTED["predictors"][name]
    for values, key in zip(found, ("y", "low", "high"), strict=True):
        np.testing.assert_allclose(values, expected[key], rtol=1e-6)


def test_a_table_with_its_networks() -> None:
    table = LatencyTable.read(FILES / "tiny.csv")
    assert table.context.device == "local"
    assert len(table) == len(TINY.all_blocks((24, 28, 32)))
    predictor = load_latency(FILES / "tiny.csv", TINY)
    np.testing.assert_allclose(predictor.predict(archs()), EXPECTED["table_with_networks"], rtol=1e-6)


def test_networks_alone() -> None:
    predictor = load_latency(FILES / "tiny.networks.csv", TINY)
    np.testing.assert_allclose(predictor.predict(archs()), EXPECTED["networks_alone"], rtol=1e-6)


def test_an_accuracy_table() -> None:
    model = load_accuracy(str(FILES / "accuracy.csv"), TINY)
    np.testing.assert_allclose(model.predict(archs()), EXPECTED["accuracy"], rtol=1e-6)


def test_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "tiny.journal.jsonl"
    path.write_bytes(gzip.decompress((FILES / "tiny.journal.jsonl.gz").read_bytes()))
    visits = read_journal(path).visits.values()
    assert len(visits) == EXPECTED["journal"]["visits"]
    assert sum(sum(visit.wall_ns) for visit in visits) == EXPECTED["journal"]["wall_ns"]


def test_a_search_folder() -> None:
    folder = read_folder(FILES / "search")
    assert folder.space == TINY
    assert [[c.predicted_ms, c.top1] for c in folder.candidates] == EXPECTED["search"]["candidates"]
    assert len(folder.front.latency_ms) == EXPECTED["search"]["front"]


def test_a_devices_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FILES)
    target = Target.parse("pixel2")
    assert (target.backend, target.threads, target.cpus) == ("tflite", 1, (4, 5))
    assert target.work_dir == "/data/local/tmp/ofa"


@pytest.mark.torch
def test_a_training_recipe() -> None:
    pytest.importorskip("torch")
    from ofa_core.train.config import build_space, read_config

    config = read_config(FILES / "recipe.toml")
    space = build_space(config.space, 7)
    assert (space.first_stride, [stage.stride for stage in space.stages], space.n_classes) == (1, [1, 2], 7)
    assert (config.recipe.name, config.run.seed) == ("sandwich", 3)


@pytest.mark.torch
def test_a_supernet() -> None:
    torch = pytest.importorskip("torch")
    from ofa_core.formats.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(FILES / "digits" / "supernet.pt")
    image = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    for px, expected in EXPECTED["supernet"].items():
        arch = checkpoint.space.largest(int(px))
        with torch.no_grad():
            found = checkpoint.net.eval()(image[..., : int(px), : int(px)], arch).flatten().tolist()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.torch
def test_training_goes_on_from_a_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from ofa_core.train.cli import app

    run = tmp_path / "digits"
    run.mkdir()
    for name in ("log.csv", "phases.csv"):
        shutil.copy(FILES / "digits" / name, run)
    (run / "run-0000000035.pt").write_bytes(lzma.decompress((FILES / "digits" / "run-0000000035.pt.xz").read_bytes()))
    assert run_app(app, ["--out", str(run), "--epochs", "2", "--resume"], prog="ofa-train") == 0
    said = capsys.readouterr().err
    assert "expand1: 10 of 10" in said
    assert "kernel" not in said  # a phase that the state has behind it
    assert (run / "supernet.pt").exists()
