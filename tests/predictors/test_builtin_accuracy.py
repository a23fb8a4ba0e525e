from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ofa_core.errors import PredictorError
from ofa_core.spaces import mobilenet_v3
from predictors.builtin_accuracy import BuiltinAccuracy
from predictors.loading import load_accuracy


def test_builtin_is_for_one_space():
    space = mobilenet_v3(1.0)
    predictor = load_accuracy(None, space)
    assert isinstance(predictor, BuiltinAccuracy)
    large, small = predictor.predict([space.largest(), space.smallest(224)])
    assert 76.5 < large < 78.5
    assert 70 < small < 72.5
    by_size = predictor.predict([space.largest(px) for px in space.resolutions])
    assert (np.diff(by_size) > 0).all()
    assert "At other resolutions, use it for comparison only" in predictor.note
    with pytest.raises(PredictorError, match="proxy:macs"):
        load_accuracy(None, mobilenet_v3(1.2))
    with pytest.raises(PredictorError, match="no data at 240 px"):
        predictor.predict([space.largest(240)])
    _, low, high = predictor.predict([space.largest(224), space.largest(160)], return_interval=True)
    assert high[1] - low[1] > high[0] - low[0] > 0


def test_builtin_states_its_errors():
    facts = BuiltinAccuracy().facts
    assert facts["mae_by_net"] <= 0.08
    assert facts["mae_by_run"] <= 0.11
    assert len(facts["sources"]) == 2


@pytest.mark.reference
def test_builtin_agrees_with_its_data(reference_data: Path):
    import csv

    with (reference_data / "ofa_mbv3_w1.0_imagenet_top1.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    archs = [{k: json.loads(row[k]) for k in ("ks", "e", "d", "r")} for row in rows]
    errors = BuiltinAccuracy().predict(archs) - [float(row["top1"]) for row in rows]
    assert np.abs(errors).mean() < 0.05  # in-sample: the held-out figure is in `facts`
    assert abs(errors.mean()) < 0.01
