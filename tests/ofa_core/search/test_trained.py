"""A trained supernet for the exported network: which files are accepted, and which weights come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import OfaError, SpaceError  # noqa: E402
from ofa_core.formats.checkpoint import write_checkpoint  # noqa: E402
from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.nn.supernet import Supernet, extract  # noqa: E402
from ofa_core.search.trained import Trained  # noqa: E402
from ofa_core.space import Space  # noqa: E402

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")


def test_weights_are_those_of_the_supernet_with_calibrated_statistics(small: Space, tmp_path: Path) -> None:
    net = Supernet(small, seed=1)
    write_checkpoint(tmp_path / "net.pt", net, small, HALF)
    trained = Trained(tmp_path / "net.pt", "digits", None, small)
    arch = small.smallest(24)
    weights = trained.weights_of(arch)
    assert len(weights) == len(small.blocks(arch))
    for got, again in zip(weights, trained.weights_of(arch), strict=True):  # the same images calibrate
        for a, b in zip(got.layers, again.layers, strict=True):
            assert np.array_equal(a.weight, b.weight)
    classifier = weights[-1].layers[0].weight
    assert np.array_equal(classifier, net.layers[-1].linear.weight.detach().numpy())


def test_other_files_are_refused_before_the_search(small: Space, tmp_path: Path) -> None:
    arch = small.smallest(24)
    write_checkpoint(tmp_path / "sub.pt", extract(Supernet(small), arch), small, HALF, arch)
    with pytest.raises(OfaError, match=r"sub\.pt holds one sub-net of tiny; a supernet of tiny is expected"):
        Trained(tmp_path / "sub.pt", "digits", None, small)
    other = replace(small, name="other", first_stride=1)
    write_checkpoint(tmp_path / "other.pt", Supernet(other), other, HALF)
    with pytest.raises(SpaceError, match=r"stem stride.*; to search in its space, give --space .*other\.pt"):
        Trained(tmp_path / "other.pt", "digits", None, small)
