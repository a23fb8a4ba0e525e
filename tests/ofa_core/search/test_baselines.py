"""The baselines: random search and the published evolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ofa_core.genomes import decode, encode
from ofa_core.search.archive import Archive, Watch
from ofa_core.search.baselines import BASELINES
from ofa_core.search.exact import check_feasible
from ofa_core.spaces import mobilenet_v3


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("limit_ms", [4.0, 9.0])
def test_a_baseline_evaluates_members_within_the_limit_only(name: str, limit_ms: float, stand_ins: Any) -> None:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, limit_ms, (160, 192))
    archive = Archive(problem)
    stops = iter([False, False, False])
    watch = Watch(should_stop=lambda: next(stops, True))
    BASELINES[name](problem, check_feasible(problem), np.random.default_rng(0), archive, watch)
    genomes, _ = archive.seen()
    assert archive.n_evaluated == {"random": 300, "evolution": 400}[name]
    assert problem.feasible(genomes).all()
    assert (encode(space, decode(space, genomes)) == genomes).all()
