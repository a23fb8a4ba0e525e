"""A quantised sub-net in torch gives the integers of the exported files, and learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.export import onnx_int8, tflite_int8  # noqa: E402
from ofa_core.export.trained_weights import trained_weights  # noqa: E402
from ofa_core.genomes import sample_arch  # noqa: E402
from ofa_core.nn.supernet import Supernet, extract  # noqa: E402
from ofa_core.spaces import get_space  # noqa: E402
from ofa_core.train.bn_calibration import calibrate  # noqa: E402
from ofa_core.train.commands import Request  # noqa: E402
from ofa_core.train.distributed import ALONE  # noqa: E402
from ofa_core.train.int8 import RangeSettings, ranges_of  # noqa: E402
from ofa_core.train.integer import IntegerNet, IntegerTraining  # noqa: E402
from ofa_core.train.published import open_published  # noqa: E402
from ofa_core.train.ranges import find_ranges  # noqa: E402
from ofa_core.train.writing import Finished, writer_of  # noqa: E402

SPACES = ("tiny", "mbv3-w0.35", "proxyless-w0.35")


def images(n: int, seed: int):
    return torch.randn((n, 3, 32, 32), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=SPACES)
def quantised(request):
    """Space, architecture, calibrated sub-net, its weights and ranges."""
    space = get_space(request.param).with_classes(10)
    arch = sample_arch(space, np.random.default_rng(1), (32,))
    net = extract(Supernet(space, seed=2).eval(), arch)
    calibrate(net, [images(16, 0)])
    weights = trained_weights(net)
    return space, arch, net.eval(), weights, find_ranges(space.blocks(arch), weights, [images(16, 1)]).blocks


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_an_exported_file_gives_the_integers_of_torch(quantised, suffix, run_file, tmp_path):
    space, arch, _, weights, ranges = quantised
    path, x = tmp_path / f"net.{suffix}", images(64, 2)
    if suffix == "onnx":
        path.write_bytes(onnx_int8.arch_model(space, arch, weights=weights, ranges=ranges).SerializeToString())
    else:
        path.write_bytes(tflite_int8.arch_tflite(space, arch, weights=weights, ranges=ranges))
    expected = IntegerNet(space.blocks(arch), weights, ranges)(x).numpy()
    got = run_file(path, x.numpy())
    np.testing.assert_array_equal(got.argmax(1), expected.argmax(1))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert len(set(expected.argmax(1))) > 1


@pytest.mark.parametrize("quantised", ["tiny"], indirect=True)  # deep networks of random weights amplify any change
def test_the_integers_are_near_the_network(quantised):
    space, arch, net, weights, ranges = quantised
    x = images(64, 1)
    with torch.no_grad():
        expected = net(x)
    got = IntegerNet(space.blocks(arch), weights, ranges)(x)
    assert ((got - expected).square().mean() / expected.var()).item() < 0.02


@pytest.mark.parametrize("form", ["integer", "fused"])
def test_training_computes_what_evaluation_computes(quantised, form):
    space, arch, net, weights, ranges = quantised
    x = images(8, 2)
    model = IntegerTraining(net, ranges, form).train()
    y = model(x)
    torch.testing.assert_close(y.detach(), IntegerNet(space.blocks(arch), weights, ranges, form)(x), rtol=0, atol=0)
    y.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert net.layers[0].conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("quantised", ["tiny"], indirect=True)
def test_gradients_are_near_those_of_the_network(quantised):
    _, _, net, _, ranges = quantised
    x, gradients = images(16, 1), []
    for model in (net, IntegerTraining(net, ranges)):
        net.zero_grad()
        model(x).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.9


@pytest.mark.reference
@pytest.mark.slow
def test_a_real_network_computes_the_same_integers_everywhere(reference_data, run_file, tmp_path):
    """The published proxyless-w0.3 on real photos; benchmarks/int8_accuracy.py runs all of them."""
    stem, photos = reference_data / "proxyless-w0.3-r176_imagenet", reference_data / "imagenette224_val.npz"
    request = Request(Path(f"{stem}.pth"), f"npz:{photos},{photos}", preprocessing="half")
    net, px, evaluator = open_published(Path(f"{stem}.json"), request, ALONE)
    ranges = ranges_of(net, px, evaluator, RangeSettings(n_images=32))
    x = evaluator.range_images(px, 96)[-1]
    outputs = [IntegerNet.of(net, ranges)(x).numpy()]
    for name in ("net.tflite", "net.onnx"):
        writer_of(tmp_path / name, int8=True)(Finished(net, "net", ranges))
        outputs.append(run_file(tmp_path / name, x.numpy()))
    for other in outputs[1:]:
        assert np.mean(np.isclose(outputs[0], other, atol=1e-4)) > 0.99
        assert np.mean(outputs[0].argmax(1) == other.argmax(1)) > 0.99
    with torch.no_grad():
        assert np.mean(net(x).numpy().argmax(1) == outputs[0].argmax(1)) > 0.7
