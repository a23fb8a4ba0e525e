"""The work of the sub-commands of `ofa-train`, below the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import OfaError, SpaceError  # noqa: E402
from ofa_core.formats.checkpoint import Checkpoint, write_checkpoint  # noqa: E402
from ofa_core.formats.published_weights import write_published  # noqa: E402
from ofa_core.nn.supernet import Supernet  # noqa: E402
from ofa_core.spaces import mobilenet_v3, tiny  # noqa: E402
from ofa_core.train.commands import (  # noqa: E402
    NAMED_PREPROCESSING,
    check_classes,
    evaluate_standard,
    load_weights,
    named_preprocessing,
    net_for,
)
from ofa_core.train.evaluation import Evaluator  # noqa: E402

HALF = NAMED_PREPROCESSING["half"]


@pytest.fixture
def evaluator(few_images) -> Evaluator:
    return Evaluator(few_images, np.arange(20), few_images, np.arange(20, 40), HALF, n_calibration=8, batch_size=8)


def test_preprocessing_by_name() -> None:
    assert named_preprocessing("half", Path("w.pt")) is HALF
    with pytest.raises(OfaError, match=r"^w\.pt does not hold its preprocessing; give --preprocessing, one of"):
        named_preprocessing(None, Path("w.pt"))
    with pytest.raises(OfaError, match=r"^unknown preprocessing 'haf'; choose one of imagenet, half, half-crop$"):
        named_preprocessing("haf", Path("w.pt"))


def test_our_checkpoints_and_published_weights(tmp_path: Path) -> None:
    net = Supernet(tiny(), seed=3)
    write_checkpoint(tmp_path / "own.pt", net, tiny(), HALF)
    write_published(tmp_path / "theirs", net)
    own = load_weights(tmp_path / "own.pt", None, None)
    assert (own.space, own.preprocessing) == (tiny(), HALF)
    theirs = load_weights(tmp_path / "theirs", tiny(), "half")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), theirs.net.parameters(), strict=True))
    with pytest.raises(SpaceError, match="tiny"):
        load_weights(tmp_path / "own.pt", mobilenet_v3(), None)
    with pytest.raises(OfaError, match="give --space"):
        load_weights(tmp_path / "theirs", None, "half")


def test_classes_are_compared_by_name_and_else_by_number() -> None:
    space = tiny().with_classes(2)
    named = Checkpoint(Supernet(space), space, None, HALF, ("ant", "bee"))
    check_classes(named, ("ant", "bee"), Path("w.pt"), "digits")
    with pytest.raises(OfaError, match=r"^w\.pt was trained on other classes than those of npz:x: "):
        check_classes(named, ("bee", "ant"), Path("w.pt"), "npz:x")
    unnamed = Checkpoint(Supernet(space), space, None, HALF)
    check_classes(unnamed, ("x", "y"), Path("w.pt"), "digits")
    with pytest.raises(OfaError, match=r"^w\.pt has 2 classes, and digits has 3; give its own images as --data"):
        check_classes(unnamed, ("x", "y", "z"), Path("w.pt"), "digits")


def test_a_sub_net_of_a_supernet_or_its_own(evaluator: Evaluator) -> None:
    space = tiny().with_classes(4)
    small, large = space.smallest(24), space.largest(24)
    supernet = Checkpoint(Supernet(space, seed=1), space, None, HALF)
    sub, arch = net_for(supernet, small, evaluator)
    assert arch == small
    own = Checkpoint(sub, space, small, HALF)
    assert net_for(own, None, evaluator) == net_for(own, small, evaluator) == (sub, small)
    with pytest.raises(OfaError, match=r"the checkpoint holds the sub-net r24 .*, not r24"):
        net_for(own, large, evaluator)
    with pytest.raises(OfaError, match=r"the checkpoint is a supernet; give the sub-net as an arch\.json"):
        net_for(supernet, None, evaluator)
    rows = list(evaluate_standard(supernet.net, evaluator, {"a": small, "b": large}))
    assert [(name, arch, a.n_images) for name, arch, a in rows] == [("a", small, 20), ("b", large, 20)]
