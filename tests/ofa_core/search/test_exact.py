"""Exact results on small spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ofa_core.genomes import decode, encode
from ofa_core.search.exact import cheapest, every_genome
from ofa_core.search.quantity import Description, block_sum
from ofa_core.space import Space


def test_every_genome_is_the_whole_space_once(small: Space) -> None:
    everything = every_genome(small, small.resolutions)
    assert len(np.unique(everything, axis=0)) == len(everything) == small.size
    assert (encode(small, decode(small, everything)) == everything).all()


def test_the_cheapest_is_exact_for_sums_over_blocks(small: Space, stand_ins: Any) -> None:
    everything = every_genome(small, small.resolutions)
    rng = np.random.default_rng(11)
    prices: dict[Any, float] = {}
    made_up = Description("made_up", "price", "")
    price = block_sum(made_up, small, small.resolutions, lambda b: prices.setdefault(b, float(rng.uniform(0.1, 5))))
    found = cheapest(small, small.resolutions, price.values)
    for row in found:
        at = everything[everything[:, 0] == row[0]]
        assert price.values(row[None])[0] == pytest.approx(price.values(at).min())
