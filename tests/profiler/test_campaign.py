"""Profiles of a synthetic device with known latencies, from the plan to the files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_device, run, true_ms

from ofa_core.errors import ContextMismatchError, FormatError
from ofa_core.jsonlines import set_aside
from ofa_core.measured_networks import calibration_of, networks_path, read_networks
from ofa_core.spaces import tiny
from ofa_core.table import LatencyTable
from profiler.campaign import journal_path
from profiler.journal import read_journal
from profiler.settings import Settings


def test_a_steady_device_is_measured_exactly(tmp_path: Path) -> None:
    result = run(make_device(), tmp_path / "t.csv")
    assert len(result.table) == len(tiny().all_blocks((28, 32)))
    for (px, block), entry in result.table.entries.items():
        assert px is None
        assert entry.latency_ms == pytest.approx(true_ms([block]), rel=1e-4)
        assert entry.n_processes == 3
        assert entry.status == "ok"
    assert len(result.networks) == 8
    for net in result.networks:
        assert net.latency_ms == pytest.approx(net.sum_ms, rel=1e-4)
        assert net.role == "reference"


def test_a_space_with_few_sub_nets_is_measured_with_all_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stages = tuple(replace(stage, depths=(1,)) for stage in tiny().stages)
    space = replace(tiny(), name="few", stages=stages, kernels=(3,), expands=(3, 6))
    two_sizes = run(make_device(), tmp_path / "t.csv", space=space, n_reference=8)
    assert len({net.arch for net in two_sizes.networks}) == 8  # 4 sub-nets at 2 resolutions
    assert not caplog.records
    all_of_them = run(make_device(), tmp_path / "u.csv", space=space, n_reference=24)
    assert {net.arch for net in all_of_them.networks} == {net.arch for net in two_sizes.networks}
    assert [record.getMessage() for record in caplog.records] == [
        "fake: only 8 distinct networks of few exist at these resolutions (24 requested); all of them are measured"
    ]


def test_two_speeds_and_preemptions_leave_the_table_right_to_a_percent(tmp_path: Path) -> None:
    result = run(make_device(noisy=True), tmp_path / "t.csv", settings=Settings(n_processes=3, max_rounds=15, seed=3))
    ratio = np.array([e.latency_ms / true_ms([b]) for (_, b), e in result.table.entries.items()])  # type: ignore[operator]
    assert ratio.std() / ratio.mean() < 0.012
    assert 1.0 <= ratio.mean() <= 1.41
    assert result.measured.n_dropped > 0
    c = calibration_of(result.networks, result.table)
    assert c is not None
    assert c.loo_mape < 0.02
    raw = np.array([e.median_ms / true_ms([b]) for (_, b), e in result.table.entries.items()])  # type: ignore[operator]
    assert raw.std() / raw.mean() > 3 * ratio.std() / ratio.mean()  # without the probe it would be much worse


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    result = run(make_device(), out)
    table = LatencyTable.read(out)
    assert table.entries == result.table.entries
    assert table.context == result.table.context
    assert table.context.clock in ("wall", "cpu")
    assert table.context.statistic.startswith("mean@")
    assert read_networks(networks_path(out), table.context) == result.networks


def test_a_journal_of_something_else_is_refused_unless_fresh(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    run(make_device(), out)
    with pytest.raises(ContextMismatchError, match=r"batch_size|context.*--fresh"):
        run(make_device(), out, batch_size=2)
    set_aside(journal_path(out))
    result = run(make_device(), out, batch_size=2)
    assert result.table.context.batch_size == 2
    assert journal_path(out).with_name("t.journal.jsonl.1").exists()


def test_a_damaged_journal_is_one_clear_error(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    run(make_device(), out)
    lines = journal_path(out).read_bytes().splitlines(keepends=True)
    lines[3] = b'{"p": 0, "broken": true}\n'
    journal_path(out).write_bytes(b"".join(lines))
    with pytest.raises(FormatError, match="line 4"):
        run(make_device(), out)


def test_chunks_share_anchors_and_cover_everything(tmp_path: Path) -> None:
    device = make_device()
    device.facts_text = device.facts_text.replace("4000000 kB", "120000 kB")
    result = run(device, tmp_path / "t.csv")
    header = read_journal(journal_path(tmp_path / "t.csv")).header
    assert len(header["chunks"]) > 1
    anchors = set.intersection(*(set(c) for c in header["chunks"]))
    assert len(anchors) == 4
    assert set().union(*header["chunks"]) == set(range(len(header["items"])))
    assert all(
        math.isclose(e.latency_ms or 0, true_ms([b]), rel_tol=1e-4) for (_, b), e in result.table.entries.items()
    )
