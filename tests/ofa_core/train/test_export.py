"""A trained sub-net as ONNX and as TFLite gives the same answers as torch."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.cli_app import run_app  # noqa: E402
from ofa_core.export.layers import layers  # noqa: E402
from ofa_core.export.trained_weights import trained_weights  # noqa: E402
from ofa_core.formats.checkpoint import write_checkpoint  # noqa: E402
from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.genomes import sample_arch  # noqa: E402
from ofa_core.nn.supernet import Supernet, extract  # noqa: E402
from ofa_core.spaces import get_space, tiny  # noqa: E402
from ofa_core.train.bn_calibration import calibrate  # noqa: E402
from ofa_core.train.cli import app  # noqa: E402

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
@pytest.mark.parametrize("name", ["tiny", "mbv3-w0.35", "proxyless-w0.35"])
def test_an_exported_file_gives_the_logits_of_torch(name, suffix, run_file, tmp_path, capsys):
    space = get_space(name).with_classes(10)
    arch = sample_arch(space, np.random.default_rng(1), (32,))
    sub = extract(Supernet(space, seed=2).eval(), arch)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((64, 3, 32, 32), generator=generator)
    calibrate(sub, [torch.randn((16, 3, 32, 32), generator=generator)])
    write_checkpoint(tmp_path / "sub.pt", sub, space, HALF, arch)
    words = ["export", str(tmp_path / "sub.pt"), "--batch-size", "16", "--out", str(tmp_path / f"net.{suffix}")]
    assert run_app(app, words, prog="ofa-train") == 0
    assert capsys.readouterr().out == f"{tmp_path / f'net.{suffix}'}\n"
    with torch.no_grad():
        expected = sub(x).numpy()
    got = run_file(tmp_path / f"net.{suffix}", x.numpy())
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(got.argmax(1), expected.argmax(1))
    assert len(set(expected.argmax(1))) > 1


def test_the_layers_are_those_that_the_writers_expect():
    space = tiny()
    arch = space.largest()
    blocks = space.blocks(arch)
    for block, folded in zip(blocks, trained_weights(extract(Supernet(space), arch)), strict=True):
        assert [layer.weight.shape for layer in folded.layers] == [layer.weight_shape for layer in layers(block)]
        assert [layer.bias.shape for layer in folded.layers] == [(layer.out_c,) for layer in layers(block)]
