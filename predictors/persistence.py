"""Fitted predictors as files: a zip of `manifest.json`, npz arrays, CSV tables and xgboost JSON (docs/formats.md).

Nothing in the file is code, and nothing is unpickled. Predictors that a predictor is built on are stored in it, each in
a folder of its own.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ofa_core.atomic import write_bytes
from ofa_core.errors import FormatError, OfaError, PredictorError
from ofa_core.npz import ZIP_DAMAGE, read_npz
from ofa_core.schema import Range, structured
from ofa_core.space_record import space_fields, space_of
from ofa_core.text_files import ANOTHER_COPY
from predictors.accuracy import AccuracyPredictor, MacsProxy
from predictors.builtin_accuracy import BuiltinAccuracy
from predictors.estimator import Estimator, Parts
from predictors.lut import LutPredictor
from predictors.network import NetworkPredictor

__all__ = ["KINDS", "PREDICTOR_SCHEMA", "load_predictor", "save_predictor"]

PREDICTOR_SCHEMA = 1
MAX_FILE_BYTES = 256_000_000
MAX_DEPTH = 4
MAX_INNER = 64
# Name of each kind in a file. The first name of a class is the one that is written.
KINDS: dict[str, type[Estimator]] = {
    "accuracy": AccuracyPredictor,
    "accuracy-builtin": BuiltinAccuracy,
    "accuracy-macs-proxy": MacsProxy,
    "table": LutPredictor,
    "network": NetworkPredictor,
    "transfer": NetworkPredictor,  # written by version 0.1.0 for networks fitted with sources
}


def save_predictor(path: Path, predictor: Estimator) -> None:
    """Write a fitted predictor; the file appears whole or not at all.

    Raises:
        PredictorError: if the predictor is not fitted, or its class has no row in `KINDS`.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        _store(archive, "", predictor)
    write_bytes(path, out.getvalue())


def load_predictor(path: Path) -> Estimator:
    """Read a `.predictor` file.

    Raises:
        FormatError: if the file is damaged or not a predictor.
        MissingPackageError: if the predictor needs a package that is not installed.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FormatError(f"{path.stat().st_size} bytes; a predictor has at most {MAX_FILE_BYTES}")
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_FILE_BYTES:
                raise FormatError(f"unpacks to more than {MAX_FILE_BYTES} bytes, the most for a predictor")
            return _fetch(archive, "", 0)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except ZIP_DAMAGE as error:
        raise FormatError(f"{path}: not a predictor, or damaged: {str(error)[:200]}; {ANOTHER_COPY}") from error
    except OfaError as error:
        raise type(error)(f"{path}: {error}") from error


def _store(archive: zipfile.ZipFile, prefix: str, predictor: Estimator) -> None:
    kind = next((name for name, cls in KINDS.items() if type(predictor) is cls), None)
    if kind is None:
        supported = ", ".join(dict.fromkeys(cls.__name__ for cls in KINDS.values()))
        raise PredictorError(f"a {type(predictor).__name__} cannot be saved; supported are {supported}")
    if not predictor.fitted:
        raise PredictorError(f"this {type(predictor).__name__} is not fitted, so it cannot be saved")
    parts = predictor.to_parts()
    manifest = {
        "schema": PREDICTOR_SCHEMA,
        "kind": kind,
        **space_fields(parts.space),
        "n_classes": parts.space.n_classes,
        "facts": parts.facts,
        "files": sorted(parts.files),
        "n_inner": len(parts.inner),
    }
    _add(archive, f"{prefix}manifest.json", json.dumps(manifest, indent=1).encode())
    arrays = io.BytesIO()
    named: dict[str, Any] = dict(parts.arrays)
    np.savez_compressed(arrays, **named)
    _add(archive, f"{prefix}arrays.npz", arrays.getvalue())
    for name, data in parts.files.items():
        _add(archive, f"{prefix}{name}", data)
    for i, inner in enumerate(parts.inner):
        _store(archive, f"{prefix}source{i}/", inner)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(
        zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED
    )  # with a fixed date, so that equal predictors give equal files


@dataclass(frozen=True)
class _Manifest:
    schema: int
    kind: str
    facts: dict[str, Any]
    files: list[str]
    n_inner: Annotated[int, Range(0, MAX_INNER)]
    n_classes: Annotated[int, Range(1, 1_000_000)]


def _fetch(archive: zipfile.ZipFile, prefix: str, depth: int) -> Estimator:
    if depth > MAX_DEPTH:
        raise FormatError(f"sources are nested more than {MAX_DEPTH} levels deep")
    where = f"{prefix}manifest.json"
    try:
        values = json.loads(archive.read(where))
    except RecursionError as error:
        raise FormatError(f"{where}: nested too deeply") from error
    manifest = structured(values, _Manifest, where)
    if manifest.schema != PREDICTOR_SCHEMA:
        raise FormatError(f"schema {manifest.schema!r}; this version reads schema {PREDICTOR_SCHEMA}")
    if manifest.kind not in KINDS:
        raise FormatError(f"unknown kind of predictor {manifest.kind[:40]!r}; supported are {', '.join(KINDS)}")
    arrays = read_npz(archive.read(f"{prefix}arrays.npz"), f"{prefix}arrays.npz", MAX_FILE_BYTES)
    files = {name: archive.read(f"{prefix}{name}") for name in manifest.files}
    inner = [_fetch(archive, f"{prefix}source{i}/", depth + 1) for i in range(manifest.n_inner)]
    space = space_of(values)
    if not values.get("space_digest"):
        space = space.with_classes(manifest.n_classes)
    return KINDS[manifest.kind].from_parts(Parts(space, manifest.facts, arrays, files, tuple(inner)))
