"""Fitted predictors as files: a zip of `manifest.json`, npz arrays, CSV tables and xgboost JSON (docs/formats.md).

Nothing in it is code, and nothing is unpickled. The sources of a transferred predictor lie inside it, each in a folder
of its own.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ofa_core.atomic import write_bytes
from ofa_core.calibration import Calibration
from ofa_core.context import check_context
from ofa_core.energy_model import EnergyModel
from ofa_core.errors import FormatError, OfaError, PredictorError
from ofa_core.npz import ZIP_DAMAGE, read_npz
from ofa_core.schema import Count, NonNegative, Range, structured
from ofa_core.space import MAX_RESOLUTION_PX, Space
from ofa_core.space_record import space_fields, space_of
from ofa_core.table import Context, LatencyTable
from predictors.accuracy import AccuracyPredictor, MacsProxy
from predictors.builtin_accuracy import BuiltinAccuracy
from predictors.device_regime import Regime
from predictors.estimator import Estimator, as_space
from predictors.features import feature_names
from predictors.intervals import ConformalErrors
from predictors.lut import LutPredictor
from predictors.network import Mixture, NetworkPredictor
from predictors.network_basis import AdditiveModel
from predictors.residual_trees import ResidualTrees
from predictors.saved_arrays import MAX_LOG_ERROR, Arrays, kernel_mean, quadratic_form
from predictors.transfer import TransferPredictor

__all__ = ["PREDICTOR_SCHEMA", "load_predictor", "save_predictor"]

PREDICTOR_SCHEMA = 1
MAX_FILE_BYTES = 256_000_000
MOST_NESTED = 4
MOST_INNER = 64


@dataclass
class _Packed:
    """One predictor, in parts that a zip can hold."""

    kind: str
    space: Space
    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    inner: list[_Packed] = field(default_factory=list)


def save_predictor(path: Path, predictor: Estimator) -> None:
    """Write a fitted predictor; the file appears whole or not at all.

    Raises:
        PredictorError: if it is not fitted.
    """
    packed = _pack(predictor)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        _store(archive, "", packed)
    write_bytes(path, out.getvalue())


def load_predictor(path: Path) -> Estimator:
    """Read a `.predictor` file.

    Raises:
        FormatError: for a file that is none.
        PredictorError: where it needs a package that is not installed.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FormatError(f"{path.stat().st_size} bytes are too many for a predictor")
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_FILE_BYTES:
                raise FormatError("too large when unpacked for a predictor")
            packed = _fetch(archive, "", 0)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except ZIP_DAMAGE as error:
        raise FormatError(f"{path}: not a predictor: {str(error)[:200]}") from error
    except OfaError as error:
        raise type(error)(f"{path}: {error}") from error
    try:
        return _unpack(packed)
    except OfaError as error:
        raise type(error)(f"{path}: {error}") from error


def _store(archive: zipfile.ZipFile, prefix: str, packed: _Packed) -> None:
    manifest = {
        "schema": PREDICTOR_SCHEMA,
        "kind": packed.kind,
        **space_fields(packed.space),
        "n_classes": packed.space.n_classes,
        "facts": packed.facts,
        "files": sorted(packed.files),
        "n_inner": len(packed.inner),
    }
    _add(archive, f"{prefix}manifest.json", json.dumps(manifest, indent=1).encode())
    arrays = io.BytesIO()
    np.savez_compressed(arrays, allow_pickle=False, **packed.arrays)
    _add(archive, f"{prefix}arrays.npz", arrays.getvalue())
    for name, data in packed.files.items():
        _add(archive, f"{prefix}{name}", data)
    for i, inner in enumerate(packed.inner):
        _store(archive, f"{prefix}source{i}/", inner)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # a fixed date: equal content, equal file


@dataclass(frozen=True)
class _Manifest:
    schema: int
    kind: str
    facts: dict[str, Any]
    files: list[str]
    n_inner: Annotated[int, Range(0, MOST_INNER)]
    n_classes: Annotated[int, Range(1, 1_000_000)]


def _fetch(archive: zipfile.ZipFile, prefix: str, depth: int) -> _Packed:
    if depth > MOST_NESTED:
        raise FormatError(f"sources nested more than {MOST_NESTED} deep")
    where = f"{prefix}manifest.json"
    try:
        values = json.loads(archive.read(where))
    except RecursionError as error:
        raise FormatError(f"{where}: nested too deep") from error
    manifest = structured(values, _Manifest, where)
    if manifest.schema != PREDICTOR_SCHEMA:
        raise FormatError(f"schema {manifest.schema!r}; this version reads schema {PREDICTOR_SCHEMA}")
    arrays = read_npz(archive.read(f"{prefix}arrays.npz"), f"{prefix}arrays.npz", MAX_FILE_BYTES)
    files = {name: archive.read(f"{prefix}{name}") for name in manifest.files}
    inner = [_fetch(archive, f"{prefix}source{i}/", depth + 1) for i in range(manifest.n_inner)]
    space = space_of(values)
    if not values.get("space_digest"):
        space = space.with_classes(manifest.n_classes)
    return _Packed(manifest.kind, space, manifest.facts, arrays, files, inner)


# ---- each kind -------------------------------------------------------------------------------------------------------


def _pack(predictor: Estimator) -> _Packed:
    if not predictor.fitted:
        raise PredictorError(f"this {type(predictor).__name__} is not fitted; there is nothing to save")
    space = as_space(predictor.space)
    for kind, (cls, pack, _) in _KINDS.items():
        if type(predictor) is cls:
            packed: _Packed = pack(predictor, _Packed(kind, space))
            return packed
    raise PredictorError(f"a {type(predictor).__name__} cannot be saved")


def _unpack(packed: _Packed) -> Estimator:
    if packed.kind not in _KINDS:
        raise FormatError(f"unknown kind of predictor {packed.kind!r}; one of {', '.join(_KINDS)}")
    predictor: Estimator = _KINDS[packed.kind][2](packed)
    return predictor


def _pack_plain(_predictor: Estimator, packed: _Packed) -> _Packed:
    return packed


def _pack_accuracy(predictor: AccuracyPredictor, packed: _Packed) -> _Packed:
    packed.facts = {
        "model": predictor.model,
        "chosen": predictor.model_,
        "n_rows": predictor.n_rows_,
        "seen": predictor.seen_,
    }
    packed.arrays = {"errors": predictor.errors_, **predictor.mean_.arrays()}
    return packed


@dataclass(frozen=True)
class _AccuracyFacts:
    model: str
    chosen: Literal["quadratic", "rbf", "ridge"]
    n_rows: Count
    seen: list[Annotated[int, Range(1, MAX_RESOLUTION_PX)]]


def _unpack_accuracy(packed: _Packed) -> AccuracyPredictor:
    facts, space = structured(packed.facts, _AccuracyFacts, "facts"), packed.space
    take = Arrays(packed.arrays)
    if not facts.seen:
        raise FormatError("facts: seen is empty; resolutions are expected")
    predictor = AccuracyPredictor(space, model=facts.model)
    predictor.errors_ = take.floats("errors", None)
    predictor.mae_ = float(np.mean(np.abs(predictor.errors_)))
    predictor.model_, predictor.n_rows_, predictor.seen_ = facts.chosen, facts.n_rows, tuple(facts.seen)
    if facts.chosen == "rbf":
        predictor.mean_ = kernel_mean(take, space)
    else:
        predictor.mean_ = quadratic_form(take, space)
    return predictor


def _pack_lut(predictor: LutPredictor, packed: _Packed) -> _Packed:
    calibration = predictor.calibration_
    packed.facts = {
        "fill": predictor.fill,
        "calibration": None if calibration is None else asdict(calibration),
        "energy": None if predictor.energy_ is None else asdict(predictor.energy_),
        "n_filled": predictor.n_filled_,
    }
    packed.files = {"table.csv": predictor.table_.to_csv().encode()}
    spread = [predictor.spread_ms_.get(key, 0.0) for key in predictor.table_.entries]
    packed.arrays = {"spread_ms": np.array(spread), "networks": predictor.networks_}
    return packed


@dataclass(frozen=True)
class _TableFacts:
    fill: bool
    calibration: Calibration | None
    n_filled: Count
    energy: EnergyModel | None = None  # a later addition


def _unpack_lut(packed: _Packed) -> LutPredictor:
    facts, take = structured(packed.facts, _TableFacts, "facts"), Arrays(packed.arrays)
    table = LatencyTable.parse(_text_of(packed, "table.csv"), "table.csv")
    predictor = LutPredictor(packed.space).fit(table)
    predictor.fill, predictor.n_filled_ = facts.fill, facts.n_filled
    spread = dict(zip(table.entries, take.floats("spread_ms", len(table), least=0).tolist(), strict=True))
    predictor.spread_ms_ = {key: value for key, value in spread.items() if value}
    for name, model in (("calibration", facts.calibration), ("energy", facts.energy)):
        if model is not None and not (model.loo_errors and max(map(abs, model.loo_errors)) <= MAX_LOG_ERROR):
            raise FormatError(f"facts: {name}.loo_errors is empty or out of range")
    predictor.calibration_, predictor.energy_ = facts.calibration, facts.energy
    predictor.networks_ = take.genomes("networks", packed.space)
    return predictor


def _text_of(packed: _Packed, name: str) -> str:
    try:
        return packed.files[name].decode()
    except (KeyError, UnicodeDecodeError) as error:
        raise FormatError(f"no text file {name} in it") from error


def _pack_network(predictor: NetworkPredictor, packed: _Packed) -> _Packed:
    mixture = predictor.mixture_
    packed.facts = {
        "boost": predictor.boost,
        "device": predictor.device,
        "context": None if predictor.context is None else asdict(predictor.context),
        "has_table": predictor.lut_ is not None,
        "regime": asdict(predictor.regime_),
        "floor_ms": mixture.floor_ms,
        "share": mixture.share,
    }
    packed.arrays = {
        "constant": np.array(mixture.physical.constant),
        "stages": mixture.physical.stages,
        "fixed": mixture.physical.fixed,
        "weights": mixture.weights,
        "held_out": mixture.held_out,
        "mixture_errors": mixture.errors.log_errors,
        "errors": predictor.errors_.log_errors,
        "networks": predictor.networks_,
    }
    if predictor.trees_ is not None:
        packed.files = {"trees.json": predictor.trees_.model_json}
    packed.inner = [_pack(prior) for prior in predictor.priors_]
    return packed


@dataclass(frozen=True)
class _NetworkFacts:
    boost: Literal["auto", "never"]
    device: str
    context: Context | None
    has_table: bool
    regime: Regime
    floor_ms: NonNegative
    share: Annotated[float, Range(0, 1.000001)]


def _unpack_network(cls: type[NetworkPredictor]) -> Callable[[_Packed], NetworkPredictor]:
    def unpack(packed: _Packed) -> NetworkPredictor:
        facts, take, space = structured(packed.facts, _NetworkFacts, "facts"), Arrays(packed.arrays), packed.space
        if facts.context is not None:
            check_context(facts.context, "facts.context")
        n_features = len(feature_names(space))
        predictor = cls(space, boost=facts.boost, device=facts.device, context=facts.context)
        physical = AdditiveModel(
            space,
            take.number("constant"),
            take.floats("stages", len(space.stages), n_features),
            take.floats("fixed", n_features),
        )
        networks = take.genomes("networks", space)
        if not len(networks):
            raise FormatError("networks has no rows")
        if facts.has_table and not packed.inner:
            raise FormatError("facts.has_table is true, but there is no source")
        errors = ConformalErrors(take.log_errors("mixture_errors"))
        weights, held_out = take.floats("weights", len(packed.inner)), take.floats("held_out", None)
        mixture = Mixture(physical, weights, facts.floor_ms, facts.share, errors, held_out)
        trees = packed.files.get("trees.json")
        predictor.restore(
            mixture=mixture,
            priors=[_unpack(inner) for inner in packed.inner],
            regime=facts.regime,
            networks=networks,
            errors=ConformalErrors(take.log_errors("errors")),
            trees=None if trees is None else ResidualTrees.from_json(trees, space),
            has_table=facts.has_table,
        )
        return predictor

    return unpack


_KINDS: dict[str, tuple[type[Estimator], Callable[..., _Packed], Callable[[_Packed], Estimator]]] = {
    "accuracy": (AccuracyPredictor, _pack_accuracy, _unpack_accuracy),
    "accuracy-builtin": (BuiltinAccuracy, _pack_plain, lambda packed: BuiltinAccuracy(packed.space)),
    "accuracy-macs-proxy": (MacsProxy, _pack_plain, lambda packed: MacsProxy(packed.space)),
    "table": (LutPredictor, _pack_lut, _unpack_lut),
    "network": (NetworkPredictor, _pack_network, _unpack_network(NetworkPredictor)),
    "transfer": (TransferPredictor, _pack_network, _unpack_network(TransferPredictor)),
}
