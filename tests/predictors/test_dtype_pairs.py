"""A float table and an int8 table of one runtime, side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ofa_core.arch_json import arch_to_dict
from ofa_core.blocks import BlockSpec
from ofa_core.cli_app import run_app
from ofa_core.genomes import encode
from ofa_core.spaces import tiny
from ofa_core.table import Context, Entry, LatencyTable
from predictors.answers import answer_by
from predictors.cli import app
from predictors.dtype_pairs import dtype_pairs
from predictors.loading import LatencyFile

SPACE = tiny()
FLOAT = Context(device="box", backend="tflite", delegate="xnnpack")
INT8 = replace(FLOAT, dtype="int8", graph_form="integer", isa="avx2")


def slower_5x5(block: BlockSpec) -> float:
    return 2.0 if block.kernel_px == 5 else 0.5


def write(path: Path, context: Context, factor=lambda block: 1.0, *, n_left_out: int = 0) -> Path:
    blocks = SPACE.all_blocks((24, 28, 32))[n_left_out:]
    entries = {(None, b): Entry(factor(b) * (0.01 + b.macs / 1e7)) for b in blocks}
    LatencyTable(context, entries).write(path)
    return path


def pairs(*paths: Path, fill: bool = False):
    genomes = encode(SPACE, [SPACE.largest(28), SPACE.smallest(32)])

    def predict(path, nets):
        return answer_by(LatencyFile.read(path), SPACE, nets, fill=fill)

    return list(dtype_pairs(SPACE, genomes, [predict(path, genomes) for path in paths], predict))


def test_the_pair_has_the_ratio_and_the_rank(tmp_path):
    a, b = write(tmp_path / "a.csv", FLOAT), write(tmp_path / "b.csv", INT8, slower_5x5)
    (pair,) = pairs(b, a)
    assert pair.resolutions == (28, 32)
    assert 0.5 < pair.ratio < 2
    assert pair.rank < 0.95
    assert "box, tflite-int8 (integer):" in pair.text()
    (same,) = pairs(write(tmp_path / "c.csv", FLOAT), write(tmp_path / "d.csv", INT8, lambda block: 0.25))
    assert (same.ratio, same.rank) == pytest.approx((4, 1))


@pytest.mark.parametrize(
    "change", [{"device": "other"}, {"threads": 2}, {"backend": "onnxruntime", "delegate": "cpu"}, {"batch_size": 8}]
)
def test_tables_of_different_contexts_are_not_paired(tmp_path, change):
    assert not pairs(write(tmp_path / "a.csv", FLOAT), write(tmp_path / "b.csv", replace(INT8, **change)))


def test_two_float_tables_are_not_paired(tmp_path):
    half = replace(FLOAT, dtype="float16")
    assert not pairs(*(write(tmp_path / f"{i}.csv", c) for i, c in enumerate((FLOAT, FLOAT, half))))


def test_the_rank_is_unknown_where_blocks_are_missing(tmp_path):
    used = set(SPACE.blocks(SPACE.largest(28))) | set(SPACE.blocks(SPACE.smallest(32)))
    paths = []
    for name, context in (("a", FLOAT), ("b", INT8)):
        paths.append(tmp_path / f"{name}.csv")
        LatencyTable(context, {(None, b): Entry(0.1) for b in used}).write(paths[-1])
    (pair,) = pairs(*paths)
    assert np.isnan(pair.rank)
    assert pair.text().endswith("unknown (blocks are missing)")


def test_the_command_shows_both(tmp_path, capsys):
    a, b = write(tmp_path / "a.csv", FLOAT), write(tmp_path / "b.csv", INT8, slower_5x5)
    arch = tmp_path / "arch.json"
    arch.write_text(json.dumps(arch_to_dict(SPACE.largest(28), SPACE)))
    words = [str(arch), "--lut", str(a), "--lut", str(b)]
    assert run_app(app, [*words, "--json"], prog="ofa-predict") == 0
    assert [row["dtype"] for row in json.loads(capsys.readouterr().out)["predictions"]] == ["float32", "int8"]
    assert run_app(app, words, prog="ofa-predict") == 0
    shown = capsys.readouterr()
    assert "box, int8" in shown.out
    assert "box, tflite-int8 (integer)" in shown.err
