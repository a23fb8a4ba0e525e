"""The steps of `ofa-search` for several networks at once: a front, or one network for each device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from ofa_core.search.archive import Watch
from ofa_core.search.console import progress, stop_on_interrupt
from ofa_core.search.fleet import EACH_SETTINGS, search_each
from ofa_core.search.front import FRONT_SETTINGS, search_front
from ofa_core.search.problem import Problem
from ofa_core.search.run import SearchResult

__all__ = ["make_each", "make_front"]

_log = logging.getLogger(__name__)


def make_front(problem: Problem, n: int, seed: int, algorithm: str = "anneal") -> SearchResult:
    """Return the front of n limits, with progress on stderr; Ctrl-C ends the search with the best front so far."""
    settings = replace(FRONT_SETTINGS, algorithm=algorithm)
    return _watched("front", lambda watch: search_front(problem, n, seed=seed, settings=settings, watch=watch))


def make_each(problem: Problem, names: Sequence[str], seed: int, algorithm: str = "anneal") -> SearchResult:
    """Return the best network of each device; progress and Ctrl-C as in `make_front`."""
    settings = replace(EACH_SETTINGS, algorithm=algorithm)
    return _watched("networks", lambda watch: search_each(problem, names, seed=seed, settings=settings, watch=watch))


def _watched(what: str, run: Callable[[Watch], SearchResult]) -> SearchResult:
    with progress(f"search the {what}") as news, stop_on_interrupt() as should_stop:
        result = run(Watch(lambda n_evaluated, _best: news(f"{n_evaluated} sub-nets"), should_stop))
        if should_stop():
            _log.warning("interrupted: the %s are the best found so far", what)
        return result
