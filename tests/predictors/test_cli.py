from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ofa_core.arch_json import write_arch
from ofa_core.cli_app import run_app
from ofa_core.formats.net_config import write_net_config
from ofa_core.genomes import sample_arch
from ofa_core.measured_networks import networks_path, read_networks, write_networks
from ofa_core.spaces import mobilenet_v3
from ofa_core.table import LatencyTable
from predictors.cli import app
from predictors.persistence import load_predictor


def ofa_predict(*words: object) -> int:
    return run_app(app, [str(word) for word in words], prog="ofa-predict")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch, space, make_table, make_networks):
    """A folder with `a.json` and `luts/rig.csv`, which is where we are."""
    monkeypatch.chdir(tmp_path)
    write_arch(tmp_path / "a.json", space.largest(160), space)
    table = make_table(space, [160])
    table.write(tmp_path / "luts" / "rig.csv")
    write_networks(networks_path(tmp_path / "luts" / "rig.csv"), table.context, make_networks(space, [160], 24))
    return tmp_path


def test_json_has_exactly_the_contract(bench, space, make_table, capsys):
    assert ofa_predict("a.json", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["space", "arch", "mmacs", "params_m", "predictions", "space_digest"]
    assert (answer["space"], answer["space_digest"]) == ("mbv3-w1.0", space.digest)
    assert answer["mmacs"] == pytest.approx(space.macs(space.largest(160)) / 1e6)
    assert answer["arch"]["r"] == [160]
    (row,) = answer["predictions"]
    assert list(row) == [
        *("lut", "device", "latency_ms", "low_ms", "high_ms", "calibrated", "n_filled"),
        *("energy_mj", "energy_low_mj", "energy_high_mj"),
        "dtype",
    ]
    assert row["dtype"] == "float32"
    assert row["energy_mj"] is row["energy_low_mj"] is row["energy_high_mj"] is None
    assert row["lut"] == "luts/rig.csv"
    assert row["device"] == "rig"
    assert row["calibrated"] is True
    assert row["low_ms"] < row["latency_ms"] < row["high_ms"]
    assert row["latency_ms"] == pytest.approx(
        1.1 * make_table(space, [160]).sum_ms(space, [space.largest(160)])[0], rel=0.03
    )


def test_energy_where_it_was_measured(bench, space, make_table, make_networks, capsys):
    table = make_table(space, [160])
    noise = np.random.default_rng(0).normal(1, 0.02, 24)
    nets = [replace(n, energy_mj=3 * n.sum_ms * x) for n, x in zip(make_networks(space, [160], 24), noise, strict=True)]
    write_networks(networks_path(Path("luts/rig.csv")), table.context, [replace(n, energy_source="rapl") for n in nets])
    assert ofa_predict("a.json", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["energy_mj"] == pytest.approx(3 * table.sum_ms(space, [space.largest(160)])[0], rel=0.02)
    assert row["energy_low_mj"] < row["energy_mj"] < row["energy_high_mj"]
    assert ofa_predict("a.json") == 0
    head, line = capsys.readouterr().out.splitlines()[1:]
    assert "energy mJ" in head.split("\t")
    assert line.split("\t")[3] == f"{row['energy_mj']:.3g} ({row['energy_low_mj']:.3g} to {row['energy_high_mj']:.3g})"


def test_uncalibrated_bounds_are_null(bench, capsys):
    networks_path(Path("luts/rig.csv")).unlink()
    assert ofa_predict("a.json", "--lut", "luts/rig.csv", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["low_ms"] is None
    assert row["high_ms"] is None
    assert row["calibrated"] is False


def test_without_a_table_counts_still_come(tmp_path, monkeypatch, space, capsys):
    monkeypatch.chdir(tmp_path)
    write_arch(tmp_path / "a.json", space.largest(224), space)
    assert ofa_predict("a.json") == 0
    out, err = capsys.readouterr()
    assert "566.2 M MACs" in out
    assert "ofa-profile" in err
    assert ofa_predict("a.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["predictions"] == []


def test_where_the_space_comes_from(bench, space, make_table, capsys):
    Path("bare.json").write_text('{"ks": 3, "e": 3, "d": 2, "r": 160}')
    assert ofa_predict("bare.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["space"] == "mbv3-w1.0"
    make_table(mobilenet_v3(1.2), [160]).write(Path("luts/other.csv"))
    assert ofa_predict("bare.json") == 2
    assert "mbv3-w1.2" in capsys.readouterr().err
    assert ofa_predict("bare.json", "--space", "mbv3-w1.2", "--lut", "luts/other.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["space"] == "mbv3-w1.2"
    # An explicit table must answer; one that merely lies in ./luts is left out with a word.
    assert ofa_predict("bare.json", "--space", "mbv3-w1.2", "--lut", "luts/rig.csv") == 1
    assert "nearest" in capsys.readouterr().err
    assert ofa_predict("bare.json", "--space", "mbv3-w1.2") == 0
    assert "rig.csv left out" in capsys.readouterr().err


def test_a_table_is_read_once(bench, monkeypatch, capsys):
    Path("bare.json").write_text('{"ks": 3, "e": 3, "d": 2, "r": 160}')
    reads = []
    read = LatencyTable.read
    monkeypatch.setattr(LatencyTable, "read", lambda path: (reads.append(path), read(path))[1])
    assert ofa_predict("bare.json", "--fill", "--json") == 0
    assert reads == [Path("luts/rig.csv")]


def test_missing_blocks_are_filled_only_when_asked(bench, space, capsys):
    table = LatencyTable.read(Path("luts/rig.csv"))
    gone = space.blocks(space.largest(160))[9]
    entries = {key: entry for key, entry in table.entries.items() if key[1] != gone}
    LatencyTable(table.context, entries).write(Path("luts/rig.csv"))
    assert ofa_predict("a.json", "--lut", "luts/rig.csv") == 1
    err = capsys.readouterr().err
    assert gone.label() in err
    assert "--fill estimates" in err
    assert ofa_predict("a.json", "--lut", "luts/rig.csv", "--fill", "--json", "--blocks") == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["n_filled"] == sum(b["filled"] for b in row["blocks"]) >= 1
    assert len(row["blocks"]) == len(space.blocks(space.largest(160)))


def test_a_table_that_covers_no_space_is_of_its_networks_space(bench, space, capsys):
    Path("bare.json").write_text('{"ks": 3, "e": 3, "d": 2, "r": 160}')
    table = LatencyTable.read(Path("luts/rig.csv"))
    LatencyTable(table.context, dict(list(table.entries.items())[::2])).write(Path("luts/rig.csv"))
    assert ofa_predict("bare.json", "--fill", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["space"] == "mbv3-w1.0"
    assert answer["predictions"][0]["calibrated"]
    assert answer["predictions"][0]["n_filled"] > 0


def test_plain_text_when_not_a_terminal(bench, capsys):
    assert ofa_predict("a.json", "--blocks") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split("\t")[0] == "device"
    assert lines[2].split("\t")[0] == "rig"
    assert any(line.startswith("classifier 1x1") for line in lines)


def test_a_published_net_config_is_an_architecture(bench, space, capsys):
    arch = sample_arch(space, np.random.default_rng(2), [160])
    write_net_config(Path("net"), space, arch)
    write_arch(Path("b.json"), arch, space)
    assert ofa_predict("b.json", "--json") == 0
    want = json.loads(capsys.readouterr().out)
    for path in ("net", "net/net.config"):
        assert ofa_predict(path, "--json") == 0
        assert json.loads(capsys.readouterr().out) == want
    assert ofa_predict("net", "--space", "mbv3-w1.2") == 1
    assert "no member of mbv3-w1.2" in capsys.readouterr().err
    # Another classifier is another block: it counts, and the table does not have it.
    write_net_config(Path("few"), space.with_classes(10), arch)
    assert ofa_predict("few", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["params_m"] < want["params_m"]
    assert "classifier" in err
    Path("net/run.config").unlink()
    assert ofa_predict("net") == 1
    expected = "the net.config has no image size (run.config); give one, for example with --resolution PX"
    assert expected in capsys.readouterr().err
    assert ofa_predict("luts") == 1
    assert "luts/net.config: No such file" in capsys.readouterr().err


def test_the_input_size_may_be_named_on_the_command_line(bench, space, capsys):
    Path("short.json").write_text('{"ks":7,"e":6,"d":4}')
    assert ofa_predict("short.json") == 1
    assert (
        "the architecture has no resolution (r, image_size, img_size or resolution); give one"
        in capsys.readouterr().err
    )
    assert ofa_predict("short.json", "--resolution", "160", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["arch"]["r"] == [160]
    assert ofa_predict("a.json", "--json") == 0
    assert json.loads(capsys.readouterr().out) == answer
    # It replaces the file's own; several of these are refused without it.
    Path("two.json").write_text('{"ks":7,"e":6,"d":4,"r":224,"image_size":[160,192]}')
    assert ofa_predict("two.json") == 1
    assert "3 input sizes where one is expected (r 224; image_size 160, 192)" in capsys.readouterr().err
    assert ofa_predict("two.json", "--resolution", "160", "--json") == 0
    assert json.loads(capsys.readouterr().out) == answer
    assert ofa_predict("two.json", "--resolution", "161") == 1
    assert "resolution 161 px is not allowed; choose a multiple of 4" in capsys.readouterr().err


def test_the_input_size_of_a_net_config_may_be_named_too(bench, space, capsys):
    write_net_config(Path("net"), space, space.largest(224))
    Path("net/run.config").write_text('{"image_size": [128, 160, 192, 224]}')
    assert ofa_predict("net") == 1
    assert "4 input sizes where one is expected (image_size 128, 160, 192, 224)" in capsys.readouterr().err
    assert ofa_predict("net", "--resolution", "160", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert ofa_predict("a.json", "--json") == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_a_width_and_five_stages_name_the_space(bench, capsys):
    for width, name in ((1.0, "mbv3-w1.0"), (1.2, "mbv3-w1.2")):
        Path("w.json").write_text(json.dumps({"ks": 3, "e": 3, "d": [2] * 5, "r": 160, "w": width}))
        assert ofa_predict("w.json", "--json") == 0
        assert json.loads(capsys.readouterr().out)["space"] == name
    assert ofa_predict("w.json", "--space", "mbv3-w1.0") == 1
    assert "w is 1.2, the width of mbv3-w1.2; the space is mbv3-w1.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"d": [2] * 5, "e": [0.35] * 18, "w": [0, 1, 2, 2, 2, 2], "image_size": 224}, "OFA-ResNet50"),
        ({"name": "OFAMobileNetV3", "first_conv": {}, "blocks": []}, "a supernet, not one network; give"),
        ({"name": "ResNets", "input_stem": [], "blocks": []}, "ResNets are not supported yet"),
    ],
)
def test_networks_of_other_kinds_are_named_as_such(bench, capsys, content, message):
    Path("other.json").write_text(json.dumps(content))
    assert ofa_predict("other.json") == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("{", 1),
        ("[]", 1),
        ('{"space": "nope", "ks": 3}', 1),
        ('{"space": "mbv3-w1.0", "ks": 9, "e": 3, "d": 2, "r": 160}', 1),
    ],
)
def test_bad_files_end_in_one_line(bench, capsys, content, code):
    Path("bad.json").write_text(content)
    assert ofa_predict("bad.json") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1


def test_usage(bench, capsys):
    assert ofa_predict() == 2
    assert ofa_predict("a.json", "--nonsense") == 2
    assert ofa_predict("none.json") == 1


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv=['ofa-predict','--help']\n"
        "from predictors.cli import main; rc=main()\n"
        "heavy={'pandas','torch','sklearn','xgboost','scipy','matplotlib'} & set(sys.modules)\n"
        "assert rc == 0 and not heavy, (rc, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--fill" in done.stdout


@pytest.fixture
def measured(bench, space, make_networks):
    """`mine.csv`: 90 networks in the form of docs/formats.md, some measured twice."""
    from ofa_core.arch_json import arch_to_dict

    nets = make_networks(space, [160, 192, 224], 80, noise=0.02)
    nets += [replace(net, latency_ms=1.01 * net.latency_ms) for net in nets[:10]]
    lines = ["space,ks,e,d,r,batch_size,latency_ms"]
    for net in nets:
        record = arch_to_dict(net.arch, space)
        lists = [f'"{json.dumps(record[k])}"' for k in ("ks", "e", "d", "r")]
        lines.append(",".join([space.name, *lists, "1", repr(net.latency_ms)]))
    (bench / "mine.csv").write_text("\n".join(lines) + "\n")
    return bench


def test_fit_makes_a_predictor_that_serves_as_a_table(measured, space, capsys):
    assert ofa_predict("fit", "mine.csv", "--source", "luts/rig.csv", "--out", "new.predictor") == 0
    assert "80 whole networks" in capsys.readouterr().out
    assert ofa_predict("a.json", "--lut", "new.predictor", "--lut", "luts/rig.csv", "--json") == 0
    new, old = json.loads(capsys.readouterr().out)["predictions"]
    assert new["calibrated"]
    assert new["device"].startswith("mine")
    assert new["latency_ms"] == pytest.approx(old["latency_ms"], rel=0.05)
    assert ofa_predict("fit", "luts/rig.networks.csv", "--lut", "luts/rig.csv", "--out", "x.predictor") == 0
    assert ofa_predict("a.json", "--lut", "mine.csv", "--json") == 0
    capsys.readouterr()
    # Without a table there are no layers to show; with one there are.
    assert ofa_predict("a.json", "--lut", "new.predictor", "--blocks") == 0
    out, err = capsys.readouterr()
    assert "whole networks only" in err
    assert "before calibration" not in out
    assert ofa_predict("a.json", "--lut", "x.predictor", "--blocks", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["device"] == "rig"
    assert len(row["blocks"]) == len(space.blocks(space.largest(160)))


@pytest.fixture
def verified(bench, space, make_table, make_networks):
    """`luts/rig.csv` with 24 reference networks and 16 verify ones, 10 % slower than the sum."""
    nets = make_networks(space, [160], 40)
    nets = [replace(net, role="verify") if i >= 24 else net for i, net in enumerate(nets)]
    write_networks(networks_path(bench / "luts" / "rig.csv"), make_table(space, [160]).context, nets)
    return bench


def test_a_table_is_fitted_with_all_its_networks_with_a_warning(verified, space, make_networks, capsys):
    assert ofa_predict("fit", "luts/rig.csv", "--out", "x.predictor") == 0
    out, err = capsys.readouterr()
    assert "16 verify networks were used for fitting; do not evaluate x.predictor on them" in err
    assert "fitted to 40 whole networks" in out
    assert "the table is used" in out
    model = load_predictor(Path("x.predictor"))
    assert model.lut is not None
    assert not model.lut.calibrated  # the plain sum: what the networks say is said once
    assert model.context == LatencyTable.read(Path("luts/rig.csv")).context
    truth = make_networks(space, [160], 60, noise=0.0)[40:]
    assert model.predict([net.arch for net in truth]) == pytest.approx([net.latency_ms for net in truth], rel=0.02)

    networks = networks_path(Path("luts/rig.csv"))
    assert ofa_predict("evaluate", networks, "--predictor", "x.predictor") == 1
    assert "x.predictor was fitted to all networks of rig: none is left for an evaluation" in capsys.readouterr().err
    write_networks(networks, model.context, [*read_networks(networks), *(replace(n, role="verify") for n in truth)])
    assert ofa_predict("evaluate", networks, "--predictor", "x.predictor", "--json") == 0
    out, err = capsys.readouterr()
    assert "x.predictor was fitted to 40 of the 60 networks of rig; only the others are used" in err
    assert json.loads(out)[0]["n"] == 20


def test_a_table_is_judged_by_networks_that_do_not_calibrate_it(verified, capsys):
    assert ofa_predict("evaluate", "luts/rig.csv", "--sizes", "10", "--seeds", "1", "--json") == 0
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {"table", "MACs alone", "network", "network, table as prior"}
    assert rows["network"]["n"] == 20  # half of the 40, and of these the table has seen about six in ten
    assert 5 <= rows["table"]["n"] <= 15


def test_fit_names_what_is_missing(bench, capsys):
    assert ofa_predict("fit", "luts/rig.csv", "--lut", "luts/other.csv", "--out", "x.predictor") == 2
    networks_path(Path("luts/rig.csv")).unlink()
    capsys.readouterr()
    assert ofa_predict("fit", "luts/rig.csv", "--out", "x.predictor") == 1
    assert "has no rig.networks.csv beside it" in capsys.readouterr().err
    assert not Path("x.predictor").exists()


def test_files_of_two_contexts_are_refused(measured, capsys):
    lines = Path("mine.csv").read_text().splitlines()
    Path("two.csv").write_text("\n".join([*lines, lines[-1].replace(",1,", ",8,")]) + "\n")
    assert ofa_predict("fit", "two.csv", "--out", "x.predictor") == 1
    assert "batch sizes 1, 8" in capsys.readouterr().err
    networks = networks_path(Path("luts/rig.csv"))
    networks.write_text(networks.read_text() + networks.read_text().splitlines()[-1].replace("1.20", "1.21") + "\n")
    assert ofa_predict("a.json", "--lut", networks) == 1
    assert "different contexts: backend_version '1.20' != '1.21'" in capsys.readouterr().err


def test_evaluate_prints_the_table(measured, capsys):
    assert (
        ofa_predict("evaluate", "mine.csv", "--lut", "luts/rig.csv", "--sizes", "10,30", "--seeds", "2", "--json") == 0
    )
    rows = json.loads(capsys.readouterr().out)
    kinds = [(row["model"], row["n_train"]) for row in rows]
    assert ("repeatability", 0) in kinds
    assert ("table", 0) in kinds
    for n in (10, 30):
        for model in ("MACs alone", "network", "network, table as prior"):
            assert (model, n) in kinds
    assert {"spearman", "kendall", "mape", "rmspe", "within_5", "within_10", "coverage"} <= set(rows[0])
    best = {kind: row["mape"] for kind, row in zip(kinds, rows, strict=True)}
    assert best["network, table as prior", 30] < best["MACs alone", 30]
    assert ofa_predict("evaluate", "mine.csv", "--sizes", "10", "--seeds", "1") == 0
    assert capsys.readouterr().out.startswith("device\tmodel\tN\tSpearman")


def test_evaluate_a_predictor_with_plots(measured, capsys):
    pytest.importorskip("matplotlib")
    assert ofa_predict("fit", "luts/rig.networks.csv", "--out", "x.predictor") == 0
    assert ofa_predict("evaluate", "mine.csv", "--predictor", "x.predictor", "--plots", "pictures") == 0
    assert "x\t-" in capsys.readouterr().out
    assert Path("pictures/mine.png").read_bytes().startswith(b"\x89PNG")


def test_an_evaluation_is_one_page_with_its_pictures(measured, capsys):
    argv = (
        "evaluate",
        "mine.csv",
        "luts/rig.networks.csv",
        "--sizes",
        "10",
        "--seeds",
        "1",
        "--source",
        "luts/rig.csv",
    )
    write_networks(
        networks_path(Path("luts/rig.csv")),
        LatencyTable.read(Path("luts/rig.csv")).context,
        [replace(net, latency_ms=1.2 * net.latency_ms) for net in read_networks(networks_path(Path("luts/rig.csv")))]
        * 2,
    )
    assert ofa_predict(*argv, "--html", "page.html") == 0
    table = capsys.readouterr().out.splitlines()
    html = Path("page.html").read_text()
    outside = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    for line in table:
        fields = "".join(f"<td>{field}</td>" for field in line.split("\t"))
        assert fields in outside
    for words in ("mine</h1>", "rig</h1>", 'id="scatter0"', 'id="residuals1"', 'id="coverage0"'):
        assert words in outside
    assert "src=" not in outside
    assert "http" not in outside.replace("http-equiv", "")


def test_fit_refuses_in_one_line(measured, capsys):
    assert ofa_predict("fit", "none.csv", "--out", "x.predictor") == 1
    assert ofa_predict("fit", "mine.csv", "--column", "energy", "--out", "x.predictor") == 1
    assert "energy" in capsys.readouterr().err
    assert ofa_predict("fit", "mine.csv", "--space", "mbv3-w1.2", "--out", "x.predictor") == 1
    assert ofa_predict("evaluate", "mine.csv", "--sizes", "ten") == 2
    assert not Path("x.predictor").exists()


def test_fit_top1(measured, space, capsys):
    text = Path("mine.csv").read_text().replace("latency_ms", "top1")
    Path("acc.csv").write_text(text)
    code = ofa_predict("fit", "acc.csv", "--out", "acc.predictor")
    assert code == 0
    assert "leave-one-out" in capsys.readouterr().out
    assert ofa_predict("a.json", "--lut", "acc.predictor") == 1
    assert "accuracy" in capsys.readouterr().err


def test_invalid_files_in_luts_do_not_fail_the_command(bench, capsys):
    """What a killed command left, empty and damaged files, and what is no file, beside a sound table."""
    sound = Path("luts/rig.csv").read_bytes()
    Path("luts/.rig-abc123.csv").write_bytes(sound)
    Path("luts/.ofa-tmp-abc123.csv").write_bytes(sound)
    Path("luts/empty.csv").touch()
    Path("luts/torn.csv").write_bytes(sound[: len(sound) // 2])
    Path("luts/folder.csv").mkdir()
    Path("luts/link.csv").symlink_to("nowhere")
    os.mkfifo("luts/pipe.csv")
    bare = {k: v for k, v in json.loads(Path("a.json").read_text()).items() if not k.startswith("space")}
    Path("bare.json").write_text(json.dumps(bare))
    for arch in ("a.json", "bare.json"):  # the space of the second one is that which the tables cover
        assert ofa_predict(arch, "--json") == 0
        captured = capsys.readouterr()
        assert [row["lut"] for row in json.loads(captured.out)["predictions"]] == ["luts/rig.csv"]
        assert "luts/empty.csv left out" in captured.err
        assert "luts/torn.csv left out" in captured.err
        assert "abc123" not in captured.err
