"""The archive of a search."""

from __future__ import annotations

import numpy as np

from ofa_core.genomes import sample_genomes
from ofa_core.search.archive import KeySet
from ofa_core.spaces import mobilenet_v3


def test_key_set_distinguishes_new_rows_from_known_ones() -> None:
    rng = np.random.default_rng(3)
    space = mobilenet_v3()
    seen, known = KeySet(1 + space.n_slots), set()
    for _ in range(6):
        genomes = sample_genomes(space, 400, rng)
        genomes = np.concatenate([genomes, genomes[:50]])
        new = seen.add(genomes)
        rows = [row.tobytes() for row in genomes]
        expected = [i for i, row in enumerate(rows) if row not in known and row not in rows[:i]]
        assert new.tolist() == expected
        known.update(rows)
    assert len(seen) == len(known)
