"""The forms of an exported network."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import OfaError  # noqa: E402
from ofa_core.nn.supernet import Supernet, extract  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train.writing import Finished, writer_of  # noqa: E402


@pytest.mark.parametrize(
    ("name", "files"),
    [("net.onnx", {"net.onnx"}), ("folder", {"folder/net.config", "folder/run.config", "folder/init"})],
)
def test_each_form_of_an_exported_sub_net(name: str, files: set[str], tmp_path: Path) -> None:
    space = tiny()
    arch = space.smallest(24)
    sub = extract(Supernet(space), arch).eval()
    writer_of(tmp_path / name)(Finished(sub, (space, arch)))
    assert all((tmp_path / file).stat().st_size > 10 for file in files)


def test_a_published_folder_holds_no_int8(tmp_path: Path) -> None:
    with pytest.raises(OfaError, match="holds float32 weights only"):
        writer_of(tmp_path / "folder", int8=True)
