from __future__ import annotations

import numpy as np

from ofa_core.genomes import sample_genomes
from ofa_core.table import LatencyTable
from predictors.block_order import active_order
from predictors.lut import LutPredictor


def test_active_order_is_a_permutation_and_pays(space, make_table):
    table = make_table(space, [160, 192, 224])
    specs = list(dict.fromkeys(block for _, block in table.entries))
    order = active_order(specs)
    assert sorted(order) == sorted(specs)
    assert active_order(specs) == order
    assert active_order([]) == []
    quarter = order[: len(order) // 4]
    genomes = sample_genomes(space, 300, np.random.default_rng(0), [160, 192, 224])
    full = LutPredictor(space).fit(table).predict(genomes)
    part = LatencyTable(table.context, {(None, b): table.entries[(None, b)] for b in quarter})
    filled = LutPredictor(space, fill=True).fit(part)
    assert np.mean(np.abs(filled.predict(genomes) / full - 1)) < 0.02
