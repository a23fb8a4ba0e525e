"""Spaces that are unlike the built-in ones: everything that takes a space takes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ofa_core.arch_json import arch_from_dict, arch_to_dict
from ofa_core.genomes import decode, sample_arch, sample_genomes
from ofa_core.search.run import most_accurate, search
from ofa_core.space import Space, Stage
from ofa_core.space_record import check_space, space_columns, space_of
from ofa_core.table import Context, Entry, LatencyTable
from predictors.accuracy import AccuracyPredictor, MacsProxy
from predictors.lut import LutPredictor
from predictors.network import NetworkPredictor

ONE_STAGE = Space(
    name="one stage",
    first_c=8,
    first_act="relu",
    base_c=8,
    base_act="relu6",
    stages=(Stage(8, 1, "h_swish", True, (1, 2, 4)),),
    final_expand_c=16,
    feature_c=0,
    head_act="relu",
    kernels=(5,),
    expands=(2, 3),
    resolutions=(20, 24),
    n_classes=2,
    first_stride=1,
)
FIXED = replace(
    ONE_STAGE,
    name="depths alone",
    expands=(6,),
    feature_c=24,
    stages=(*ONE_STAGE.stages, Stage(12, 2, "relu", False, (2, 3))),
)
MANY = replace(
    ONE_STAGE,
    name="seven stages",
    kernels=(1, 3, 9),
    expands=(2, 5),
    stages=tuple(Stage(8 + 4 * i, 1 + i % 2, "relu6", i % 3 == 0, (1, 2)) for i in range(7)),
    resolutions=(32, 36, 64),
)
FLAT = replace(ONE_STAGE, name="no expansion", expands=(1,), kernels=(3, 7))
SPACES = pytest.mark.parametrize("space", [ONE_STAGE, FIXED, MANY, FLAT], ids=lambda space: space.name)


def latency_ms(block) -> float:
    return 1e-6 * block.macs + 0.01


def table_of(space: Space) -> LatencyTable:
    entries = {(None, block): Entry(latency_ms(block)) for block in space.all_blocks()}
    return LatencyTable(Context(device="rig", backend="b"), entries)


@SPACES
def test_values(space: Space) -> None:
    assert space_of(space_columns(check_space(space))) == space
    for arch in decode(space, sample_genomes(space, 20, np.random.default_rng(0))):
        assert arch_from_dict(arch_to_dict(arch, space), space) == arch


@SPACES
def test_search(space: Space) -> None:
    latency = LutPredictor(space).fit(table_of(space))
    ends = latency.predict([space.smallest(), space.largest()])
    limit_ms = float(ends.mean())
    result = search(most_accurate(space, latency, MacsProxy(space), limit_ms))
    assert result.best.latency_ms <= limit_ms
    assert result.best.top1 > MacsProxy(space).predict([space.smallest()])[0]


def test_a_space_of_one_network() -> None:
    space = replace(FIXED, stages=(Stage(8, 1, "relu", False, (2,)),), resolutions=(24,))
    latency = LutPredictor(space).fit(table_of(space))
    result = search(most_accurate(space, latency, MacsProxy(space), 100.0))
    assert result.best.arch == space.largest()


@SPACES
def test_fits(space: Space) -> None:
    genomes = np.unique(sample_genomes(space, 200, np.random.default_rng(0)), axis=0)
    truth = LutPredictor(space).fit(table_of(space)).predict(genomes)
    learnt = NetworkPredictor(space).fit(genomes, truth)
    assert np.abs(learnt.predict(genomes) / truth - 1).mean() < 0.1
    if len(genomes) >= 20:
        top1 = 50 + 10 * np.log(truth)
        model = AccuracyPredictor(space).fit(genomes, top1)
        assert np.abs(model.predict(genomes) - top1).mean() < 1


@SPACES
@pytest.mark.torch
def test_recipes(space: Space) -> None:
    pytest.importorskip("torch", reason="needs torch")
    from ofa_core.train.phases import RECIPES, restricted

    for recipe in RECIPES.values():
        phases = recipe(space)
        assert restricted(space, phases[-1]) == space
        assert all(restricted(space, phase).n_subnets > 1 for phase in phases[1:])


@SPACES
@pytest.mark.torch
def test_networks(space: Space, tmp_path) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    from ofa_core.export.onnx import arch_model
    from ofa_core.export.tflite import arch_tflite
    from ofa_core.formats.checkpoint import read_checkpoint, write_checkpoint
    from ofa_core.formats.net_config import read_member, write_net_config
    from ofa_core.formats.preprocessing import Preprocessing
    from ofa_core.nn.sorting import sort_channels
    from ofa_core.nn.supernet import Supernet, extract

    net = Supernet(space, seed=1).eval()
    arch = sample_arch(space, np.random.default_rng(2))
    x = torch.randn(2, 3, arch.resolution_px, arch.resolution_px)
    with torch.no_grad():
        torch.testing.assert_close(net(x, arch), extract(net, arch)(x))
    sort_channels(net)
    write_checkpoint(tmp_path / "net.pt", net, space, Preprocessing((0.5,) * 3, (0.5,) * 3, "direct"))
    assert read_checkpoint(tmp_path / "net.pt").space == space
    arch_model(space, arch)
    arch_tflite(space, arch)
    write_net_config(tmp_path / "net", space, arch)
    assert read_member(tmp_path / "net") == (space, arch)
