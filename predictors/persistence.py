"""Fitted predictors as files: a zip of `manifest.json`, npz arrays, CSV tables and xgboost JSON (docs/formats.md).

Nothing in it is code, and nothing is unpickled. The sources of a transferred predictor lie inside it, each in a folder
of its own.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.atomic import write_bytes
from ofa_core.calibration import Calibration
from ofa_core.energy import EnergyModel
from ofa_core.errors import FormatError, OfaError, PredictorError
from ofa_core.space import Space
from ofa_core.space_record import space_fields, space_of
from ofa_core.table import Context, LatencyTable
from predictors.accuracy import AccuracyPredictor, KernelMean, MacsProxy
from predictors.basis import AdditiveModel
from predictors.boost import ResidualTrees
from predictors.builtin import BuiltinAccuracy
from predictors.estimator import Estimator, as_space
from predictors.intervals import ConformalErrors
from predictors.lut import LutPredictor
from predictors.mlp import Perceptron
from predictors.network import Mixture, NetworkPredictor
from predictors.quadratic import Design, QuadraticForm
from predictors.regime import Regime
from predictors.transfer import TransferPredictor

__all__ = ["PREDICTOR_SCHEMA", "load_predictor", "save_predictor"]

PREDICTOR_SCHEMA = 1
MAX_FILE_BYTES = 256_000_000
MOST_NESTED = 4
# What the standard library, numpy and our own constructors raise on bytes that are no such file.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError,
    OverflowError, RuntimeError,
)  # fmt: skip


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
            raise FormatError(f"{path}: {path.stat().st_size} bytes are too many for a predictor")
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_FILE_BYTES:
                raise FormatError(f"{path}: too large when unpacked for a predictor")
            return _unpack(_fetch(archive, "", 0))
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except OfaError as error:
        raise type(error)(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except _BROKEN as error:
        raise FormatError(f"{path}: no predictor that this version can read: {str(error)[:200]}") from error


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


def _fetch(archive: zipfile.ZipFile, prefix: str, depth: int) -> _Packed:
    if depth > MOST_NESTED:
        raise FormatError(f"sources nested more than {MOST_NESTED} deep")
    manifest = json.loads(archive.read(f"{prefix}manifest.json"))
    if manifest["schema"] != PREDICTOR_SCHEMA:
        raise FormatError(f"schema {manifest['schema']!r}; this version reads schema {PREDICTOR_SCHEMA}")
    with np.load(io.BytesIO(archive.read(f"{prefix}arrays.npz")), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    files = {name: archive.read(f"{prefix}{name}") for name in manifest["files"]}
    inner = [_fetch(archive, f"{prefix}source{i}/", depth + 1) for i in range(int(manifest["n_inner"]))]
    space = space_of(manifest)
    if not manifest.get("space_digest"):
        space = space.with_classes(int(manifest["n_classes"]))
    return _Packed(manifest["kind"], space, manifest["facts"], arrays, files, inner)


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
        "seed": predictor.seed,
        "chosen": predictor.model_,
        "n_rows": predictor.n_rows_,
        "seen": predictor.seen_,
    }
    packed.arrays = {"errors": predictor.errors_, **predictor.mean_.arrays()}
    return packed


def _unpack_accuracy(packed: _Packed) -> AccuracyPredictor:
    facts, arrays = packed.facts, dict(packed.arrays)
    predictor = AccuracyPredictor(packed.space, model=facts["model"], seed=facts["seed"])
    predictor.errors_ = arrays.pop("errors")
    predictor.mae_ = float(np.mean(np.abs(predictor.errors_)))
    predictor.model_, predictor.n_rows_, predictor.seen_ = facts["chosen"], facts["n_rows"], tuple(facts["seen"])
    if facts["chosen"] == "rbf":
        rows = Design(**{name: arrays[name] for name in Design.__dataclass_fields__})
        predictor.mean_ = KernelMean(
            rows, arrays["weights"], float(arrays["offset"]), float(arrays.get("ceiling", np.inf))
        )
    elif facts["chosen"] == "mlp":
        predictor.mean_ = Perceptron.from_arrays(arrays)
    else:
        predictor.mean_ = QuadraticForm.from_arrays(arrays)
    return predictor


def _pack_lut(predictor: LutPredictor, packed: _Packed) -> _Packed:
    calibration = predictor.calibration_
    terms = predictor.calibration_terms
    packed.facts = {
        "fill": predictor.fill,
        "calibration_terms": None if terms is None else list(terms),
        "calibration": None if calibration is None else asdict(calibration),
        "energy": None if predictor.energy_ is None else asdict(predictor.energy_),
        "n_filled": predictor.n_filled_,
    }
    packed.files = {"table.csv": predictor.table_.to_csv().encode()}
    spread = [predictor.spread_ms_.get(key, 0.0) for key in predictor.table_.entries]
    packed.arrays = {"spread_ms": np.array(spread), "networks": predictor.networks_}
    return packed


def _unpack_lut(packed: _Packed) -> LutPredictor:
    facts = packed.facts
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(packed.files["table.csv"])
        table = LatencyTable.read(path)
    predictor = LutPredictor(packed.space, calibration_terms=facts["calibration_terms"], fill=False).fit(table)
    predictor.fill, predictor.n_filled_ = facts["fill"], facts["n_filled"]
    spread = dict(zip(table.entries, packed.arrays["spread_ms"].tolist(), strict=True))
    predictor.spread_ms_ = {key: value for key, value in spread.items() if value}
    if facts["calibration"] is not None:
        errors = tuple(facts["calibration"].pop("loo_errors"))
        predictor.calibration_ = Calibration(loo_errors=errors, **facts["calibration"])
    if facts.get("energy") is not None:  # a later addition
        errors = tuple(facts["energy"].pop("loo_errors"))
        predictor.energy_ = EnergyModel(loo_errors=errors, **facts["energy"])
    predictor.networks_ = packed.arrays["networks"]
    return predictor


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


def _unpack_network(cls: type[NetworkPredictor]) -> Callable[[_Packed], NetworkPredictor]:
    def unpack(packed: _Packed) -> NetworkPredictor:
        facts, arrays = packed.facts, packed.arrays
        context = None if facts["context"] is None else Context(**facts["context"])
        predictor = cls(packed.space, boost=facts["boost"], device=facts["device"], context=context)
        physical = AdditiveModel(packed.space, float(arrays["constant"]), arrays["stages"], arrays["fixed"])
        errors = ConformalErrors(arrays["mixture_errors"])
        mixture = Mixture(physical, arrays["weights"], facts["floor_ms"], facts["share"], errors, arrays["held_out"])
        trees = packed.files.get("trees.json")
        predictor.restore(
            mixture=mixture,
            priors=[_unpack(inner) for inner in packed.inner],
            regime=Regime(**facts["regime"]),
            networks=arrays["networks"],
            errors=ConformalErrors(arrays["errors"]),
            trees=None if trees is None else ResidualTrees.from_json(trees),
            has_table=facts["has_table"],
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
