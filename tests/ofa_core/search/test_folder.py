"""A search folder whose files hold anything: one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ofa_core.errors import FormatError
from ofa_core.search.folder import read_folder
from ofa_core.search.record import check_record

RECORD: dict[str, Any] = {
    "schema": 1, "space": "tiny",
    "arch": {"ks": [3] * 4, "e": [3] * 4, "d": [1, 1], "r": [24]},
    "latency_ms": 1.0, "low_ms": 0.9, "high_ms": 1.1, "top1": 60.0, "limit_ms": 2, "mmacs": 1.0, "params_m": 0.1,
    "seconds": 1.0, "n_evaluated": 10, "seed": 0, "resolutions": [24], "left_out_px": [], "confidence": None,
    "measured": {"latency_ms": 1.0, "low_ms": 0.9, "high_ms": 1.1, "n_rounds": 1, "n_networks": 3, "converged": True},
    "limits": {"mmacs": 3.0}, "energy_mj": None, "weights": None,
    "latency": {
        "lut": "t.csv", "label": "rig", "note": "", "calibrated": True, "n_filled": 0, "correction": 1.0,
        "context": {
            "device": "rig", "backend": "onnxruntime", "backend_version": "1", "threads": 1, "cpus": "",
            "dtype": "float32", "batch_size": 1, "graph_form": "fused", "statistic": "mean", "clock": "wall",
        },
        "calibration": {
            "scale": 1.0, "per_block_ms": 0.0, "per_mparam_ms": 0.0, "n_networks": 5, "raw_bias": 0.0, "loo_mape": 0.01,
            "loo_errors": [0.01] * 5, "spearman": 1.0, "margin_90": 1.02,
        },
    },
    "accuracy": {"source": "built in", "label": "", "note": "", "percent": True},
    "versions": {"python": "3.11"},
}  # fmt: skip
CANDIDATE: dict[str, Any] = {k: RECORD[k] for k in ("arch", "latency_ms", "low_ms", "high_ms", "top1")}
WRONG = ("\ud800", 10**400, float("nan"), float("-inf"), 1e300, True, [], {}, [[1]], "x" * 20_000)
LATENCIES = ("latency_ms", "limit_ms", "mmacs", "measured.latency_ms", "measured.high_ms", "latency.correction")


def changed(record: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {**record, first: changed(record[first], rest, value) if rest else value}


def leaves(record: dict[str, Any], at: str = "") -> list[str]:
    out = []
    for name, value in record.items():
        out += leaves(value, f"{at}{name}.") if isinstance(value, dict) and name != "limits" else [f"{at}{name}"]
    return out


def written(folder: Path, record: dict[str, Any] = RECORD, candidates: Any = (CANDIDATE,)) -> Path:
    (folder / "search.json").write_text(json.dumps(record))
    (folder / "candidates.json").write_text(json.dumps(candidates))
    (folder / "pareto.csv").write_text('latency_ms,top1,ks,e,d,r\n1.0,60,"[3,3,3,3]","[3,3,3,3]","[1,1]",24\n')
    return folder


def test_the_sound_folder_is_read(tmp_path: Path) -> None:
    folder = read_folder(written(tmp_path))
    assert folder.limit_ms == 2.0
    assert folder.best.top1 == 60.0


def test_no_field_of_the_record_may_be_anything(tmp_path: Path) -> None:
    optional = ("schema", "latency.calibration", "latency.context")
    paths = [path for path in leaves(RECORD) if path not in optional]
    assert len(paths) > 50
    for path in paths:
        for wrong in WRONG:
            if isinstance(wrong, bool) and path.endswith(("converged", "calibrated", "percent")):
                continue
            if wrong == [] and path.split(".")[-1] in ("resolutions", "left_out_px", "ks", "e", "d", "loo_errors"):
                continue
            if wrong == {} and path == "limits":
                continue
            with pytest.raises(FormatError, match=r"search.json") as error:
                check_record(changed(RECORD, path, wrong), "search.json")
            assert str(error.value).isascii()
            assert len(str(error.value)) < 300


def without(record: dict[str, Any], path: str) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    if not rest:
        return {name: value for name, value in record.items() if name != first}
    return {**record, first: without(record[first], rest)}


@pytest.mark.parametrize("path", [path for path in leaves(RECORD) if path != "schema" and "versions" not in path])
def test_every_field_of_the_record_is_there(path: str) -> None:
    with pytest.raises(FormatError, match=rf"search.json: {path} is missing"):
        check_record(without(RECORD, path), "search.json")


@pytest.mark.parametrize("path", LATENCIES)
@pytest.mark.parametrize("value", [0, -1.0])
def test_a_latency_is_above_zero(path: str, value: float) -> None:
    with pytest.raises(FormatError, match=rf"x: {path} is {float(value)}; a number > 0"):
        check_record(changed(RECORD, path, value), "x")


@pytest.mark.parametrize("candidates", [[], {}, None, "text", [3], [[]], [CANDIDATE, {**CANDIDATE, "arch": None}]])
def test_candidates_are_a_list_of_them(tmp_path: Path, candidates: Any) -> None:
    with pytest.raises(FormatError, match=r"candidates.json"):
        read_folder(written(tmp_path, candidates=candidates))


@pytest.mark.parametrize("field", ["latency_ms", "low_ms", "high_ms", "top1", "arch"])
@pytest.mark.parametrize("wrong", WRONG)
def test_no_field_of_a_candidate_may_be_anything(tmp_path: Path, field: str, wrong: Any) -> None:
    with pytest.raises(FormatError, match=r"candidates.json"):
        read_folder(written(tmp_path, candidates=[CANDIDATE, {**CANDIDATE, field: wrong}]))


@pytest.mark.parametrize("row", ['0,60,"3","3","1",24', '1,inf,"3","3","1",24', '1e308,60,"3","3","1",24'])
def test_the_front_holds_latencies_and_accuracies(tmp_path: Path, row: str) -> None:
    written(tmp_path)
    (tmp_path / "pareto.csv").write_text(f"latency_ms,top1,ks,e,d,r\n{row}\n")
    with pytest.raises(Exception, match=r"pareto.csv, line 2") as error:
        read_folder(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"9" * 5000, b"\xff", b'{"schema": 1}', b"null"])
def test_json_that_is_none_is_one_line(tmp_path: Path, data: bytes) -> None:
    written(tmp_path)
    (tmp_path / "search.json").write_bytes(data)
    with pytest.raises(FormatError, match=r"search.json"):
        read_folder(tmp_path)
