"""A trained sub-net as ONNX gives the same answers as torch."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.nn.supernet import Supernet, extract  # noqa: E402
from ofa_core.spaces import get_space, tiny  # noqa: E402
from ofa_core.train.calibration import calibrate  # noqa: E402
from ofa_core.train.export import folded_layers  # noqa: E402
from profiler.export.layers import layers  # noqa: E402
from profiler.export.to_onnx import arch_model, write_onnx  # noqa: E402
from profiler.export.weights import BlockWeights, LayerWeights  # noqa: E402


@pytest.mark.parametrize("name", ["tiny", "mbv3-w0.35", "proxyless-w0.35"])
def test_onnxruntime_gives_the_logits_of_torch(name, tmp_path):
    import onnxruntime

    space = get_space(name).with_classes(10)
    arch = space.sample(np.random.default_rng(1), (32,))
    sub = extract(Supernet(space, seed=2).eval(), arch)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((8, 3, 32, 32), generator=generator)
    calibrate(sub, [torch.randn((16, 3, 32, 32), generator=generator)])
    weights = [BlockWeights(tuple(LayerWeights(w, b) for w, b in block)) for block in folded_layers(sub)]
    write_onnx(arch_model(space, arch, batch_size=8, weights=weights), tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(got, sub(x).numpy(), atol=1e-4, rtol=1e-3)


def test_the_layers_are_those_that_the_writers_expect():
    space = tiny()
    arch = space.largest()
    blocks = space.blocks(arch)
    for block, folded in zip(blocks, folded_layers(extract(Supernet(space), arch)), strict=True):
        assert [w.shape for w, _ in folded] == [layer.weight_shape for layer in layers(block)]
        assert [b.shape for _, b in folded] == [(layer.out_c,) for layer in layers(block)]
