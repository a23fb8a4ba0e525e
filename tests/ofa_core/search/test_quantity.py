"""Quantities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ofa_core.genomes import encode
from ofa_core.search.quantity import (
    MMACS,
    SCORE,
    TOP1,
    Description,
    Quantity,
    accuracy_quantity,
    block_sum,
    latency_quantity,
)
from ofa_core.space import Space


def test_a_block_sum_is_exact_and_keeps_its_table(small: Space) -> None:
    archs = [small.largest(), small.smallest()]
    mmacs = block_sum(MMACS, small, small.resolutions, lambda block: block.macs / 1e6)
    genomes = encode(small, archs)
    assert mmacs.values(genomes) == pytest.approx([small.macs(arch) / 1e6 for arch in archs])
    assert mmacs.table is not None
    assert mmacs.table.sum(genomes) == pytest.approx(mmacs.values(genomes))
    assert mmacs.description == MMACS


def test_a_scaled_latency_scales_values_table_and_interval(small: Space, stand_ins: Any) -> None:
    genomes = encode(small, [small.largest(), small.smallest()])
    latency = latency_quantity(stand_ins.latency(small, small.resolutions))
    scaled = latency.scaled(1.5)
    assert scaled.values(genomes) == pytest.approx(1.5 * latency.values(genomes))
    assert latency.interval is not None
    assert scaled.interval is not None
    for mine, theirs in zip(scaled.interval(genomes, 0.8), latency.interval(genomes, 0.8), strict=True):
        assert mine == pytest.approx(1.5 * theirs)
    macs = block_sum(MMACS, small, small.resolutions, lambda block: block.macs / 1e6).scaled(2.0)
    assert macs.table is not None
    assert macs.table.sum(genomes) == pytest.approx(macs.values(genomes))


def test_a_latency_without_calibration_has_no_interval(small: Space, stand_ins: Any) -> None:
    assert latency_quantity(stand_ins.latency(small, small.resolutions, margin=None)).interval is None


def test_a_proxy_is_a_score_and_not_a_percentage(small: Space, stand_ins: Any) -> None:
    model = stand_ins.accuracy(small)
    assert accuracy_quantity(model).description == TOP1
    model.label = "proxy:macs"
    assert accuracy_quantity(model).description == SCORE


def test_texts_of_a_quantity() -> None:
    plain = Quantity("n_layers", lambda genomes: np.zeros(len(genomes)))
    assert plain.description == Description("n_layers", "n_layers", "", "min")
    assert (plain.description.title, plain.description.shown(4.0)) == ("N_layers", "4")
    memory = Description("memory_mb", "peak memory", "MB")
    assert (memory.title, memory.shown(12.5)) == ("Peak memory (MB)", "12.5 MB")
