"""The steps of `ofa-search --prove` and `--best` after a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ofa_core.genomes import encode
from ofa_core.search.console import progress
from ofa_core.search.inverse import is_inverse, turned
from ofa_core.search.problem import Problem, make_candidates
from ofa_core.search.prove import prove
from ofa_core.search.result_schema import ProofRecord
from ofa_core.search.run import GroupAnswer, SearchResult

__all__ = ["MAX_PROOF_S", "finished", "with_best", "with_proof"]

MAX_PROOF_S = 120.0


def with_proof(result: SearchResult, problem: Problem, gap: float) -> tuple[SearchResult, ProofRecord]:
    """Return how far the answer of a search can be from the best network; a better one becomes the answer.

    Args:
        result: result of the search.
        problem: the problem as the user stated it.
        gap: difference of the objective that does not matter.
    """
    first = encode(problem.space, [result.best.arch])[0]
    with progress(f"prove, at most {MAX_PROOF_S:.0f} s"):
        proof = prove(problem, first, gap=gap, max_s=MAX_PROOF_S)
    if not np.array_equal(proof.genome, first):
        shown = turned(problem, proof.value) if is_inverse(problem) else result.problem
        best = make_candidates(shown, proof.genome[None])[0]
        others = [c for c in result.candidates if c.arch != best.arch]
        result = replace(result, problem=shown, best=best, candidates=(best, *others))
    return result, ProofRecord(
        bound=proof.bound, gap=proof.gap, is_optimal=proof.is_optimal, reason=proof.reason, seconds=proof.seconds
    )


def finished(
    result: SearchResult, problem: Problem, gap: float | None, n_best: int | None
) -> tuple[SearchResult, ProofRecord | None]:
    """Return the result of a search with a proof, if there is a gap to prove, and its best networks as answers."""
    proof = None
    if gap is not None:
        result, proof = with_proof(result, problem, gap)
    return result if n_best is None else with_best(result, problem, n_best), proof


def with_best(result: SearchResult, problem: Problem, n: int) -> SearchResult:
    """Return a result whose answers are its n best different networks, best first."""
    answers = (GroupAnswer(f"{i:03d}", problem.constraints, c) for i, c in enumerate(result.candidates[:n], 1))
    return replace(result, answers=tuple(answers))
