"""A trained supernet for the exported network: which files are accepted, and which weights come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
    one, again = (trained.finished(arch)[0] for _ in range(2))
    assert one.member == (small, arch)
    assert one.ranges is None
    plain = extract(net.eval(), arch).state_dict()
    differs = set()
    for name, tensor in one.net.state_dict().items():
        assert torch.equal(tensor, again.net.state_dict()[name]), "the same images calibrate"
        if not torch.equal(tensor, plain[name]):
            differs.add(name.rpartition(".")[2])
    assert {"running_mean", "running_var"} <= differs <= {"running_mean", "running_var", "num_batches_tracked"}


def test_other_files_are_refused_before_the_search(small: Space, tmp_path: Path) -> None:
    arch = small.smallest(24)
    write_checkpoint(tmp_path / "sub.pt", extract(Supernet(small), arch), small, HALF, arch)
    with pytest.raises(OfaError, match=r"sub\.pt holds one sub-net of tiny; a supernet of tiny is expected"):
        Trained(tmp_path / "sub.pt", "digits", None, small)
    other = replace(small, name="other", first_stride=1)
    write_checkpoint(tmp_path / "other.pt", Supernet(other), other, HALF)
    with pytest.raises(SpaceError, match=r"stem stride.*; to search in its space, give --space .*other\.pt"):
        Trained(tmp_path / "other.pt", "digits", None, small)
