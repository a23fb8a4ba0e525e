"""Measurements that no model can be fitted to: every fit refuses them in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ofa_core.calibration import fit_calibration
from ofa_core.errors import OfaError, PredictorError, TableError
from ofa_core.genomes import Genomes, sample_genomes
from ofa_core.space import Space
from predictors.accuracy import AccuracyPredictor
from predictors.block_latency import BlockPredictor
from predictors.evaluation import MeasuredDevice, learning_curves
from predictors.network import NetworkPredictor

N = 40
Fit = Callable[[Genomes, Any], Any]


@pytest.fixture
def nets(tiny_space: Space) -> Genomes:
    return np.unique(sample_genomes(tiny_space, 2 * N, np.random.default_rng(0)), axis=0)[:N]


@pytest.fixture(params=["auto", "quadratic", "rbf", "ridge", "network", "transfer", "curves"])
def fit(request: pytest.FixtureRequest, tiny_space: Space, nets: Genomes) -> Fit:
    """One of the fits of whole networks."""
    rng = np.random.default_rng(1)

    def transfer(genomes: Genomes, values: Any) -> Any:
        other = NetworkPredictor(tiny_space).fit(nets, 1 + rng.random(len(nets)))
        return NetworkPredictor(tiny_space).fit(genomes, values, sources=[other])

    others: dict[str, Fit] = {
        "network": NetworkPredictor(tiny_space).fit,
        "transfer": transfer,
        "curves": lambda genomes, values: learning_curves(
            MeasuredDevice("x", tiny_space, genomes, np.asarray(values)), sizes=(10,)
        ),
    }
    return others.get(request.param) or AccuracyPredictor(tiny_space, model=request.param).fit


@pytest.mark.parametrize("values", [np.full(N, 10.57), np.full(N, 100.0), 10.57 + 1e-14 * np.arange(N)])
def test_equal_values_are_refused(fit: Fit, nets: Genomes, values: Any) -> None:
    with pytest.raises(PredictorError, match=r"is 1[0-9.]+ for all 40 networks: no model can be fitted; \S"):
        fit(nets, values)


def test_repetitions_of_one_network_are_refused(fit: Fit, nets: Genomes) -> None:
    values = 50 + np.random.default_rng(2).random(N)
    with pytest.raises(PredictorError, match=r"^1 different"):
        fit(nets[:1].repeat(N, axis=0), values)


@pytest.mark.parametrize("values", [np.full(N, 1e308), np.geomspace(1e-300, 50, N)])
def test_implausible_magnitudes_are_refused(fit: Fit, nets: Genomes, values: Any) -> None:
    with pytest.raises(OfaError, match=r"e[-+]?\d+; finite numbers > 0 are expected, from 1e-09 to 1e\+09$"):
        fit(nets, values)


@pytest.mark.parametrize("fit", ["network", "auto"], indirect=True)
def test_one_row(fit: Fit, nets: Genomes) -> None:
    with pytest.raises(PredictorError, match=r"^1 different"):
        fit(nets[:1], [5.0])


def test_networks_that_differ_only_in_resolution_are_refused(space: Space) -> None:
    genomes = sample_genomes(space, 1, np.random.default_rng(0)).repeat(25, axis=0)
    genomes[:, 0] = 128 + 4 * np.arange(25)
    for model in (AccuracyPredictor(space), NetworkPredictor(space)):
        with pytest.raises(
            PredictorError,
            match="differ only in their resolution: no model of the other choices of mbv3",
        ):
            model.fit(genomes, 50 + np.arange(25))


def test_blocks_that_no_model_can_be_fitted_to(tiny_space: Space) -> None:
    blocks = list(tiny_space.all_blocks())
    with pytest.raises(PredictorError, match=rf"^all {len(blocks)} measured blocks take 2 ms"):
        BlockPredictor().fit_blocks(blocks, [2.0] * len(blocks))
    with pytest.raises(PredictorError, match=r"^1 measured blocks; at least 10"):
        BlockPredictor().fit_blocks(blocks[:1] * 20, list(np.linspace(1, 2, 20)))
    with pytest.raises(PredictorError, match=r"^a block latency is 1e\+300 ms"):
        BlockPredictor().fit_blocks(blocks, [1e300, *[2.0] * (len(blocks) - 1)])


@pytest.mark.parametrize("terms", [None, (), ("per_block", "per_mparam")])
def test_an_unreliable_calibration_is_noted(terms: tuple[str, ...] | None) -> None:
    ones, various = np.ones(8), np.linspace(1, 2, 8)
    for sums, truth in ((ones, ones), (ones, various), (various, ones), (various, various[::-1])):
        caution = fit_calibration(sums, ones, ones, truth, terms).caution
        assert caution.startswith("latencies of the 8 networks do not follow the sums (Spearman ")
    assert fit_calibration(various, various, various, various, terms).caution == ""  # collinear, and sound


@pytest.mark.parametrize("terms", [None, (), ("per_block", "per_mparam")])
def test_a_calibration_of_impossible_magnitudes_is_refused(terms: tuple[str, ...] | None) -> None:
    ones = np.ones(8)
    for sums, truth in ((ones, 1e308 * ones), (1e308 * ones, ones), (ones, 10.0 ** np.linspace(-300, 300, 8))):
        with pytest.raises(TableError, match=r"of a network is 1e[-+]30"):
            fit_calibration(sums, ones, ones, truth, terms)
