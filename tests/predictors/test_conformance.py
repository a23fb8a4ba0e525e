"""One suite over all predictors of whole networks: what an estimator here must do, whatever it learns from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.arch_json import arch_to_dict
from ofa_core.errors import ArchError, FormatError, OfaError, PredictorError, SpaceError
from ofa_core.genomes import decode, encode, genomes_of, sample_genomes
from ofa_core.space import Space
from ofa_core.table import LatencyTable
from predictors.accuracy import AccuracyPredictor, MacsProxy
from predictors.builtin_accuracy import BuiltinAccuracy
from predictors.estimator import Estimator, Parts
from predictors.features import physical
from predictors.lut import LatencyEstimator, LutPredictor
from predictors.network import NetworkPredictor
from predictors.persistence import KINDS, load_predictor, save_predictor
from predictors.saved_arrays import Arrays

PIXELS = [160, 192, 224]


@dataclass
class Case:
    """A predictor, how to fit it (0 or 1: two different lessons), and whether it is one of latency."""

    make: Callable[[], Estimator]
    fit: Callable[[Estimator, int], Any]
    latency: bool = True
    learns: bool = True


def lesson(space: Space, which: int, n: int = 40):
    rng = np.random.default_rng(which)
    genomes = sample_genomes(space, n, rng, PIXELS)
    totals = physical(space, genomes).sum(axis=1)
    return genomes, (1 + which) * (1 + 0.05 * totals[:, 0] + 2e-8 * totals[:, 1]) * np.exp(
        0.01 * rng.standard_normal(n)
    )


class ToyPredictor(LatencyEstimator):
    """A new predictor in full: milliseconds per block."""

    context = None
    calibrated = True
    resolutions = tuple(PIXELS)
    note = "milliseconds per block"

    def __init__(self, space):
        self.space = space

    def fit(self, archs, latency_ms):
        genomes = genomes_of(self.space, archs)
        self.ms_, self.networks_ = float(np.mean(latency_ms / self._n_blocks(genomes))), genomes
        return self

    def _n_blocks(self, genomes):
        return (genomes[:, 1:] > 0).sum(axis=1).astype(np.float64)

    def _point(self, genomes):
        return self.ms_ * self._n_blocks(genomes)

    def _bounds(self, genomes, point, confidence):
        return point * (1 - 0.5 * confidence), point * (1 + 0.5 * confidence)

    def to_parts(self):
        return Parts(self.space, arrays={"ms": np.array(self.ms_), "networks": self.networks_})

    @classmethod
    def from_parts(cls, parts):
        take, predictor = Arrays(parts.arrays), cls(parts.space)
        predictor.ms_, predictor.networks_ = take.number("ms"), take.genomes("networks", parts.space)
        return predictor


def state(value: Any) -> Any:
    """Return everything that an object holds, to compare it later."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, value.tobytes()
    if isinstance(value, LatencyTable):
        return value.context, tuple(value.entries.items())
    if isinstance(value, Estimator | dict):
        items = value if isinstance(value, dict) else vars(value)
        return type(value), {key: state(part) for key, part in items.items()}
    if is_dataclass(value):
        return type(value), [state(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, tuple | list):
        return [state(part) for part in value]
    return repr(value)


@pytest.fixture(
    params=[
        "table",
        "table+fill",
        "network",
        "network+table",
        "transfer",
        "quadratic",
        "rbf",
        "ridge",
        "builtin",
        "macs",
        "toy",
    ]
)
def case(request, space, make_table, make_networks, monkeypatch) -> Case:
    monkeypatch.setitem(KINDS, "toy", ToyPredictor)  # the row in `predictors.persistence` that a new predictor needs
    table = make_table(space, PIXELS)
    smaller = type(table)(table.context, dict(list(table.entries.items())[::2]))
    nets = make_networks(space, PIXELS, 20)

    def fit_networks(model, which):
        return model.fit(*lesson(space, which))

    def fit_accuracy(model, which):
        genomes, y = lesson(space, which)
        return model.fit(genomes, 40 + 2 * y)

    return {
        "table": Case(
            lambda: LutPredictor(space),
            lambda m, w: m.fit(table, [nets, make_networks(space, PIXELS, 20, scale=2.0)][w]),
        ),
        "table+fill": Case(
            lambda: LutPredictor(space, fill=True), lambda m, w: m.fit([smaller, table][w], [nets, []][w])
        ),
        "network": Case(lambda: NetworkPredictor(space), fit_networks),
        "network+table": Case(lambda: NetworkPredictor(space, table=table), fit_networks),
        "transfer": Case(
            lambda: NetworkPredictor(space),
            lambda m, w: m.fit(*lesson(space, w, 12), sources=[table, lesson(space, 5)]),
        ),
        "quadratic": Case(lambda: AccuracyPredictor(space, model="quadratic"), fit_accuracy, latency=False),
        "rbf": Case(lambda: AccuracyPredictor(space, model="rbf"), fit_accuracy, latency=False),
        "ridge": Case(lambda: AccuracyPredictor(space, model="ridge"), fit_accuracy, latency=False),
        "builtin": Case(lambda: BuiltinAccuracy(space), lambda m, w: m, latency=False, learns=False),
        "macs": Case(lambda: MacsProxy(space), lambda m, w: m, latency=False, learns=False),
        "toy": Case(lambda: ToyPredictor(space), fit_networks),
    }[request.param]


@pytest.fixture
def genomes(space):
    return sample_genomes(space, 60, np.random.default_rng(99), PIXELS)


def fitted(case: Case, which: int = 0) -> Estimator:
    model = case.make()
    case.fit(model, which)
    return model


def test_shapes_and_types(case, genomes):
    model = fitted(case)
    y, low, high = model.predict(genomes, return_interval=True)
    for values in (y, low, high, model.predict(genomes)):
        assert values.shape == (60,)
        assert values.dtype == np.float64
    assert np.isfinite(y).all()
    assert (y > 0).all()
    if not np.isnan(low).any():
        assert ((low <= y) & (y <= high)).all()
    assert model.predict(genomes[:0]).shape == (0,)
    assert model.predict_interval(genomes)[1] == pytest.approx(high, nan_ok=True)


def test_wider_when_surer(case, genomes):
    model = fitted(case)
    (_, narrow), (_, wide) = (model.predict_interval(genomes, c) for c in (0.5, 0.95))
    assert np.isnan(wide).all() or (wide >= narrow).all()
    with pytest.raises(PredictorError, match="confidence"):
        model.predict_interval(genomes, 90)


def test_all_forms_of_architectures_are_alike(case, space, genomes):
    model = fitted(case)
    archs = decode(space, genomes[:5])
    want = model.predict(genomes[:5])
    assert model.predict(archs) == pytest.approx(want, rel=1e-12)
    assert model.predict([arch_to_dict(a, space) for a in archs]) == pytest.approx(want, rel=1e-12)
    assert model.predict(genomes[:5].astype(np.int64)) == pytest.approx(want, rel=1e-12)


def test_order_and_company_do_not_matter(case, genomes):
    model = fitted(case)
    y = model.predict(genomes)
    order = np.random.default_rng(0).permutation(60)
    assert model.predict(genomes[order]) == pytest.approx(y[order], rel=1e-9)
    assert model.predict(genomes[7:8]) == pytest.approx(y[7:8], rel=1e-9)


def test_predict_changes_nothing(case, space, genomes):
    model = fitted(case)
    before, note = state(model), model.note
    y = model.predict(genomes)
    for px in (160, 164, 240):  # measured; in the space; outside the space
        for archs in (sample_genomes(space, 9, np.random.default_rng(px), [px]), [space.largest(px)]):
            with suppress(OfaError):
                model.predict(archs, return_interval=True)
                model.predict_interval(archs, 0.5)
                model.has_seen(archs)
    if isinstance(model, LutPredictor):
        with suppress(OfaError):
            model.filled_counts(encode(space, [space.largest(240)]))
            model.layers(space.largest(240))
            model.block_ms([240])
    assert state(model) == before
    assert model.note == note
    assert model.predict(genomes).tolist() == y.tolist()


def test_fit_returns_self_and_forgets(case, genomes):
    if not case.learns:
        pytest.skip("comes fitted")
    model = case.make()
    assert case.fit(model, 0) is model
    first = model.predict(genomes)
    case.fit(model, 1)
    assert model.predict(genomes) == pytest.approx(fitted(case, 1).predict(genomes), rel=1e-9)
    case.fit(model, 0)
    assert model.predict(genomes) == pytest.approx(first, rel=1e-9)


def test_it_remembers_what_it_was_fitted_to(case, space, genomes):
    model = fitted(case)
    assert not model.has_seen(genomes).any()
    if isinstance(model, NetworkPredictor):
        n = len(model.networks_)
        assert n in (12, 40)
        mixed = np.concatenate([genomes[:3], lesson(space, 0, n)[0][:2], genomes[:1]])
        assert model.has_seen(mixed).tolist() == [False, False, False, True, True, False]


def test_unfitted_raises(case, genomes):
    if not case.learns:
        pytest.skip("comes fitted")
    with pytest.raises(PredictorError, match="not fitted"):
        case.make().predict(genomes)


def test_the_constructor_only_stores(case):
    model = case.make()
    params = model.get_params()
    assert set(params) == {name.removeprefix("_") for name in vars(model) if not name.endswith("_")}
    again = type(model)(**params)
    assert again.get_params() == params


def test_wrong_input_is_refused(case, space, tiny_space, genomes):
    model = fitted(case)
    broken = genomes.copy()
    broken[0, 1] = 10
    with pytest.raises(OfaError):
        model.predict(broken)
    with pytest.raises(ArchError):
        model.predict(genomes[:, :-1])
    with pytest.raises(ArchError):
        model.predict(genomes.astype(np.float64))
    with pytest.raises(ArchError):
        model.predict([tiny_space.largest()])
    with pytest.raises(SpaceError, match=r"mbv3-w1\.2"):
        model.predict([{**arch_to_dict(space.largest(160), space), "space": "mbv3-w1.2"}])
    if case.learns and isinstance(model, NetworkPredictor | AccuracyPredictor):
        for bad in (np.nan, np.inf, -1.0, 0.0):
            values = np.full(60, 50.0)
            values[11] = bad
            with pytest.raises(PredictorError, match=r"\[11\]"):
                model.fit(genomes, values)


def test_saved_and_loaded_is_equal(case, genomes, tmp_path: Path):
    model = fitted(case)
    save_predictor(tmp_path / "m.predictor", model)
    again = load_predictor(tmp_path / "m.predictor")
    assert type(again) is type(model)
    for a, b in zip(
        model.predict(genomes, return_interval=True), again.predict(genomes, return_interval=True), strict=True
    ):
        assert b == pytest.approx(a, rel=1e-12, nan_ok=True)
    assert again.resolutions == model.resolutions
    assert (again.label, again.note) == (model.label, model.note)
    save_predictor(tmp_path / "n.predictor", again)
    assert (tmp_path / "n.predictor").read_bytes() == (tmp_path / "m.predictor").read_bytes()


def test_it_describes_itself(case):
    model = fitted(case)
    assert model.label
    assert model.note
    if case.latency:
        assert isinstance(model.calibrated, bool)
        assert set(PIXELS) <= set(model.resolutions)
    if isinstance(model, NetworkPredictor):
        assert model.regime_.name in ("additive", "launch-bound", "mixed")
        assert "MACs" in str(model.regime_)


def test_nothing_unfitted_is_saved(space, tmp_path: Path):
    with pytest.raises(PredictorError, match="not fitted"):
        save_predictor(tmp_path / "x.predictor", NetworkPredictor(space))
    assert not list(tmp_path.iterdir())


def test_broken_files_are_refused(space, tmp_path: Path):
    path = tmp_path / "m.predictor"
    save_predictor(path, NetworkPredictor(space).fit(*lesson(space, 0)))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for content in (b"", b"PK", whole[:300], whole[:-40], b"x" * 500):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"m\.predictor"):
            load_predictor(path)
    for _ in range(60):
        bent = bytearray(whole)
        for at in rng.integers(0, len(bent), 3):
            bent[at] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(bent))
        with suppress(OfaError):
            load_predictor(path).predict(sample_genomes(space, 2, rng))
    with pytest.raises(FormatError, match="No such file"):
        load_predictor(tmp_path / "none.predictor")


def test_boosted_trees_survive_the_file(space, tmp_path: Path):
    pytest.importorskip("xgboost")
    genomes, y = lesson(space, 0, 900)
    y = y * np.where(genomes[:, 0] == 192, 1.2, 1.0)
    model = NetworkPredictor(space).fit(genomes, y)
    assert model.trees_ is not None
    save_predictor(tmp_path / "m.predictor", model)
    assert load_predictor(tmp_path / "m.predictor").predict(genomes) == pytest.approx(model.predict(genomes), rel=1e-6)
