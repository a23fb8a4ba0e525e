"""Options of `ofa-search` that set its goal, from the words to the files."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.arch_json import arch_from_dict
from ofa_core.genomes import decode
from ofa_core.search.cli import main
from ofa_core.search.exact import every_genome
from ofa_core.search.memory import memory_quantity, peak_table
from ofa_core.search.saved import read_folder
from ofa_core.space import Space
from ofa_core.table import Context, Entry, LatencyTable
from predictors.lut import LutPredictor


@pytest.fixture
def lut(tmp_path: Path, small: Space, stand_ins: Any) -> Path:
    path = tmp_path / "made-up.csv"
    entries = {(None, b): Entry(stand_ins.block_ms(b)) for b in small.all_blocks()}
    LatencyTable(Context(device="made-up", dtype="float16", batch_size=2), entries).write(path)
    return path


@pytest.fixture
def call(
    lut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `ofa-search` on the table, and return its exit code and output."""

    def run(*argv: object) -> tuple[int, str, str]:
        common = ["--lut", lut, "-a", "proxy:macs", "--out", tmp_path / "out"]
        monkeypatch.setattr(sys, "argv", ["ofa-search", *map(str, [*common, *argv])])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def macs_of(small: Space, genomes: Any) -> Any:
    return np.array([small.macs(arch) for arch in decode(small, genomes)])


def test_the_least_latency_of_a_wanted_accuracy(call: Any, lut: Path, small: Space, tmp_path: Path) -> None:
    code, text, err = call("--min-top1", 0.1, "--prove", "--json")
    assert code == 0, err
    record = json.loads(text)
    everything = every_genome(small, small.resolutions)
    reached = 10 * np.log10(macs_of(small, everything) / 1e6) >= 0.1
    ms = LutPredictor(small).fit(LatencyTable.read(lut)).predict(everything)
    assert record["latency_ms"] == pytest.approx(ms[reached].min())
    assert record["top1"] >= 0.1
    assert (record["goal"], record["limit_ms"], record["limits"]) == ("latency_ms", None, {"top1": 0.1})
    assert record["proof"]["is_optimal"]
    assert record["proof"]["bound"] == record["latency_ms"]
    saved = read_folder(tmp_path / "out").record
    assert (saved.cost, saved.objective, saved.optimised) == ("latency_ms", "top1", "latency_ms")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "proved optimal for these predictions" in page
    assert "Optimised" in page


@pytest.mark.parametrize("limit_mb", [None, 0.08])
def test_the_least_memory_of_a_wanted_accuracy(call: Any, small: Space, limit_mb: float | None) -> None:
    more = [] if limit_mb is None else ["--max-memory-mb", limit_mb]
    code, text, err = call("--min-top1", 0.05, "--objective", "memory", "--no-report", "--json", *more)
    assert code == 0, err
    record = json.loads(text)
    (memory,) = (q["value"] for q in record["quantities"] if q["name"] == "memory_mb")
    everything = every_genome(small, small.resolutions)
    reached = 10 * np.log10(macs_of(small, everything) / 1e6) >= 0.05
    context = Context(dtype="float16", batch_size=2)
    peaks = memory_quantity(peak_table(small, small.resolutions, context)).values(everything)
    assert memory == pytest.approx(peaks[reached].min())
    assert record["limits"] == {"top1": 0.05, **({} if limit_mb is None else {"memory_mb": limit_mb})}


def test_fixed_parts_and_the_best_networks(call: Any, small: Space, tmp_path: Path) -> None:
    code, text, err = call("--max-latency-ms", 0.05, "--fix", "d=1,2", "--fix", "r=28", "--best", 4, "--no-report")
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "search.json").read_text())
    assert record["fixed"] == ["d=1,2", "r=28"]
    found = [arch_from_dict(answer["arch"], small) for answer in record["answers"]]
    assert len(set(found)) == 4
    assert all(arch.depths == (1, 2) and arch.resolution_px == 28 for arch in found)
    assert [a["values"]["top1"] for a in record["answers"]] == sorted(
        (a["values"]["top1"] for a in record["answers"]), reverse=True
    )
    assert sum(line.startswith("00") for line in text.splitlines()) == 4
    assert len(list((tmp_path / "out" / "answers").glob("*.json"))) == 4


def test_memory_is_a_column_of_the_files(call: Any, small: Space, tmp_path: Path) -> None:
    code, text, err = call("--max-memory-mb", 0.03, "--no-report")
    assert code == 0, err
    assert "MB of activations" in text
    assert "at most" not in text.splitlines()[0]
    rows = list(csv.DictReader((tmp_path / "out" / "pareto.csv").read_text().splitlines()))
    assert rows
    assert max(float(row["memory_mb"]) for row in rows) <= 0.03
    assert read_folder(tmp_path / "out").record.limit_ms is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a limit, or --pareto"),
        (["--fix", "r=28"], "give a limit, or --pareto"),
        (["--max-latency-ms", "1", "--objective", "latency"], "needs --min-top1, the smallest accuracy"),
        (["--min-top1", "1", "--objective", "speed"], "'speed'; with --min-top1, one of latency"),
        (["--min-top1", "1", "--objective", "accuracy"], "'accuracy'; with --min-top1, one of"),
        (["--min-top1", "1", "--pareto"], "cannot be combined with --pareto"),
        (["--max-latency-ms", "1", "--prove", "--pareto", "3"], "cannot be combined with --pareto"),
        (["--max-latency-ms", "1", "--best", "2", "--measure", "local"], "cannot be combined with --measure"),
        (["--min-top1", "1", "--confidence", "0.9"], "is of --max-latency-ms"),
        (["--max-latency-ms", "1", "--best", "11"], "less than or equal to 10"),
        (["--max-latency-ms", "1", "--prove", "-1"], "-1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], message: str, call: Any) -> None:
    code, _, err = call(*words)
    assert code == 2
    assert message in " ".join(err.replace("\u2502", " ").split())


@pytest.mark.parametrize("change", [{"dtype": "float32"}, {"batch_size": 1}])
def test_a_limit_of_memory_needs_devices_with_elements_of_one_size(
    change: dict[str, Any], lut: Path, call: Any, tmp_path: Path
) -> None:
    table, limit = LatencyTable.read(lut), ("--max-latency-ms", 1, "--max-memory-mb", 0.03)
    LatencyTable(replace(table.context, device="equal"), table.entries).write(tmp_path / "equal.csv")
    LatencyTable(replace(table.context, **change), table.entries).write(tmp_path / "other.csv")
    code, out, err = call("--lut", tmp_path / "other.csv", "--no-report", *limit)
    assert (code, out, (tmp_path / "out").exists()) == (1, "", False)
    assert "give tables of one data type and batch size" in err
    code, _, err = call("--lut", tmp_path / "equal.csv", "--no-report", *limit)
    assert code == 0, err


def test_help_shows_the_stars_of_fix(call: Any) -> None:
    code, text, _ = call("--help")
    assert code == 0
    assert "d=2,3,4,*,*" in text.replace("\u2502", "")


def test_limits_that_no_network_meets_are_one_line(call: Any) -> None:
    code, _, err = call("--max-latency-ms", 0.03, "--min-top1", 0.2)
    assert code == 1
    (line,) = (line for line in err.splitlines() if "no sub-net" in line)
    assert "with one limit changed there is: latency_ms <= " in line  # scores within the limit are below 0
    code, _, err = call("--max-latency-ms", 1, "--fix", "d=3")
    assert (code, "d: 3 in stage 1; choose one of 1, 2" in err) == (1, True)


def test_a_smallest_score_is_not_percent(call: Any) -> None:
    code, _, err = call("--min-top1", 0.1, "--no-report")
    assert code == 0
    assert "--min-top1 0.1 limits a score that is not an accuracy: 10 x log10 of the MACs" in err


def test_answers_name_the_limit_of_memory(call: Any) -> None:
    code, text, err = call("--pareto", 3, "--max-memory-mb", 0.08, "--no-report", "--json")
    assert code == 0, err
    assert [answer["limits"]["memory_mb"] for answer in json.loads(text)["answers"]] == [0.08] * 3


@pytest.mark.parametrize("name", ["pareto.csv", "report.html", "subnet.tflite"])
def test_a_folder_in_place_of_a_file_is_refused_before_the_search(call: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "out" / name).mkdir(parents=True)
    code, _, err = call("--max-latency-ms", 0.05)
    assert code == 2
    assert f"{name}isafolder" in "".join(err.replace("\u2502", "").split())  # the box breaks lines inside words
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_an_input_behind_a_link_in_the_folder_is_not_replaced(call: Any, lut: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "blocks.csv").symlink_to(lut)
    before = lut.read_bytes()
    code, _, err = call("--max-latency-ms", 0.05)
    assert code == 2
    assert "isaninput,andwouldbereplaced" in "".join(err.replace("\u2502", "").split())
    assert lut.read_bytes() == before
