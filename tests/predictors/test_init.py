from __future__ import annotations

import pytest

import predictors


@pytest.mark.parametrize("name", predictors.__all__)
def test_every_public_name_is_importable(name: str) -> None:
    assert getattr(predictors, name).__module__.startswith("predictors.")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Oracle'"):
        _ = predictors.Oracle
