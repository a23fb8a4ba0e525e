"""What `ofa-predict` prints, where stdout is no terminal."""

from __future__ import annotations

from typing import Any

import pytest

from predictors.console import ROW_TITLES, row_texts, show_answer, show_rows

RECORD = {
    "device": "rig", "model": "network", "n_train": 30, "spearman": 0.98765, "kendall": 0.9, "mape": 1.25,
    "rmspe": 2.0, "within_5": 99.0, "within_10": 100.0, "coverage": None,
}  # fmt: skip
BLOCK = {"block": "first_conv", "mmacs": 10.8386, "latency_ms": 0.12345, "filled": False}


def prediction(**changes: Any) -> dict[str, Any]:
    energies = {"energy_mj": None, "energy_low_mj": None, "energy_high_mj": None}
    known = {"lut": "luts/rig.csv", "device": "rig", "latency_ms": 12.3456, "low_ms": 12.0, "high_ms": 12.75}
    return {**known, "calibrated": True, "n_filled": 0, "blocks": [], **energies, **changes}


def test_rows_of_an_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ("rig", "network", "30", "0.988", "0.900", "1.2", "2.0", "99.0", "100.0", "-")
    assert row_texts([RECORD, {**RECORD, "n_train": 0}]) == [texts, (*texts[:2], "-", *texts[3:])]
    show_rows([RECORD])
    assert capsys.readouterr().out.splitlines() == ["\t".join(ROW_TITLES), "\t".join(texts)]


def test_an_answer_with_and_without_energy(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"space": "tiny", "mmacs": 1.25, "params_m": 0.123, "predictions": [prediction()]}
    show_answer(answer, blocks=False)
    assert capsys.readouterr().out.splitlines() == [
        "tiny  1.2 M MACs  0.12 M parameters",
        "device\tlatency ms\t90 % interval\tfile\testimated blocks",
        "rig\t12.346\t12.000 to 12.750\tluts/rig.csv\t0",
    ]
    known = prediction(energy_mj=3.21, energy_low_mj=3.0, energy_high_mj=3.5)
    unknown = prediction(low_ms=None, high_ms=None, calibrated=False, n_filled=2)
    show_answer({**answer, "predictions": [known, unknown]}, blocks=False)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "device\tlatency ms\t90 % interval\tenergy mJ\tfile\testimated blocks",
        "rig\t12.346\t12.000 to 12.750\t3.21 (3 to 3.5)\tluts/rig.csv\t0",
        "rig\t12.346\tunknown\tunknown\tluts/rig.csv (sum, not calibrated)\t2",
    ]


def test_the_layers_of_each_table_that_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [prediction(blocks=[BLOCK, {**BLOCK, "filled": True}]), prediction(lut="new.predictor")]
    show_answer({"space": "tiny", "mmacs": 1.0, "params_m": 0.1, "predictions": rows}, blocks=True)
    assert capsys.readouterr().out.splitlines()[4:] == [
        "",
        "luts/rig.csv: layers, before calibration",
        "block\tM MACs\tlatency ms",
        "first_conv\t10.839\t0.1235",
        "first_conv\t10.839\t0.1235 (estimate)",
    ]
