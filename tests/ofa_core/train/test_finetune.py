from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import OfaError  # noqa: E402
from ofa_core.formats.checkpoint import read_checkpoint  # noqa: E402
from ofa_core.nn.subnet import build_subnet  # noqa: E402
from ofa_core.space import Stage  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train.finetune import finetune_subnet  # noqa: E402
from ofa_core.train.phases import finetune  # noqa: E402
from ofa_core.train.run import Data, Events, TrainingRun  # noqa: E402


@pytest.fixture
def losses(few_images, small_config, tmp_path):
    """Fine-tune one block with a stem and a head, as small as a network can be, and return each step's loss."""
    stage = Stage(8, 2, "relu", False, (1,))
    space = replace(tiny(), stages=(stage,), first_act="relu", head_act="relu", final_expand_c=8, feature_c=0)
    space = space.with_classes(4)
    data = Data(few_images, few_images, np.arange(40), np.arange(0))

    def run(*, compiled: bool) -> list[float]:
        found: list[float] = []
        arch = space.smallest(24)
        net = build_subnet(space, arch)
        config = replace(small_config, run=replace(small_config.run, compile=compiled))
        events = Events(step=lambda step: found.append(step.loss))
        phase = replace(finetune(2), batch_size=8, lr=0.05, dropout=0.0)
        finetune_subnet(TrainingRun(config, data, tmp_path / "sub.pt", events=events), net, space, arch, phase)
        x = torch.randn((3, 3, 24, 24), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():  # another mode and batch size than in training: it must not be compiled anew
            torch.testing.assert_close(read_checkpoint(tmp_path / "sub.pt").net(x), net(x))
        return found

    return run


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="needs a C++ compiler, as torch.compile does"
)
def test_a_compiled_network_learns_what_it_learns_otherwise(losses, tmp_path, monkeypatch):
    from torch._dynamo.utils import counters

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))  # nothing from an earlier run
    torch._dynamo.reset()
    counters.clear()
    compiled = losses(compiled=True)
    assert counters["stats"]["unique_graphs"] == 1
    assert list((tmp_path / "compiled").rglob("*.cpp"))
    np.testing.assert_allclose(compiled, losses(compiled=False), rtol=1e-4)
    assert len(compiled) == 10
    assert compiled[-1] < compiled[0]


def test_a_missing_compiler_is_one_line(losses, tmp_path, monkeypatch):
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setattr(config.cpp, "cxx", (None, str(tmp_path / "no-compiler")))
    torch._dynamo.reset()
    with pytest.raises(OfaError, match=r"^compile = true: torch cannot compile here \(.*[Cc]\+\+ compiler.*\)$"):
        losses(compiled=True)
