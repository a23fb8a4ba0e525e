"""`ofa-predict` of many architectures at once."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ofa_core.arch_json import arch_to_dict, write_arch
from ofa_core.cli_app import run_app
from ofa_core.genomes import decode, sample_genomes
from ofa_core.measured_files import MeasuredFile
from ofa_core.measured_networks import networks_path, write_networks
from ofa_core.table import LatencyTable
from predictors.cli import app

N = 7


def ofa_predict(*words: object) -> int:
    return run_app(app, [str(word) for word in words], prog="ofa-predict")


@pytest.fixture
def archs(tmp_path: Path, monkeypatch, space, make_table, make_networks):
    """A folder with `nets.json` and two tables, which is where we are; the first one is calibrated."""
    monkeypatch.chdir(tmp_path)
    table = make_table(space, [160, 192])
    for name in ("rig", "two"):
        table.write(Path("luts", f"{name}.csv"))
    write_networks(networks_path(Path("luts/rig.csv")), table.context, make_networks(space, [160], 24))
    found = decode(space, sample_genomes(space, N, np.random.default_rng(5), [160, 192]))
    Path("nets.json").write_text(json.dumps([arch_to_dict(arch, space) for arch in found]))
    return found


def one_by_one(archs, space, capsys, *words: str) -> list[dict]:
    answers = []
    for arch in archs:
        write_arch(Path("one.json"), arch, space)
        assert ofa_predict("one.json", *words, "--json") == 0
        answers.append(json.loads(capsys.readouterr().out))
    return answers


def test_json_lines_are_the_answers_to_each(archs, space, capsys, monkeypatch) -> None:
    want = one_by_one(archs, space, capsys)
    assert ofa_predict("nets.json", "--json") == 0
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == want
    assert err.count("rig.csv:") == 1
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("nets.json").read_bytes())))
    assert ofa_predict("-", "--json") == 0
    assert capsys.readouterr().out == out
    Path("nets.csv").write_text("arch;x\n" + "".join(f"{a['arch']};1\n" for a in want))
    assert ofa_predict("nets.csv", "--json") == 0
    assert capsys.readouterr().out == out


def test_csv_has_a_row_for_each_network_and_table(archs, space, capsys) -> None:
    want = one_by_one(archs, space, capsys)
    assert ofa_predict("nets.json", "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["net"], row["lut"]) for row in rows] == [
        (str(i + 1), name) for i in range(N) for name in ("luts/rig.csv", "luts/two.csv")
    ]
    for i, row in enumerate(rows):
        answer = want[i // 2]
        prediction = answer["predictions"][i % 2]
        assert float(row["predicted_ms"]) == prediction["latency_ms"]
        assert row["low_ms"] == ("" if prediction["low_ms"] is None else str(prediction["low_ms"]))
        assert json.loads(row["ks"]) == answer["arch"]["ks"]
        assert row["r"] == str(archs[i // 2].resolution_px)
        assert float(row["mmacs"]) == pytest.approx(answer["mmacs"])
    # It lists architectures, so it is an input too; predictions are not taken for measurements.
    Path("out.csv").write_text("\n".join([",".join(rows[0]), *(",".join(f'"{v}"' for v in r.values()) for r in rows)]))
    assert ofa_predict("out.csv", "--lut", "luts/rig.csv", "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 * N
    assert MeasuredFile.find(Path("out.csv")) is not None
    assert ofa_predict("fit", "out.csv", "--out", "x.predictor") == 1
    assert "no column of measured values" in capsys.readouterr().err


def test_a_table_of_text(archs, space, capsys) -> None:
    want = one_by_one(archs, space, capsys, "--lut", "luts/rig.csv")
    assert ofa_predict("nets.json", "--lut", "luts/rig.csv") == 0
    head, *lines = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert head == ["net", "px", "depths", "M MACs", "M parameters", "device", "latency ms", "90 % interval", "file"]
    for i, (line, arch) in enumerate(zip(lines, archs, strict=True)):
        row = want[i]["predictions"][0]
        assert line[:3] == [str(i + 1), str(arch.resolution_px), "-".join(map(str, arch.depths))]
        assert line[6:8] == [f"{row['latency_ms']:.3f}", f"{row['low_ms']:.3f} to {row['high_ms']:.3f}"]


def test_without_a_table_counts_still_come(archs, space, capsys, tmp_path) -> None:
    for path in Path("luts").iterdir():
        path.unlink()
    assert ofa_predict("nets.json", "--space", space.name, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["mmacs"]) for row in rows] == pytest.approx([space.macs(arch) / 1e6 for arch in archs])
    assert {row["predicted_ms"] for row in rows} == {""}
    assert ofa_predict("nets.json", "--space", space.name) == 0
    assert len(capsys.readouterr().out.splitlines()) == N + 1


def test_estimated_layers_are_counted(archs, space, capsys) -> None:
    path = Path("luts/rig.csv")
    table = LatencyTable.read(path)
    gone = {block for arch in archs for block in space.blocks(arch)[4:6]}
    LatencyTable(table.context, {k: e for k, e in table.entries.items() if k[1] not in gone}).write(path)
    assert ofa_predict("nets.json", "--lut", path, "--json") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "--fill estimates missing blocks" in err
    assert ofa_predict("nets.json", "--lut", path, "--fill", "--json") == 0
    counts = [json.loads(line)["predictions"][0]["n_filled"] for line in capsys.readouterr().out.splitlines()]
    assert counts == [sum(block in gone for block in space.blocks(arch)) for arch in archs]


def test_nothing_is_printed_for_a_list_with_one_bad_network(archs, space, capsys) -> None:
    records = json.loads(Path("nets.json").read_text())
    for changes, message in (
        ({"d": [2, 2, 2, 2, 5]}, "nets.json, item 5: d[4] is 5"),
        ({"w": 1.2, "wid": None}, "nets.json, item 5: an architecture of mbv3-w1.2"),
        ({"r": None}, "nets.json, item 5: the architecture has no resolution"),
    ):
        Path("nets.json").write_text(json.dumps([{**r, **changes} if i == 4 else r for i, r in enumerate(records)]))
        assert ofa_predict("nets.json", "--json") == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert message in err
    assert ofa_predict("nets.json", "--json", "--resolution", "192") == 0
    assert {json.loads(line)["arch"]["r"][0] for line in capsys.readouterr().out.splitlines()} == {192}


def test_pipes_are_read_once(archs, space, make_networks) -> None:
    """`ofa-predict <(...)`: what is read from a pipe cannot be read again."""
    lines = ["arch;latency (ms)"]
    lines += [f"{arch_to_dict(net.arch, space)};{net.latency_ms}" for net in make_networks(space, [160, 192], 24)]
    Path("measured.csv").write_text("\n".join(lines))
    for command in ("<(cat nets.json) --lut luts/rig.csv", "fit <(cat measured.csv) --out x.predictor"):
        script = f"{sys.executable} -m predictors.cli {command} --space {space.name}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert Path("x.predictor").exists()


def test_usage(archs, capsys) -> None:
    assert ofa_predict("nets.json", "--blocks") == 2
    assert ofa_predict("nets.json", "--csv", "--json") == 2
    assert ofa_predict("nets.json", "--space", "mbv3-w1.2", "--lut", "luts/rig.csv") == 1
    Path("empty.jsonl").write_text("\n")
    assert ofa_predict("empty.jsonl") == 1
    assert "empty; architectures are expected" in capsys.readouterr().err


def test_twenty_thousand_networks_are_encoded_in_chunks(archs, space, capsys) -> None:
    genomes = sample_genomes(space, 20_000, np.random.default_rng(6), [160, 192])
    with Path("many.jsonl").open("w") as stream:
        for arch in decode(space, genomes):
            stream.write(json.dumps(arch_to_dict(arch, space)) + "\n")
    assert ofa_predict("many.jsonl", "--lut", "luts/rig.csv", "--csv") == 0
    predicted = [float(row["predicted_ms"]) for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert len(predicted) == 20_000
    from predictors.loading import load_latency

    assert predicted == pytest.approx(load_latency(Path("luts/rig.csv"), space).predict(genomes).tolist())
