"""`ofa-search` from its words to its files, on a made-up table of the small space."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.arch_json import arch_from_dict, arch_to_dict, read_arch_dict
from ofa_core.cli_app import run_app
from ofa_core.energy_model import giga_sizes
from ofa_core.formats.yaml_tables import write_ofa_yaml
from ofa_core.genomes import decode, sample_genomes
from ofa_core.measured_networks import Network, networks_path, read_networks, write_networks
from ofa_core.search.cli import main
from ofa_core.space import Space
from ofa_core.spaces import proxyless
from ofa_core.table import Context, Entry, LatencyTable
from predictors.block_order import active_order
from predictors.lut import LutPredictor
from predictors.network import NetworkPredictor
from predictors.persistence import load_predictor, save_predictor

BIAS = 1.08


@pytest.fixture
def lut(tmp_path: Path, small: Space, stand_ins: Any) -> Path:
    """A table with 24 networks beside it that took 8 % longer than the sum, give or take 1 %."""
    path = tmp_path / "luts" / "made-up.csv"
    context = Context(device="made-up", backend="onnxruntime", backend_version="1.0", statistic="median")
    table = LatencyTable(context, {(None, b): Entry(stand_ins.block_ms(b)) for b in small.all_blocks()})
    table.write(path)
    rng = np.random.default_rng(4)
    archs = decode(small, sample_genomes(small, 24, rng))
    sums = table.sum_ms(small, archs)
    truth = sums * BIAS * np.exp(rng.normal(0, 0.01, len(sums)))
    networks = [
        Network(small, arch, role, len(small.blocks(arch)), float(s), float(ms))
        for arch, s, ms, role in zip(archs, sums, truth, ["reference"] * 16 + ["verify"] * 8, strict=True)
    ]
    write_networks(networks_path(path), context, networks)
    return path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ofa-search", *map(str, argv)])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_accuracies_of_another_tool(lut: Path, tmp_path: Path, small: Space, call: Any) -> None:
    archs = decode(small, sample_genomes(small, 60, np.random.default_rng(1)))
    path = tmp_path / "results.csv"
    rows = [f'"{arch_to_dict(arch, small)}";{0.5 + small.macs(arch) / 1e8}' for arch in archs]
    argv = ("--lut", lut, "--max-latency-ms", 0.05, "--no-report", "--json", "--out", tmp_path / "out", "-a", path)
    best = []
    for title, words in (
        ("Top-1 (fraction)", ()),
        ("measured", ("--column", "measured=fraction")),
        ("top1", ("--column", "top1=fraction")),
    ):
        path.write_text("\n".join([f"Sub-network;{title}", *rows]))
        code, text, err = call(*argv, *words)
        assert code == 0, err
        best.append(json.loads(text))
    assert [record["top1"] for record in best] == [best[0]["top1"]] * 3
    assert 50 < best[0]["top1"] < 60
    code, _, err = call(*argv)
    assert code == 1
    assert "as percent; if these are fractions, give --column 'top1=fraction'" in err
    path.write_text("\n".join(["Sub-network;measured", *rows]))
    code, _, err = call(*argv)
    assert code == 1
    assert "the file has 'Sub-network, measured'; expected is" in err
    assert call("--lut", lut, "--max-latency-ms", 1, "-a", "proxy:macs", "--column", "x")[0] == 2


def test_json_and_files_agree(lut: Path, tmp_path: Path, small: Space, call: Any) -> None:
    out = tmp_path / "out"
    code, text, err = call("--lut", lut, "--max-latency-ms", 0.05, "-a", "proxy:macs", "--out", out, "--json")
    assert code == 0
    record = json.loads(text)
    assert record["space"] == "tiny"
    assert record["latency_ms"] <= 0.05
    assert record["low_ms"] < record["latency_ms"] < record["high_ms"]
    assert record["latency"]["calibrated"]
    assert record["accuracy"]["percent"] is False
    assert record["measured"] is None
    assert record["seconds"] > 0
    arch = arch_from_dict(record["arch"], small)
    assert arch_from_dict(read_arch_dict(out / "arch.json"), small) == arch
    saved = json.loads((out / "search.json").read_text())
    assert {k: v for k, v in record.items() if k != "out"} == {
        k: v for k, v in saved.items() if k not in ("schema", "versions")
    }
    expected = {"arch.json", "ofa.json", "candidates.json", "pareto.csv", "blocks.csv", "networks.csv", "search.json"}
    assert expected | {"subnet.onnx"} <= {p.name for p in out.iterdir()}
    assert "has random weights: use it to measure latency, not accuracy" in err
    assert "Traceback" not in err


@pytest.fixture
def predictor(lut: Path, small: Space) -> Path:
    """Fitted to the networks beside the table, and to nothing else; it does not say how they were measured."""
    networks = read_networks(networks_path(lut))
    path = lut.with_name("fitted.predictor")
    model = NetworkPredictor(small, device="rig").fit([n.arch for n in networks], [n.latency_ms for n in networks])
    save_predictor(path, model)
    return path


def test_a_predictor_of_whole_networks_serves_as_a_table(
    predictor: Path, tmp_path: Path, small: Space, call: Any
) -> None:
    out = tmp_path / "out"
    argv = ("--lut", predictor, "--max-latency-ms", 0.05, "-a", "proxy:macs", "-o", out)
    code, text, err = call(*argv, "--json")
    assert code == 0, err
    record = json.loads(text)
    assert (record["space"], record["latency"]["calibrated"], record["latency"]["context"]) == ("tiny", True, None)
    assert record["latency"]["calibration"] is None
    model = load_predictor(predictor)
    arch = arch_from_dict(record["arch"], small)
    y, low, high = model.predict([arch], return_interval=True)
    assert (record["latency_ms"], record["low_ms"], record["high_ms"]) == pytest.approx((y[0], low[0], high[0]))
    assert record["latency_ms"] <= 0.05
    assert "holds whole networks only: no blocks.csv, and no layers in the report" in err
    # the table's own networks lie under the same stem, and are none of the predictor's business
    assert not {"blocks.csv", "networks.csv"} & {p.name for p in out.iterdir()}
    html = (out / "report.html").read_text()
    assert "tiny on rig, fitted to 24 networks: predicted within 0.05 ms" in html
    assert "measurement settings unknown" in html
    assert 'id="layers-section"' not in html
    sure = json.loads(call(*argv, "--json", "--confidence", 0.95, "--no-report")[1])
    upper = model.predict_interval([arch_from_dict(sure["arch"], small)], 0.9)[1][0]
    assert upper <= 0.05 < model.predict_interval([arch], 0.9)[1][0]


def test_measured_networks_serve_as_a_table_and_keep_their_context(lut: Path, tmp_path: Path, call: Any) -> None:
    argv = ("--lut", networks_path(lut), "--max-latency-ms", 0.05, "-a", "proxy:macs", "--no-report", "--json")
    code, text, _ = call(*argv, "-o", tmp_path / "o")
    assert code == 0
    latency = json.loads(text)["latency"]
    assert latency["label"] == "made-up (onnxruntime, 1 thread), fitted to 24 networks"
    assert latency["context"]["device"] == "made-up"
    code, _, err = call(*argv, "-o", tmp_path / "o", "--measure", "fake")
    assert (code, "has no reference speed; only tables of ofa-profile can be measured again" in err) == (1, True)


def test_a_predictor_that_stands_on_a_table_still_shows_layers(
    lut: Path, tmp_path: Path, small: Space, call: Any
) -> None:
    networks = read_networks(networks_path(lut))
    model = NetworkPredictor(small, table=LatencyTable.read(lut), context=LatencyTable.read(lut).context)
    path = tmp_path / "both.predictor"
    save_predictor(path, model.fit([n.arch for n in networks], [n.latency_ms for n in networks]))
    argv = ("--lut", path, "--max-latency-ms", 0.05, "-a", "proxy:macs", "--no-report", "--json", "-o", tmp_path / "o")
    assert call(*argv)[0] == 0
    with (tmp_path / "o" / "blocks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    arch = arch_from_dict(read_arch_dict(tmp_path / "o" / "arch.json"), small)
    sum_ms = LatencyTable.read(lut).sum_ms(small, [arch])[0]
    assert sum(float(row["latency_ms"]) for row in rows) == pytest.approx(sum_ms)


def test_the_exported_network_is_the_answer_and_marked_as_untrained(
    lut: Path, tmp_path: Path, small: Space, call: Any
) -> None:
    import onnx

    out = tmp_path / "out"
    argv = ("--lut", lut, "--max-latency-ms", 0.05, "-a", "proxy:macs", "-o", out, "--no-report")
    assert call(*argv)[0] == 0
    model = onnx.load(out / "subnet.onnx")
    onnx.checker.check_model(model)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert arch_from_dict(json.loads(metadata["arch"]), small) == arch_from_dict(
        read_arch_dict(out / "arch.json"), small
    )
    assert "random" in metadata["weights"]
    assert not (out / "report.html").exists()


@pytest.mark.torch
def test_the_exported_network_carries_a_supernets_weights(lut: Path, tmp_path: Path, small: Space, call: Any) -> None:
    pytest.importorskip("torch", reason="needs torch")
    import onnx

    from ofa_core.formats.checkpoint import write_checkpoint
    from ofa_core.formats.preprocessing import Preprocessing
    from ofa_core.nn.supernet import Supernet, extract
    from ofa_core.train.cli import app as train

    half = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")
    net, weights, out = Supernet(small, seed=1).eval(), tmp_path / "net.pt", tmp_path / "out"
    write_checkpoint(weights, net, small, half)
    argv = ("--lut", lut, "--max-latency-ms", 0.05, "-a", "proxy:macs", "-o", out)
    code, _, err = call(*argv, "--weights", weights, "--data", "digits", "--no-report")
    assert code == 0, err
    assert "random weights" not in err
    metadata = {entry.key: entry.value for entry in onnx.load(out / "subnet.onnx").metadata_props}
    assert "random" not in metadata["weights"]
    # The same as ofa-train exports, which is held against torch elsewhere.
    words = ["export", str(weights), "--arch", str(out / "arch.json"), "--out", str(tmp_path / "again.onnx")]
    assert run_app(train, words, prog="ofa-train") == 0
    assert (out / "subnet.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()
    assert json.loads((out / "search.json").read_text())["weights"] == str(weights)
    call("report", out)
    assert f"has weights of {weights}, not fine-tuned" in (out / "report.html").read_text()

    # What is wrong with them is said before the search.
    arch = arch_from_dict(read_arch_dict(out / "arch.json"), small)
    write_checkpoint(tmp_path / "sub.pt", extract(net, arch), small, half, arch)
    other = small.with_classes(7)
    write_checkpoint(tmp_path / "other.pt", Supernet(proxyless(0.35)), proxyless(0.35), half)
    for words, wanted, message in (
        (["--weights", weights], 2, "--weights needs images for batch norm calibration"),
        (["--data", "digits"], 2, "needs --weights"),
        (["--weights", tmp_path / "none.pt", "--data", "digits"], 1, "none.pt"),
        (["--weights", tmp_path / "sub.pt", "--data", "digits"], 1, "holds one sub-net of tiny; a supernet"),
        (["--weights", tmp_path / "other.pt", "--data", "digits"], 1, "is of space proxyless-w0.35, not tiny: "),
        (["--weights", tmp_path / "other.pt", "--data", "digits"], 1, f"give --space {tmp_path / 'other.pt'}"),
        (["--weights", weights, "--data", "imagefolder:/nowhere"], 1, "/nowhere"),
    ):
        code, _, err = call(*argv[:-1], tmp_path / "none", *words)
        assert (code, message in err) == (wanted, True), err
        assert not (tmp_path / "none").exists()

    write_checkpoint(weights, Supernet(other, seed=1).eval(), other, half)
    code, _, err = call(*argv, "--weights", weights, "--data", "digits", "--no-report")
    assert (code, "has 7 classes; its latency was predicted for 10 classes" in err) == (0, True)


def test_the_summary_for_people(lut: Path, tmp_path: Path, call: Any) -> None:
    code, text, _ = call(
        "--lut", lut, "--max-latency-ms", 0.05, "-a", "proxy:macs", "-o", tmp_path / "o", "--no-report"
    )
    assert code == 0
    for words in (
        "tiny on made-up",
        "at most 0.05 ms",
        "predicted  ",
        "score      ",
        "not an accuracy",
        "MACs",
        "seed 0",
    ):
        assert words in text


def in_seconds(lut: Path) -> Path:
    """The same table and networks in another unit, which no file says."""
    table = LatencyTable.read(lut)
    entries = {key: replace(entry, latency_ms=(entry.latency_ms or 0) / 1000) for key, entry in table.entries.items()}
    path = lut.with_name("seconds.csv")
    LatencyTable(table.context, entries).write(path)
    networks = [
        replace(net, latency_ms=net.latency_ms / 1000, sum_ms=(net.sum_ms or 0) / 1000)
        for net in read_networks(networks_path(lut))
    ]
    write_networks(networks_path(path), table.context, networks)
    return path


@pytest.mark.parametrize("form", ["table", "networks", "predictor"])
def test_a_limit_that_excludes_nothing_causes_a_warning(
    lut: Path, small: Space, tmp_path: Path, call: Any, form: str
) -> None:
    seconds = in_seconds(lut)
    slowest_ms = LutPredictor(small).fit(LatencyTable.read(seconds)).predict([small.largest()])[0]
    source = {"table": seconds, "networks": networks_path(seconds), "predictor": tmp_path / "p.predictor"}[form]
    if form == "predictor":
        networks = [(net.arch, net.latency_ms) for net in read_networks(networks_path(seconds))]
        archs, values = zip(*networks, strict=True)
        save_predictor(source, NetworkPredictor(small).fit(list(archs), list(values)))
    argv = ("-a", "proxy:macs", "-o", tmp_path / "o", "--no-report", "--space", "tiny")
    code, _, err = call("--lut", source, "--max-latency-ms", 0.05, *argv)
    found = re.search(
        r"limit 0\.05 ms excludes no sub-net: the slowest sub-net takes (\S+) ms; check the unit of the limit and "
        r"of the table",
        err,
    )
    assert code == 0
    assert found is not None
    assert float(found[1]) == pytest.approx(slowest_ms * BIAS, rel=0.1)

    code, _, err = call("--lut", source, "--max-latency-ms", slowest_ms * BIAS * 0.6, *argv)
    assert (code, "excludes no sub-net" in err) == (0, False)
    code, _, err = call("--lut", source, "--max-latency-ms", 1e-9, *argv)
    assert (code, "check the unit of the limit and of the file" in err) == (1, True)
    code, _, err = call("--lut", source, "--max-latency-ms", slowest_ms / 15, *argv)
    assert "check the unit" not in err


def test_other_limits_that_exclude_nothing_cause_a_warning_too(lut: Path, tmp_path: Path, call: Any) -> None:
    argv = ("--lut", lut, "--max-latency-ms", 0.05, "-a", "proxy:macs", "-o", tmp_path / "o", "--no-report")
    _, _, err = call(*argv, "--max-mmacs", 5e6, "--max-params-m", 0.02)
    assert "limit mmacs <= 5e+06 excludes no sub-net: the largest value is 1.057; check the unit of the limit" in err
    assert "params_m" not in err
    assert "slowest" not in err


def test_limits_resolutions_and_confidence(lut: Path, tmp_path: Path, small: Space, call: Any) -> None:
    common = ("--lut", lut, "-a", "proxy:macs", "--no-report", "--json", "-o", tmp_path / "o")
    loose = json.loads(call(*common, "--max-latency-ms", 0.05)[1])
    sure = json.loads(call(*common, "--max-latency-ms", 0.05, "--confidence", 0.95)[1])
    assert sure["high_ms"] <= 0.05 < loose["high_ms"]
    small_one = json.loads(call(*common, "--max-latency-ms", 0.05, "--max-mmacs", 0.5 * loose["mmacs"])[1])
    assert small_one["mmacs"] <= 0.5 * loose["mmacs"]
    few = json.loads(call(*common, "--max-latency-ms", 0.05, "--max-params-m", 0.9 * loose["params_m"])[1])
    assert few["params_m"] <= 0.9 * loose["params_m"]
    at = json.loads(call(*common, "--max-latency-ms", 0.05, "-r", "24")[1])
    assert at["arch"]["r"] == [24]
    assert at["resolutions"] == [24]


def test_a_limit_on_energy(lut: Path, tmp_path: Path, small: Space, call: Any) -> None:
    context, rows = LatencyTable.read(lut).context, read_networks(networks_path(lut))
    giga = [
        sum(giga_sizes(b, 1)[1] for b in small.blocks(net.arch)) for net in rows
    ]  # costly memory: latency alone won't do
    known = [
        replace(n, energy_mj=0.5 * n.sum_ms + 40 * g, energy_source="rapl") for n, g in zip(rows, giga, strict=True)
    ]
    write_networks(networks_path(lut), context, known)
    common = ("--lut", lut, "-a", "proxy:macs", "--no-report", "-o", tmp_path / "o", "--max-latency-ms", 0.05)
    loose = json.loads(call(*common, "--json")[1])
    limit = 0.7 * loose["energy_mj"]
    code, text, _ = call(*common, "--json", "--max-energy-mj", limit)
    frugal = json.loads(text)
    assert code == 0
    assert 0 < frugal["energy_mj"] <= limit
    assert frugal["limits"] == {"energy_mj": limit}
    assert frugal["top1"] < loose["top1"]
    arch = arch_from_dict(frugal["arch"], small)
    rule = 0.5 * LatencyTable.read(lut).sum_ms(small, [arch])[0]
    rule += 40 * sum(giga_sizes(b, 1)[1] for b in small.blocks(arch))
    assert frugal["energy_mj"] == pytest.approx(rule, rel=1e-6)
    assert json.loads((tmp_path / "o" / "search.json").read_text())["energy_mj"] == frugal["energy_mj"]
    assert " mJ above idle" in call(*common, "--max-energy-mj", limit)[1]
    assert call("report", tmp_path / "o")[0] == 0
    page = (tmp_path / "o" / "report.html").read_text()
    assert f"{frugal['energy_mj']:.3g} mJ" in page
    assert f"energy above idle \u2264 {limit:g} mJ" in page
    code, _, err = call(*common, "--max-energy-mj", 1e-6)
    assert code == 1
    assert "no sub-net of tiny has energy_mj <= 1e-06; the smallest is" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--max-latency-ms", "1", "-a", "proxy:macs", "--max-energy-mj", "5"],
            "no energy was measured on made-up (onnxruntime, 1 thread); measure it with ofa-profile --energy",
        ),
        (["--max-latency-ms", "0.0001", "-a", "proxy:macs"], "the smallest is"),
        (["--max-latency-ms", "-1", "-a", "proxy:macs"], "a finite number > 0"),
        (["--max-latency-ms", "1", "-a", "proxy:macs", "-r", "64"], "no latency at 64 px; supported: 24, 28, 32 px"),
        (["--max-latency-ms", "1"], "--accuracy proxy:macs"),
        (["--max-latency-ms", "1", "-a", "nothing.csv"], "nothing.csv"),
        (["--max-latency-ms", "1", "-a", "proxy:macs", "--space", "mbv4"], "unknown space 'mbv4'"),
        (["--max-latency-ms", "1", "-a", "proxy:macs", "--confidence", "0.2"], "above 0.5"),
        (["--max-latency-ms", "1", "-a", "proxy:macs", "--measure", "nowhere"], "nowhere"),
    ],
)
def test_known_errors_are_one_line_and_exit_1(
    argv: list[str], message: str, lut: Path, tmp_path: Path, call: Any
) -> None:
    code, out, err = call("--lut", lut, *argv, "--out", tmp_path / "out")
    assert (code, out) == (1, "")
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_measure_closes_the_loop_through_the_tables_own_files(
    tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from profiler.cli import main as profile

    table = tmp_path / "t.csv"
    argv = ["ofa-profile", "--space", "tiny", "--target", "fake", "--budget-s", "1", "--out", str(table)]
    monkeypatch.setattr(sys, "argv", argv)
    assert profile() in (0, 3)  # prints the name of the table
    before = len(read_networks(networks_path(table)))
    # This device's whole networks take 0.1 to 1.1 ms each, whatever their layers are.
    out = tmp_path / "out"
    argv = ["--lut", str(table), "--max-latency-ms", "2", "-a", "proxy:macs", "--measure", "fake", "--budget-s", "1"]
    code, text, err = call(*argv, "--out", out, "--json")
    assert code == 0, err
    measured = json.loads(text.splitlines()[-1])["measured"]
    assert measured["low_ms"] <= measured["latency_ms"] <= measured["high_ms"] <= 2
    assert "round 1: 5 networks measured, 5 within 2 ms" in err
    after = read_networks(networks_path(table))
    assert len(after) == before + 7
    assert {net.role for net in after[before:]} == {"reference"}
    with (out / "measured.csv").open() as stream:
        assert len(stream.readlines()) == 1 + 7
    assert call("report", out)[0] == 0
    assert "candidates measured" in (out / "report.html").read_text()


def test_a_table_with_gaps_is_searched_with_fill(lut: Path, tmp_path: Path, small: Space, call: Any) -> None:
    table = LatencyTable.read(lut)
    order = active_order([block for _, block in table.entries])
    part = LatencyTable(table.context, {(None, block): table.entries[None, block] for block in order[:30]})
    part.write(lut)
    networks = read_networks(networks_path(lut))
    write_networks(networks_path(lut), table.context, [replace(net, sum_ms=None) for net in networks])
    argv = ("--lut", lut, "--max-latency-ms", 0.05, "-a", "proxy:macs", "--json", "-o", tmp_path / "o")
    code, _, err = call(*argv)
    assert (code, "lacks blocks of tiny at every resolution; add --fill to estimate them" in err) == (1, True)
    code, text, _ = call(*argv, "--fill")
    assert code == 0
    record = json.loads(text)
    assert record["latency"]["calibration"]["n_networks"] == 16
    assert record["latency"]["n_filled"] > 0
    truth = BIAS * table.sum_ms(small, [arch_from_dict(record["arch"], small)])[0]
    assert record["latency_ms"] == pytest.approx(truth, rel=0.05)
    shown = read_networks(tmp_path / "o" / "networks.csv")
    whole = LutPredictor(small, fill=True).fit(part)
    assert [net.sum_ms for net in shown] == pytest.approx(whole.predict([net.arch for net in shown]))
    assert len((tmp_path / "o" / "blocks.csv").read_text().splitlines()) == 1 + 6 + sum(record["arch"]["d"])


@pytest.mark.slow
def test_measure_with_fill_keeps_the_estimates_out_of_the_files(
    tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from profiler.cli import main as profile

    table = tmp_path / "t.csv"
    argv = ["ofa-profile", "--space", "tiny", "--target", "fake", "--backend", "sleep", "--budget-s", "1"]
    monkeypatch.setattr(sys, "argv", [*argv, "--plan", "active", "--share", "0.4", "--out", str(table)])
    assert profile() == 0
    before = table.read_bytes()
    argv = ["--lut", table, "--max-latency-ms", "0.2", "-a", "proxy:macs", "--measure", "fake", "--budget-s", "1"]
    code, text, err = call(*argv, "--out", tmp_path / "o", "--json", "--no-report", "--fill")
    assert code == 0, err
    record = json.loads(text.splitlines()[-1])
    assert record["measured"]["high_ms"] <= 0.2
    assert record["latency"]["calibration"]["n_networks"] > 24
    assert table.read_bytes() == before
    assert any(net.sum_ms is None for net in read_networks(networks_path(table))[24:])


@pytest.mark.slow
def test_measure_closes_the_loop_for_a_predictor_with_a_context(
    predictor: Path, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from profiler.cli import main as profile

    table = tmp_path / "t.csv"
    argv = ["ofa-profile", "--space", "tiny", "--target", "fake", "--backend", "sleep", "--budget-s", "1"]
    monkeypatch.setattr(sys, "argv", [*argv, "--out", str(table)])
    assert profile() == 0
    nets = networks_path(table)
    before = nets.read_bytes()
    argv = ["--max-latency-ms", "0.19", "-a", "proxy:macs", "--measure", "fake", "--budget-s", "1", "--no-report"]
    code, text, err = call("--lut", nets, *argv, "--out", tmp_path / "o", "--json")
    assert code == 0, err
    record = json.loads(text.splitlines()[-1])
    # The device adds up exactly, and takes 0.02 ms for each layer and 10 ms for a billion MACs.
    n_layers = 6 + sum(record["arch"]["d"])
    assert record["measured"]["latency_ms"] == pytest.approx(0.02 * n_layers + record["mmacs"] / 100, rel=1e-3)
    assert record["measured"]["high_ms"] <= 0.19
    assert nets.read_bytes() == before
    code, _, err = call("--lut", predictor, *argv, "--out", tmp_path / "p")
    assert (code, "does not say how its networks were measured" in err) == (1, True)
    assert not (tmp_path / "p").exists()


def test_measure_needs_a_table_of_this_project(lut: Path, tmp_path: Path, small: Space, call: Any) -> None:
    write_ofa_yaml(LatencyTable.read(lut), tmp_path / "yaml", small, small.resolutions)
    argv = ["--lut", tmp_path / "yaml", "--space", "tiny", "--max-latency-ms", "2", "-a", "proxy:macs"]
    code, _, err = call(*argv, "--measure", "local", "--out", tmp_path / "o")
    assert code == 1
    assert "--measure needs a table that ofa-profile wrote (CSV)" in err


def test_usage_errors_exit_2(lut: Path, call: Any) -> None:
    assert call("--lut", lut)[0] == 2
    assert call("--lut", lut, "--max-latency-ms", "1", "-r", "a")[0] == 2
    assert call("reprot", "x")[0] == 2


def test_a_missing_table_is_named(tmp_path: Path, call: Any) -> None:
    code, _, err = call("--lut", tmp_path / "no.csv", "--max-latency-ms", 1)
    assert code == 1
    assert "no.csv" in err


def test_the_report_is_one_file_made_from_the_folder_alone(lut: Path, tmp_path: Path, call: Any) -> None:
    out = tmp_path / "out"
    assert call("--lut", lut, "--max-latency-ms", 0.05, "-a", "proxy:macs", "-o", out)[0] == 0
    first = (out / "report.html").read_text()
    lut.unlink()
    moved = tmp_path / "moved"
    out.rename(moved)
    code, text, _ = call("report", moved)
    assert (code, text) == (0, f"{moved / 'report.html'}\n")
    assert call("report", moved, "-o", tmp_path / "r.html")[1] == f"{tmp_path / 'r.html'}\n"
    html = (tmp_path / "r.html").read_text()
    assert len(html) == len(first)
    outside = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    for words in (
        "tiny on made-up: predicted within 0.05 ms",
        "Latency is predicted.",
        "The score is not an accuracy",
        "random weights",
        "Calibration error",
        'id="front"',
        'id="measured"',
        'id="layers"',
    ):
        assert words in outside
    assert "src=" not in outside
    assert "http" not in outside.replace("http-equiv", "")


def test_a_folder_that_is_none_is_one_line(tmp_path: Path, call: Any) -> None:
    code, _, err = call("report", tmp_path)
    assert code == 1
    assert "search.json" in err
    (tmp_path / "search.json").write_text('{"schema": 1}')
    (tmp_path / "candidates.json").write_text("[]")
    code, _, err = call("report", tmp_path)
    assert code == 1
    assert "search.json: space is missing" in err
    (tmp_path / "search.json").write_text("{")
    assert call("report", tmp_path)[0] == 1


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['ofa-search', '--help']\n"
        "from ofa_core.search.cli import main\n"
        "assert main() == 0\n"
        "heavy = {'numpy', 'pandas', 'torch', 'sklearn', 'onnx', 'scipy', 'devices'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--max-latency-ms" in done.stdout


@pytest.mark.parametrize("name", ["search.json", "candidates.json", "pareto.csv", "blocks.csv", "networks.csv"])
def test_a_damaged_folder_is_one_line_or_still_a_report(name: str, lut: Path, tmp_path: Path, call: Any) -> None:
    out = tmp_path / "out"
    assert call("--lut", lut, "--max-latency-ms", 0.05, "-a", "proxy:macs", "-o", out, "--no-report")[0] == 0
    good = (out / name).read_bytes()
    rng = np.random.default_rng(8)
    failed = 0
    for _ in range(40):
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(0, len(data)))
            match int(rng.integers(0, 3)):
                case 0:
                    data[at] = int(rng.integers(32, 127))
                case 1:
                    del data[at : at + int(rng.integers(1, 30))]
                case _:
                    data[at:at] = b"-1e999"
        (out / name).write_bytes(bytes(data))
        code, _, err = call("report", out, "-o", tmp_path / "r.html")
        assert code in (0, 1)
        assert len(err.splitlines()) == code
        failed += code
    assert failed


@pytest.mark.parametrize(("words", "n_most"), [(["--pareto"], 20), (["--pareto", 5], 5), (["--pareto=7"], 7)])
def test_a_front_has_a_file_and_a_row_for_each_network(
    words: list[Any], n_most: int, lut: Path, tmp_path: Path, small: Space, call: Any
) -> None:
    out = tmp_path / "out"
    code, text, err = call("--lut", lut, *words, "-a", "proxy:macs", "-o", out, "--no-report", "--json")
    assert code == 0, err
    assert "excludes no sub-net" not in err
    record = json.loads(text)
    answers = record["answers"]
    assert n_most // 2 < len(answers) <= n_most
    with (out / "pareto.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["latency_ms"]) for row in rows] == [a["values"]["latency_ms"] for a in answers]
    assert sorted(p.name for p in (out / "answers").iterdir()) == [Path(a["file"]).name for a in answers]
    for answer in answers:
        assert arch_from_dict(read_arch_dict(out / answer["file"]), small) == arch_from_dict(answer["arch"], small)
        assert answer["values"]["latency_ms"] <= answer["limits"]["latency_ms"]
    assert record["arch"] == answers[-1]["arch"]
    code, text, err = call("--lut", lut, "--max-latency-ms", 0.05, "-a", "proxy:macs", "-o", out, "--no-report")
    assert code == 0, err
    assert not list((out / "answers").iterdir())  # those of the earlier search


def test_a_front_up_to_a_limit_is_printed_point_by_point(lut: Path, tmp_path: Path, call: Any) -> None:
    argv = ("--lut", lut, "--pareto", 4, "--max-latency-ms", 0.05, "-a", "proxy:macs", "-o", tmp_path / "out")
    code, text, err = call(*argv, "--no-report")
    assert code == 0, err
    lines = [line for line in text.splitlines() if re.match(r"00\d ", line)]
    assert 2 <= len(lines) <= 4
    assert re.fullmatch(r"00\d +latency_ms <= 0\.05: 0\.0\d+ ms per batch, \d\.\d+", lines[-1])


@pytest.mark.parametrize("algorithm", ["evolution", "random"])
def test_algorithms_for_comparison_are_named_on_the_command_line(
    algorithm: str, lut: Path, tmp_path: Path, call: Any
) -> None:
    argv = ("--lut", lut, "--max-latency-ms", 0.05, "-a", "proxy:macs", "-o", tmp_path / "out", "--no-report")
    code, _, err = call(*argv, "--algorithm", algorithm)
    assert code == 0, err
    assert call(*argv, "--algorithm", "magic")[0] == 2


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--pareto", "1"],
        ["--pareto", "5", "--measure", "local"],
        ["--max-latency-ms", "1", "--measure", "local", "--algorithm", "random"],
    ],
)
def test_options_of_a_front_that_do_not_fit_are_refused(words: list[str], lut: Path, tmp_path: Path, call: Any) -> None:
    code, out, _ = call("--lut", lut, "-a", "proxy:macs", "-o", tmp_path / "out", *words)
    assert (code, out) == (2, "")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def other_lut(lut: Path, small: Space) -> Path:
    """A second device, on which large blocks are slower."""
    path = lut.with_name("other.csv")
    table = LatencyTable.read(lut)
    context = replace(table.context, device="other")
    entries = {key: Entry(entry.latency_ms * (1 + key[1].in_c / 64)) for key, entry in table.entries.items()}
    LatencyTable(context, entries).write(path)
    return path


def test_one_network_within_the_limits_of_two_devices(
    lut: Path, other_lut: Path, tmp_path: Path, small: Space, call: Any
) -> None:
    out = tmp_path / "out"
    argv = ("-a", "proxy:macs", "-o", out, "--no-report")
    code, text, err = call("--lut", f"{lut}=0.05", "--lut", f"{other_lut}=0.055", *argv, "--json")
    assert code == 0, err
    record = json.loads(text)
    assert record["latency_ms"] <= 0.05
    assert record["limits"] == {"latency_ms:other": 0.055}
    (device,) = record["devices"]
    assert (device["name"], device["limit_ms"]) == ("other", 0.055)
    arch = arch_from_dict(record["arch"], small)
    value = next(q["value"] for q in record["quantities"] if q["name"] == device["quantity"])
    assert LatencyTable.read(other_lut).sum_ms(small, [arch])[0] == pytest.approx(value)
    assert value <= 0.055
    one = json.loads(call("--lut", f"{lut}=0.05", *argv, "--json")[1])
    assert (one["latency_ms"] <= 0.05, one["devices"]) == (True, [])
    assert one["top1"] >= record["top1"]
    code, text, err = call("--lut", f"{lut}=0.05", "--lut", f"{other_lut}=0.055", *argv)
    assert re.search(r"^other +0\.05\d* ms, at most 0\.055 ms, other", text, re.MULTILINE)


def test_a_network_for_each_of_two_devices(lut: Path, other_lut: Path, tmp_path: Path, small: Space, call: Any) -> None:
    out = tmp_path / "out"
    argv = ("-a", "proxy:macs", "-o", out, "--no-report", "--json")
    code, text, err = call("--lut", f"{lut}=0.05", "--lut", f"{other_lut}=0.055", "--per-device", *argv)
    assert code == 0, err
    answers = json.loads(text)["answers"]
    assert [a["name"] for a in answers] == ["made-up", "other"]
    for answer, path, limit in zip(answers, (lut, other_lut), (0.05, 0.055), strict=True):
        alone = json.loads(call("--lut", path, "--max-latency-ms", limit, *argv)[1])
        assert answer["values"]["top1"] == pytest.approx(alone["top1"])
        assert list(answer["limits"].values()) == [limit]
    code, _, err = call("--lut", f"{lut}=0.05", "--lut", f"{other_lut}=0.055", "--per-device", *argv[:-1])
    assert code == 0, err


def test_limits_that_exclude_each_other_name_limits_that_work(
    lut: Path, other_lut: Path, tmp_path: Path, small: Space, call: Any
) -> None:
    argv = ("-a", "proxy:macs", "-o", tmp_path / "out", "--no-report", "--max-mmacs", 0.3)
    code, _, err = call("--lut", f"{lut}=0.0001", "--lut", f"{other_lut}=0.055", *argv)
    assert code == 1
    assert "no sub-net of tiny has latency_ms <= 0.0001; the smallest is" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lut", "LUT=0.05", "--lut", "OTHER"], "other.csv has no limit"),
        (["--lut", "LUT=0.05", "--lut", "LUT=0.06"], "two files are named made-up"),
        (["--lut", "LUT=0.05", "--max-latency-ms", "1"], "not both"),
        (["--lut", "LUT=nan"], "a finite number > 0"),
        (["--lut", "LUT="], "a limit in ms is expected behind ="),
        (["--lut", "LUT=2O"], "a limit in ms is expected behind ="),
        (["--lut", "LUT=0.05", "--per-device"], "needs several --lut"),
        (["--lut", "LUT=0.05", "--lut", "OTHER=1", "--pareto", "5"], "a front is for one device"),
        (["--lut", "LUT=0.05", "--lut", "OTHER=1", "--measure", "local"], "FILE=TARGET with a file of --lut"),
        (["--lut", "LUT=0.05", "--lut", "OTHER=1", "--measure", "other.csv=local"], "made-up has no target"),
    ],
)
def test_words_for_several_devices_that_do_not_fit(
    words: list[str], message: str, lut: Path, other_lut: Path, tmp_path: Path, call: Any
) -> None:
    argv = [word.replace("LUT", str(lut)).replace("OTHER", str(other_lut)) for word in words]
    code, out, err = call("-a", "proxy:macs", "-o", tmp_path / "out", *argv)
    assert (code, out) == (2, "")
    assert message.replace(" ", "") in re.sub(r"[\s│]+", "", err)
    assert not (tmp_path / "out").exists()
