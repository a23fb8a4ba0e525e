from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import true_ms

from ofa_core.context import statistic_name
from ofa_core.errors import TableError
from ofa_core.spaces import mobilenet_v3, tiny
from ofa_core.table import Context, Entry, LatencyTable
from profiler.cli import main
from profiler.compare import compare


def table(noise: float = 0.0, seed: int = 0, factor: float = 1.0, ref_us: float = 200.0) -> LatencyTable:
    rng = np.random.default_rng(seed)
    context = Context("dev", "onnxruntime", "1.0", statistic=statistic_name(ref_us * 1e3))
    entries = {}
    for block in mobilenet_v3().all_blocks([160]):
        ms = true_ms([block]) * factor * (1 + noise * rng.standard_normal())
        entries[None, block] = Entry(ms, n_samples=100, n_processes=5, ci90_ms=2 * noise * ms)
    return LatencyTable(context, entries)


def test_noise_is_not_reported_as_a_change() -> None:
    result = compare(table(0.01, 1), table(0.01, 2))
    assert not result.changed
    assert result.n_common == 96
    assert result.spread == pytest.approx(0.014, rel=0.4)


def test_a_changed_block_stands_out_of_noise_and_of_the_common_shift() -> None:
    old, new = table(0.01, 1), table(0.01, 2, factor=1.2)
    key = list(new.entries)[40]
    new = new.with_entries({key: replace(new.entries[key], latency_ms=1.5 * (new.entries[key].latency_ms or 0))})
    result = compare(old, new)
    assert result.shifted
    assert result.shift == pytest.approx(1.2, abs=0.01)
    assert [c.block for c in result.changes] == [key[1]]
    assert result.changes[0].ratio == pytest.approx(1.5, abs=0.06)


def test_another_reference_speed_is_not_a_shift() -> None:
    result = compare(table(ref_us=200), table(factor=1.3, ref_us=260))
    assert not result.changed
    assert result.shift == pytest.approx(1.0)


def test_context_and_coverage_are_printed() -> None:
    old = table()
    keys = list(old.entries)
    new = LatencyTable(replace(old.context, threads=2), {k: old.entries[k] for k in keys[:50]})
    result = compare(old, new)
    assert result.context == ("threads 1 != 2",)
    assert (result.n_common, result.only_old, result.only_new) == (50, 46, 0)


def in_int8(table: LatencyTable, isa: str = "avx2") -> LatencyTable:
    return LatencyTable(replace(table.context, dtype="int8", graph_form="integer", isa=isa), table.entries)


def test_tables_in_int8_are_compared_like_others() -> None:
    result = compare(in_int8(table(0.01, 1)), in_int8(table(0.01, 2)))
    assert not result.changed
    assert result.context == ()
    other_isa = compare(in_int8(table()), in_int8(table(), "avx2 avx512_vnni"))
    assert other_isa.context == ("isa 'avx2' != 'avx2 avx512_vnni'",)


def test_a_table_in_int8_against_one_in_float_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "float.csv", tmp_path / "int8.csv"]
    for path, found in zip(paths, (table(), in_int8(table(factor=0.5))), strict=True):
        found.write(path)
    for old, new, said in ((*paths, "'float32' != 'int8'"), (*paths[::-1], "'int8' != 'float32'")):
        monkeypatch.setattr(sys, "argv", ["ofa-profile", "compare", str(old), str(new)])
        assert main() == 3
        assert f"dtype {said}" in capsys.readouterr().out


def test_tables_with_nothing_in_common_are_refused() -> None:
    other = LatencyTable(Context(), {(None, b): Entry(1.0) for b in tiny().all_blocks()})
    with pytest.raises(TableError, match="no block"):
        compare(table(), other)
