from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ofa_core.arch_json import arch_to_dict
from ofa_core.errors import FormatError, PredictorError
from ofa_core.genomes import decode, sample_genomes
from ofa_core.measured_networks import networks_path, write_networks
from ofa_core.spaces import mobilenet_v3
from predictors import filling
from predictors.accuracy import AccuracyPredictor, MacsProxy
from predictors.loading import LatencyFile, load_accuracy, load_latency
from predictors.lut import LutPredictor
from predictors.network import NetworkPredictor
from predictors.persistence import save_predictor


def device_ms(space, genomes):
    return np.array([space.macs(arch) / 1e7 + len(space.blocks(arch)) / 10 for arch in decode(space, genomes)])


def test_a_file_is_read_once_for_its_spaces_and_its_predictor(tmp_path: Path, space, make_table):
    path = tmp_path / "rig.csv"
    make_table(space, [160]).write(path)
    file = LatencyFile.read(path)
    path.unlink()
    assert file.spaces() == (space,)
    genomes = sample_genomes(space, 5, np.random.default_rng(0), [160])
    assert file.predictor().predict(genomes).tolist() == file.predictor(space, fill=True).predict(genomes).tolist()


def test_a_predictor_of_the_other_quantity_is_refused(tmp_path: Path, tiny_space, make_table):
    genomes = sample_genomes(tiny_space, 40, np.random.default_rng(0))
    ms = device_ms(tiny_space, genomes)
    table = LutPredictor(tiny_space).fit(make_table(tiny_space, [32]))
    path = tmp_path / "x.predictor"
    for predictor in (NetworkPredictor(tiny_space).fit(genomes, ms), table):
        save_predictor(path, predictor)
        assert load_latency(path).label == predictor.label
        with pytest.raises(PredictorError, match=r"x\.predictor predicts latency; a predictor of accuracy is expected"):
            load_accuracy(str(path), tiny_space)
    for predictor in (AccuracyPredictor(tiny_space).fit(genomes, 50 + ms), MacsProxy(tiny_space)):
        save_predictor(path, predictor)
        assert load_accuracy(str(path), tiny_space).label == predictor.label
        with pytest.raises(PredictorError, match=r"x\.predictor predicts accuracy; a predictor of latency is expected"):
            load_latency(path)
        with pytest.raises(PredictorError, match="a source predicts top1; a predictor of latency_ms is expected"):
            NetworkPredictor(tiny_space).fit(genomes, ms, sources=[predictor])


def test_load_reads_table_and_networks(tmp_path: Path, space, make_table, make_networks):
    table = make_table(space, [160])
    path = tmp_path / "rig.csv"
    table.write(path)
    assert not load_latency(path).calibrated
    write_networks(networks_path(path), table.context, make_networks(space, [160], 24))
    predictor = load_latency(path)
    assert predictor.calibrated
    assert predictor.space == space
    assert predictor.label == "rig (onnxruntime, 1 thread)"


def test_space_must_be_clear(tmp_path: Path, space, make_table, make_networks):
    both = make_table(space, [160]).with_entries(make_table(mobilenet_v3(1.2), [160]).entries)
    path = tmp_path / "both.csv"
    both.write(path)
    with pytest.raises(PredictorError, match=r"several spaces \(mbv3-w1\.0, mbv3-w1\.2\); choose one with --space"):
        load_latency(path)
    write_networks(networks_path(path), both.context, make_networks(space, [160], 3))
    assert load_latency(path).space == space
    none = type(both)(both.context, dict(list(both.entries.items())[:30]))
    none.write(tmp_path / "none.csv")
    with pytest.raises(PredictorError, match="choose one with --space, and add --fill"):
        load_latency(tmp_path / "none.csv")


def test_csv_is_fitted(tmp_path: Path):
    space = mobilenet_v3(1.0)
    rng = np.random.default_rng(4)
    genomes = sample_genomes(space, 40, rng, [224])
    top1 = 60 + device_ms(space, genomes) / 10 + 0.02 * rng.standard_normal(40)
    path = tmp_path / "mine.csv"
    lines = ["space,ks,e,d,r,top1"]
    for arch, value in zip(decode(space, genomes), top1, strict=True):
        record = arch_to_dict(arch, space)
        lines.append(",".join([space.name, *(f'"{json.dumps(record[k])}"' for k in ("ks", "e", "d", "r")), f"{value}"]))
    path.write_text("\n".join(lines))
    predictor = load_accuracy(str(path), space)
    assert isinstance(predictor, AccuracyPredictor)
    assert predictor.n_rows_ == 40
    with pytest.raises(FormatError, match=r"no row of space mbv3-w1\.2"):
        load_accuracy(str(path), mobilenet_v3(1.2))
    with pytest.raises(FormatError):
        load_accuracy(str(tmp_path / "none.csv"), space)
    path.write_text("space,ks,e,d,r,top1\nmbv3-w1.0,[3],[3],[2],[224],x\n")
    with pytest.raises(FormatError, match="line 2: top1 is 'x'"):
        load_accuracy(str(path), space)


@pytest.mark.reference
@pytest.mark.torch
def test_published_file_is_read(reference_data: Path):
    pytest.importorskip("torch")
    space = mobilenet_v3(1.2)
    predictor = load_accuracy(str(reference_data / "acc_predictor.pth"), space)
    assert predictor.predict([space.largest(224)])[0] == pytest.approx(83.592778, rel=1e-6)


def written(folder: Path, space, table, networks) -> Path:
    path = folder / "rig.csv"
    table.write(path)
    write_networks(networks_path(path), table.context, networks)
    return path


def launch_bound(networks):
    """Latency by the number of layers, squared so that no scale and no term per layer corrects the sum."""
    return [replace(net, latency_ms=0.01 * net.n_blocks**2) for net in networks]


def test_where_sums_give_no_latency_a_model_of_whole_networks_is_used(
    tmp_path, space, make_table, make_networks, caplog
):
    networks = launch_bound(make_networks(space, [160, 192], 24))
    path = written(tmp_path, space, make_table(space, [160, 192]), networks)
    with caplog.at_level("WARNING"):
        predictor = load_latency(path)
    assert isinstance(predictor, NetworkPredictor)
    [message] = caplog.messages
    assert message.startswith("rig (onnxruntime, 1 thread): the sum of blocks does not predict whole networks")
    others = launch_bound(make_networks(space, [160, 192], 60))[24:]
    truth = np.array([net.latency_ms for net in others])
    by_sum = LutPredictor(space).fit(make_table(space, [160, 192]), networks)
    archs = [net.arch for net in others]
    assert np.abs(predictor.predict(archs) / truth - 1).mean() < 0.5 * np.abs(by_sum.predict(archs) / truth - 1).mean()
    assert predictor.lut is not None  # per-layer latencies stay available


@pytest.mark.parametrize("fill", [False, True])
def test_a_model_of_whole_networks_estimates_blocks_on_demand_only(
    tmp_path, space, make_table, make_networks, caplog, fill
):
    networks = launch_bound(make_networks(space, [160, 192], 24))
    path = written(tmp_path, space, make_table(space, [160, 192]), networks)
    with caplog.at_level("INFO"):
        predictor = load_latency(path, fill=fill)
    assert isinstance(predictor, NetworkPredictor)
    assert (176 in predictor.resolutions) == fill
    assert any("blocks that were not measured are estimated" in line for line in caplog.messages) == fill
    save_predictor(tmp_path / "rig.predictor", predictor)
    assert load_latency(tmp_path / "rig.predictor").resolutions == predictor.resolutions


def test_rough_estimates_name_the_option_that_measures_more_blocks(space, make_table, caplog, monkeypatch):
    monkeypatch.setattr(filling, "MAX_ERROR", 0.0)
    with caplog.at_level("WARNING"):
        LutPredictor(space, fill=True).fit(make_table(space, [160]))
    assert "measure more blocks (--fraction, or --plan all)" in caplog.text


@pytest.mark.parametrize("case", ["additive", "few networks", "no networks", "equal latencies"])
def test_a_table_is_summed_otherwise(tmp_path, space, make_table, make_networks, caplog, case):
    networks = make_networks(space, [160], 24)
    if case != "additive":
        networks = launch_bound(networks)[: {"few networks": 8, "no networks": 0, "equal latencies": 24}[case]]
    if case == "equal latencies":
        networks = [replace(net, latency_ms=3.0) for net in networks]
    with caplog.at_level("WARNING"):
        assert isinstance(load_latency(written(tmp_path, space, make_table(space, [160]), networks)), LutPredictor)
    assert not caplog.messages
