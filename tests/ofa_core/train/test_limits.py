from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from ofa_core.errors import OfaError
from ofa_core.train.limits import check_limits


def test_numbers_within_their_range_and_absent_ones() -> None:
    settings = SimpleNamespace(lr=0.1, scale=(0.0, 1.0), epochs=None, seed=10**9)
    check_limits(settings, {"lr": (0, 1), "scale": (0, 1), "epochs": (1, 2), "seed": (0, math.inf)})


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (1.5, (0, 1), "run.x is 1.5, 0 to 1 is expected"),
        ((0.5, -1.0), (0, 1), "run.x is -1.0, 0 to 1 is expected"),
        (math.nan, (0, 1), "run.x is nan, 0 to 1 is expected"),
        (math.inf, (0, math.inf), "run.x is inf, at least 0 is expected"),
        (0, (1, math.inf), "run.x is 0, at least 1 is expected"),
    ],
)
def test_the_first_number_outside_its_range_is_named(value: object, limits: tuple[float, float], message: str) -> None:
    with pytest.raises(OfaError) as raised:
        check_limits(SimpleNamespace(x=value), {"x": limits}, "run.")
    assert str(raised.value) == message
