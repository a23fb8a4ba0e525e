"""The front against a plain definition of it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.search.pareto import ParetoArchive, pareto_order

points = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40)


@given(points)
def test_the_front_is_what_no_point_beats(rows: list[tuple[int, int]]) -> None:
    costs = np.array([float(c) for c, _ in rows])
    values = np.array([float(v) for _, v in rows])
    front = {(costs[i], values[i]) for i in pareto_order(costs, values)}
    expected = {(c, v) for c, v in rows if not any((a <= c and b >= v) and (a < c or b > v) for a, b in rows)}
    assert front == expected
    assert len(front) == len(pareto_order(costs, values))


@given(points, points)
def test_adding_in_batches_gives_the_front_of_all(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    archive = ParetoArchive(n_genes=2)
    for rows in (first, second):
        array = np.array(rows, dtype=np.int16).reshape(-1, 2)
        archive.add(array, array[:, 0].astype(float), array[:, 1].astype(float))
    every = np.array(first + second, dtype=float).reshape(-1, 2)
    order = pareto_order(every[:, 0], every[:, 1])
    assert archive.costs.tolist() == every[order, 0].tolist()
    assert archive.values.tolist() == every[order, 1].tolist()
    assert (archive.genomes[:, 0] == archive.costs).all()


def test_the_archive_is_bounded_and_keeps_its_ends() -> None:
    archive = ParetoArchive(n_genes=1, capacity=50)
    costs = np.linspace(0, 1, 1000) ** 3
    archive.add(np.arange(1000, dtype=np.int16)[:, None], costs, np.arange(1000.0))
    assert 25 <= len(archive) <= 50
    assert archive.costs[0] == 0
    assert archive.costs[-1] == 1
    assert (np.diff(archive.values) > 0).all()
