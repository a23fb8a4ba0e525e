"""Evolution by ask and tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ofa_core.errors import OfaError
from ofa_core.genomes import decode, encode, sample_genomes
from ofa_core.search.evolution import Evolution, EvolutionSettings, KeySet
from ofa_core.search.exact import check_feasible
from ofa_core.search.solver import SolveSettings
from ofa_core.space import Space
from ofa_core.spaces import mobilenet_v3

QUICK = SolveSettings(n_islands=2, evolution=EvolutionSettings(population=60, generations=6), n_recombinations=1)


def test_key_set_tells_new_rows_from_known_ones() -> None:
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


def test_evolution_asks_for_feasible_new_architectures_only(stand_ins: Any) -> None:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, 9.0, (160, 192, 224))
    evolution = Evolution(
        problem, np.random.default_rng(0), check_feasible(problem), EvolutionSettings(population=80, generations=5)
    )
    asked = []
    while not evolution.should_stop:
        genomes = evolution.ask()
        assert problem.feasible(genomes).all()
        assert (encode(space, decode(space, genomes)) == genomes).all()
        assert set(genomes[:, 0].tolist()) <= {160, 192, 224}
        evolution.tell(genomes, problem.scores(genomes))
        asked.append(genomes)
    assert evolution.generation == 5
    every = np.concatenate(asked)
    assert len(np.unique(every, axis=0)) == len(every)
    assert evolution.values[0] == problem.scores(every).max()
    assert set(evolution.genomes[:, 0].tolist()) == {160, 192, 224}


def test_evolution_stops_when_there_is_nothing_new(small: Space, stand_ins: Any) -> None:
    problem = stand_ins.problem(small, 1e3)
    long = EvolutionSettings(population=500, generations=10_000, patience=10_000)
    evolution = Evolution(problem, np.random.default_rng(0), check_feasible(problem), long)
    while not evolution.should_stop:
        genomes = evolution.ask()
        if len(genomes):
            evolution.tell(genomes, problem.scores(genomes))
    assert len(evolution.seen) <= small.size


def test_evolution_refuses_infeasible_starts(small: Space, stand_ins: Any) -> None:
    problem = stand_ins.problem(small, 0.001)
    with pytest.raises(OfaError, match="feasible"):
        Evolution(problem, np.random.default_rng(0), encode(small, [small.largest()]))
