"""Saved predictors whose content was changed: one line, whatever was."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ofa_core.calibration import Calibration
from ofa_core.errors import FormatError, OfaError
from ofa_core.genomes import decode, sample_genomes
from ofa_core.npz import read_npz
from ofa_core.spaces import tiny
from ofa_core.table import Context, Entry, LatencyTable
from predictors.accuracy import AccuracyPredictor
from predictors.estimator import Estimator
from predictors.lut import LutPredictor
from predictors.network import NetworkPredictor
from predictors.persistence import load_predictor, save_predictor


def accuracy(model: str) -> AccuracyPredictor:
    space = tiny()
    archs = decode(space, sample_genomes(space, 30, np.random.default_rng(0)))
    return AccuracyPredictor(space, model=model).fit(archs, 60 + np.array([space.macs(a) / 1e6 for a in archs]))


def of_table() -> LutPredictor:
    blocks = {(None, block): Entry(0.01 + block.macs / 1e8) for block in tiny().all_blocks()}
    predictor = LutPredictor(tiny()).fit(LatencyTable(Context("rig", "onnxruntime"), blocks))
    predictor.calibration_ = Calibration(1.1, 0.0, 0.0, 5, 0.1, 0.02, (0.01, -0.02, 0.0, 0.01, 0.02), 0.99)
    return predictor


def of_networks() -> NetworkPredictor:
    table = of_table()
    archs = decode(tiny(), sample_genomes(tiny(), 20, np.random.default_rng(1)))
    return NetworkPredictor(tiny(), device="rig", context=table.context).fit(
        archs, 1.2 * table.predict(archs), sources=[table]
    )


MAKERS: dict[str, Callable[[], Estimator]] = {
    "quadratic": lambda: accuracy("quadratic"),
    "rbf": lambda: accuracy("rbf"),
    "table": of_table,
    "network": of_networks,
}


@pytest.fixture(scope="module", params=MAKERS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / f"{request.param}.predictor"
    save_predictor(path, MAKERS[request.param]())
    return path


def parts_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def read(path: Path) -> None:
    """Read it; what can be read predicts finite numbers."""
    predictor = load_predictor(path)
    values = predictor.predict([tiny().smallest(28), tiny().largest(28)])
    assert np.isfinite(values).all()


def told_of(path: Path) -> str:
    """What is told of a file that is refused; nothing if it is not."""
    try:
        read(path)
    except OfaError as error:
        return str(error)
    return ""


def paths_in(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return [at, *(path for key, inner in items for path in paths_in(inner, (*at, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


WRONG_FACTS = (None, -1, True, 1e300, 10**400, "", "\ud800", [], {}, [[]], [None], float("nan"), "x" * 300)


def test_any_value_in_any_field_of_the_manifest_is_handled(saved: Path, tmp_path: Path) -> None:
    parts = parts_of(saved)
    manifest = json.loads(parts["manifest.json"])
    n_refused = 0
    for path in paths_in(manifest):
        for wrong in WRONG_FACTS:
            changed = json.dumps(replaced(manifest, path, wrong)).encode()
            told = told_of(written(tmp_path / "x.predictor", {**parts, "manifest.json": changed}))
            n_refused += bool(told)
            assert "\n" not in told
    assert n_refused > 50


def changed_arrays(name: str, array: NDArray[Any]) -> list[NDArray[Any]]:
    wrong = [array.reshape(-1)[:0], np.zeros((3, 5, 2)), np.array("text"), np.array([None]), array.astype("complex128")]
    if array.size:
        filled = [np.full_like(array, value, dtype=np.float64) for value in (np.nan, np.inf, -np.inf, 1e308)]
        wrong += [*filled, np.stack([array, array]), array[..., None]]
    return wrong if name != "ceiling" else [one for one in wrong if one.shape or one.dtype.kind != "f" or one != np.inf]


def test_any_value_in_any_array_is_handled(saved: Path, tmp_path: Path) -> None:
    parts = parts_of(saved)
    arrays = read_npz(parts["arrays.npz"], "arrays", 10**8)
    for name in arrays:
        for wrong in [None, *changed_arrays(name, arrays[name])]:
            changed = {k: v for k, v in arrays.items() if k != name}
            if wrong is not None:
                changed[name] = wrong
            elif name == "ceiling":
                continue  # older files have none
            path = written(tmp_path / "x.predictor", {**parts, "arrays.npz": npz(changed)})
            with pytest.raises(FormatError, match=r"x\.predictor: ") as error:
                read(path)
            assert "\n" not in str(error.value)


def test_an_npz_that_unpacks_to_a_gigabyte_is_refused_before_it_does(saved: Path, tmp_path: Path) -> None:
    def bomb(kind: str) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.npy", "w") as member:
            header = {"descr": "<f8", "fortran_order": False, "shape": (2**40 if kind == "header" else 40_000_000,)}
            np.lib.format.write_array_header_1_0(member, header)
            for _ in range(320 if kind == "bytes" else 1):
                member.write(bytes(1_000_000))
        return out.getvalue()

    for kind in ("bytes", "header"):
        path = written(tmp_path / "x.predictor", {**parts_of(saved), "arrays.npz": bomb(kind)})
        assert path.stat().st_size < 2_000_000
        with pytest.raises(FormatError, match=r"x\.predictor: .*(unpacks to more than|bytes)"):
            load_predictor(path)


@pytest.mark.parametrize("name", ["manifest.json", "arrays.npz"])
@pytest.mark.parametrize("data", [None, b"", b"\xff\x00", b"[" * 100_000, b"9" * 5000, b"null"])
def test_every_part_may_be_anything(saved: Path, tmp_path: Path, name: str, data: bytes | None) -> None:
    parts = parts_of(saved)
    if data is None:
        del parts[name]
    else:
        parts[name] = data
    with pytest.raises(FormatError, match=r"x\.predictor: "):
        load_predictor(written(tmp_path / "x.predictor", parts))
