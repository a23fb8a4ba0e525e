"""Tables at batch sizes that were not measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.cli_app import run_app
from ofa_core.context import statistic_name
from ofa_core.errors import ContextMismatchError, PredictorError, TableError
from ofa_core.spaces import get_space
from ofa_core.table import Context, Entry, Key, LatencyTable
from predictors.batch_size import at_batch, inner_errors, sharpness, table_at_batch
from predictors.cli import app

START, WORK = np.array([0.02, 0.5, 0.0]), np.array([0.1, 0.01, 0.3])
SIZES = (1, 4, 16)


def law(batch_size: float, p: float) -> Any:
    return (START**p + (WORK * batch_size) ** p) ** (1 / p)


@pytest.mark.parametrize("p", [1.0, 2.0, 4.0])
def test_its_own_law_is_followed_everywhere(p: float) -> None:
    known = np.array([law(b, p) for b in SIZES])
    for b in (1, 2, 4, 7, 16, 64):
        assert at_batch(SIZES, known, b, p) == pytest.approx(law(b, p))
    assert sharpness(SIZES, known) == p
    assert inner_errors(SIZES, known, p) == pytest.approx(np.zeros((1, 3)), abs=1e-12)


def test_beyond_the_ends_it_neither_falls_nor_outruns_the_batch() -> None:
    faster = np.array([[1.0, 2.0], [0.9, 1.0]])  # noise: a larger batch took less
    for p in (1.0, 4.0):
        assert at_batch((2, 4), faster, 8, p) == pytest.approx([0.9, 1.0])
        assert at_batch((2, 4), faster, 1, p) == pytest.approx([1.0, 2.0])
    steep = np.array([[1.0], [8.0]])  # twice the batch, eight times the time
    for p in (1.0, 4.0):
        assert at_batch((2, 4), steep, 8, p) == pytest.approx([16.0])
        assert at_batch((2, 4), steep, 1, p) == pytest.approx([0.5])
    assert at_batch((2, 4), steep, 3, 1.0).tolist() == [4.5]


def tables(space: Any, context: Context, p: float = 1.0) -> list[LatencyTable]:
    keys: list[Key] = [(None, block) for block in space.all_blocks(space.resolutions[:1])]
    out = []
    for b in SIZES:
        ms = [(0.01**p + (b * 1e-6 * (10 + block.macs)) ** p) ** (1 / p) for _, block in keys]
        entries = {key: Entry(t) for key, t in zip(keys, ms, strict=True)}
        out.append(LatencyTable(replace(context, batch_size=b, statistic=statistic_name(1e5 * b)), entries))
    return out


@pytest.fixture
def context(make_table: Any) -> Context:
    return make_table(get_space("tiny"), ()).context


def test_a_table_between_others(tiny_space: Any, context: Context) -> None:
    low, mid, high = tables(tiny_space, context, 4.0)
    found, error = table_at_batch([high, low, mid], 8)
    assert error is not None
    assert error < 1e-9
    assert found.context == replace(context, batch_size=8, statistic="mean@800.000us")
    for (_, block), entry in found.entries.items():
        assert entry.status == "filled"
        assert entry.latency_ms == pytest.approx((0.01**4 + (8e-6 * (10 + block.macs)) ** 4) ** 0.25)
        assert entry.ci90_ms == pytest.approx(0, abs=1e-9)
    two, unknown = table_at_batch([low, high], 8)
    assert unknown is None
    assert {entry.ci90_ms for entry in two.entries.values()} == {None}


def test_blocks_that_one_table_lacks_are_left_out(tiny_space: Any, context: Context) -> None:
    low, _, high = tables(tiny_space, context)
    first, second, *rest = low.entries
    partly = LatencyTable(low.context, {first: Entry(None, status="failed"), **{key: low.entries[key] for key in rest}})
    found, _ = table_at_batch([partly, high], 2)
    assert list(found.entries) == rest
    assert second in high.entries


def test_what_does_not_go_together_is_refused(tiny_space: Any, context: Context) -> None:
    low, mid, high = tables(tiny_space, context)
    with pytest.raises(ContextMismatchError, match="threads 1 != 2"):
        table_at_batch([low, LatencyTable(replace(high.context, threads=2), high.entries)], 8)
    with pytest.raises(PredictorError, match="batch size 4 was measured already"):
        table_at_batch([low, mid], 4)
    with pytest.raises(TableError, match="'median' has no reference speed"):
        table_at_batch([low, LatencyTable(replace(high.context, statistic="median"), high.entries)], 8)
    for given in ([low], [low, low]):
        with pytest.raises(PredictorError, match="at least two different ones are needed"):
            table_at_batch(given, 4)
    with pytest.raises(PredictorError, match="the tables have no block in common"):
        table_at_batch([low, LatencyTable(high.context, {})], 4)


def test_the_command(tiny_space: Any, context: Context, tmp_path: Path, capsys: Any) -> None:
    def call(*words: Any) -> tuple[int, str, str]:
        code = run_app(app, [str(word) for word in words], prog="ofa-predict")
        return code, *capsys.readouterr()

    paths = []
    for table in tables(tiny_space, context):
        paths.append(tmp_path / f"b{table.context.batch_size}.csv")
        table.write(paths[-1])
    out = tmp_path / "b8.csv"
    code, text, err = call("batch", 8, *paths, "--out", out)
    assert code == 0
    assert f"{out}: {len(LatencyTable.read(out))} blocks estimated at batch size 8; leave-one-out error" in text
    assert "--nets 12 --batch-size 8" in err
    assert LatencyTable.read(out).context.batch_size == 8
    code, text, _ = call("batch", 8, paths[0], paths[2], "--out", out)
    assert "error unknown (it needs three batch sizes)" in text
    out.unlink()
    code, _, err = call("batch", 4, *paths, "--out", out)
    assert code == 1
    assert err.startswith("ofa-predict: batch size 4 was measured")
    assert not out.exists()
