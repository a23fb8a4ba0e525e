from __future__ import annotations

import numpy as np
import pytest

from ofa_core.genomes import encode
from predictors.network import NetworkPredictor
from predictors.plots import LEVELS, judge


def test_pictures_show_the_networks_that_were_not_learnt_from(space, make_networks):
    networks = make_networks(space, [160, 192], 80, noise=0.02)
    archs, truth = [net.arch for net in networks], np.array([net.latency_ms for net in networks])
    model = NetworkPredictor(space).fit(archs[:40], truth[:40])
    judged = judge("rig", model, space, encode(space, archs[40:]), truth[40:])
    assert judged.networks == tuple(str(arch) for arch in archs[40:])
    assert judged.predicted == pytest.approx(model.predict(archs[40:]))
    assert sum(len(group) for name, group in judged.residuals.items() if name.startswith("1.")) == 40
    deep = [net.arch.depths[2] == 4 for net in networks[40:]]
    want = 100 * np.log(truth[40:] / judged.predicted)[deep]
    assert judged.residuals["3.4"] == pytest.approx(want)
    inside = (judged.low <= truth[40:]) & (truth[40:] <= judged.high)
    assert judged.covered[LEVELS.index(0.9)] == pytest.approx(100 * inside.mean())
