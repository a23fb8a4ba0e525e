from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import OfaError  # noqa: E402
from ofa_core.formats.torch_files import require_safe_torch  # noqa: E402


@pytest.mark.parametrize("version", ["2.1.0", "2.5.1+cu124", "2.9.1"])
def test_an_old_torch_reads_no_weights(version: str) -> None:
    with pytest.raises(OfaError, match=r"install torch 2.10 or later to read weights"):
        require_safe_torch(version)


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "2.11.0a0+git1234", "3.0"])
def test_a_newer_one_does(version: str) -> None:
    require_safe_torch(version)
