"""`ofa-predict` and `ofa-profile convert` on measured networks of other tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ofa_core.arch_json import arch_to_dict, write_arch
from ofa_core.cli_app import run_app
from ofa_core.errors import FormatError
from predictors.cli import app
from predictors.loading import load_accuracy
from profiler.cli import app as profile_app

HEADER = "Sub-network,Latency (ms),Top-1 Acc (%)"


def ofa_predict(*words: object) -> int:
    return run_app(app, [str(word) for word in words], prog="ofa-predict")


@pytest.fixture
def results(tmp_path: Path, monkeypatch, space, make_networks) -> Path:
    """A CSV file with 40 dictionaries, latencies and accuracies; its folder is where we are."""
    monkeypatch.chdir(tmp_path)
    write_arch(Path("a.json"), space.largest(160), space)
    lines = [HEADER]
    for net in make_networks(space, [160, 192, 224], 40):
        top1 = 60 + 4 * net.latency_ms**0.25
        lines.append(f'"{arch_to_dict(net.arch, space)}",{net.latency_ms},{top1}')
    path = tmp_path / "results.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def retitled(path: Path, header: str) -> Path:
    path.write_text(path.read_text().replace(HEADER, header))
    return path


def test_fit_and_evaluate_read_them(results: Path, space, capsys) -> None:
    assert ofa_predict("fit", results, "--out", "x.predictor") == 2
    assert "--space" in capsys.readouterr().err
    assert ofa_predict("fit", results, "--space", space.name, "--out", "x.predictor") == 0
    out, err = capsys.readouterr()
    assert "40 whole networks" in out
    assert "column 'Latency (ms)' read as latency in milliseconds" in err
    assert ofa_predict("a.json", "--lut", "x.predictor", "--json") == 0
    predicted = json.loads(capsys.readouterr().out)["predictions"][0]["latency_ms"]
    assert ofa_predict("a.json", "--lut", results, "--json") == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["latency_ms"] == pytest.approx(predicted)
    assert ofa_predict("evaluate", results, "--space", space.name, "--sizes", "10", "--seeds", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)
    retitled(results, "Sub-network,Latency (us),Top-1 Acc (%)")
    assert ofa_predict("a.json", "--lut", results, "--json") == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["latency_ms"] == pytest.approx(predicted / 1000)


def test_accuracy_reads_them(results: Path, space, capsys) -> None:
    model = load_accuracy(str(results), space)
    top1 = float(model.predict([space.largest(224)])[0])
    assert 60 < top1 < 100
    words = ("fit", results, "--space", space.name, "--out", "acc.predictor", "--column")
    assert ofa_predict(*words, "top1") == 0
    assert "leave-one-out" in capsys.readouterr().out
    retitled(results, "Sub-network,Latency (ms),top1")
    assert float(load_accuracy(str(results), space).predict([space.largest(224)])[0]) == pytest.approx(top1)
    retitled(results, HEADER).write_text(results.read_text().replace("Latency (ms),top1", "Latency (ms),Accuracy"))
    with pytest.raises(FormatError, match="column 'Accuracy' names no unit"):
        load_accuracy(str(results), space)
    assert ofa_predict(*words, "Accuracy") == 1
    assert "--column 'Accuracy=UNIT'" in capsys.readouterr().err
    assert ofa_predict(*words, "Accuracy=%") == 0
    assert ofa_predict(*words, "Accuracy=fraction") == 1
    assert "as a fraction; at most 100 % is expected" in capsys.readouterr().err


def test_an_unrecognised_column_is_refused_with_a_hint(results: Path, space, capsys) -> None:
    retitled(results, "Sub-network,measured,Top-5 Acc (%)")
    words = ("fit", results, "--space", space.name, "--out", "x.predictor")
    assert ofa_predict(*words) == 1
    err = capsys.readouterr().err
    assert "the file has 'Sub-network, measured, Top-5 Acc (%)'; expected is latency_ms" in err
    assert ofa_predict(*words, "--column", "measured") == 1
    assert "column 'measured' names no unit" in capsys.readouterr().err
    assert not Path("x.predictor").exists()
    assert ofa_predict(*words, "--column", "measured=ms") == 0
    assert ofa_predict("evaluate", results, "--space", space.name, "--column", "measured=s", "--sizes", "10") == 0
    capsys.readouterr()
    assert ofa_predict("a.json", "--lut", results) == 1
    assert "no column of measured values of latency; the file has" in capsys.readouterr().err
    answers = []
    for words in (("--lut", results, "--column", "measured=ms"), ("--lut", "x.predictor")):
        assert ofa_predict("a.json", *words, "--json") == 0
        answers.append(json.loads(capsys.readouterr().out)["predictions"][0]["latency_ms"])
    assert answers[0] == pytest.approx(answers[1])


def test_convert_writes_our_form(results: Path, space, capsys) -> None:
    def convert(*words: object) -> int:
        return run_app(profile_app, ["convert", *map(str, words)], prog="ofa-profile")

    assert convert(results, "ours.csv") == 2
    assert convert(results, "folder", "--space", space.name) == 2
    assert convert(results, "ours.csv", "--space", space.name) == 0
    assert "column 'Top-1 Acc (%)' read as accuracy in percent" in capsys.readouterr().err
    assert Path("ours.csv").read_text().startswith("space,ks,e,d,r,latency_ms,top1,space_digest,space_definition\n")
    assert ofa_predict("fit", "ours.csv", "--out", "x.predictor") == 0
    assert convert("ours.csv", "accuracy.csv", "--column", "top1") == 0
    assert "columns left out: latency_ms" in capsys.readouterr().err
    assert Path("accuracy.csv").read_text().startswith("space,ks,e,d,r,top1,space_digest,space_definition\n")
