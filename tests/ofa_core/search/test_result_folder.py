"""The folder of a search, written and read back; any value in its files gives one line that names the file."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.arch_json import arch_from_dict, read_arch_dict
from ofa_core.blocks import BlockSpec
from ofa_core.errors import FormatError, InfeasibleConstraintError, OutputError
from ofa_core.genomes import encode
from ofa_core.search.closed_loop import LoopResult, Trial
from ofa_core.search.exact import every_genome
from ofa_core.search.problem import Constraint, MeasuredNet
from ofa_core.search.quantity import Quantity
from ofa_core.search.result_folder import Sources, record_of, write_folder
from ofa_core.search.result_schema import AccuracyRecord, LatencyRecord, check_record
from ofa_core.search.run import SearchResult, fill_front, most_accurate, search
from ofa_core.search.saved import read_folder
from ofa_core.space import Space

RECORD: dict[str, Any] = {
    "schema": 1, "space": "tiny",
    "arch": {"ks": [3] * 4, "e": [3] * 4, "d": [1, 1], "r": [24]},
    "latency_ms": 1.0, "low_ms": 0.9, "high_ms": 1.1, "top1": 60.0, "limit_ms": 2, "mmacs": 1.0, "params_m": 0.1,
    "seconds": 1.0, "n_evaluated": 10, "seed": 0, "resolutions": [24], "left_out_px": [], "confidence": None,
    "measured": {"latency_ms": 1.0, "low_ms": 0.9, "high_ms": 1.1, "n_rounds": 1, "n_networks": 3, "converged": True},
    "limits": {"mmacs": 3.0}, "energy_mj": None, "weights": None, "target": None,
    "latency": {
        "lut": "t.csv", "label": "rig", "note": "", "calibrated": True, "n_filled": 0, "correction": 1.0,
        "context": {
            "device": "rig", "backend": "onnxruntime", "backend_version": "1", "threads": 1, "cpus": "",
            "dtype": "float32", "batch_size": 1, "graph_form": "fused", "statistic": "mean", "clock": "wall",
        },
        "calibration": {
            "scale": 1.0, "per_block_ms": 0.0, "per_mparam_ms": 0.0, "n_networks": 5, "raw_bias": 0.0, "loo_mape": 0.01,
            "loo_errors": [0.01] * 5, "spearman": 1.0, "margin_90": 1.02,
        },
    },
    "accuracy": {"source": "built in", "label": "", "note": "", "percent": True},
    "versions": {"python": "3.11"},
}  # fmt: skip
CANDIDATE: dict[str, Any] = {k: RECORD[k] for k in ("arch", "latency_ms", "low_ms", "high_ms", "top1")}
WRONG = ("\ud800", 10**400, float("nan"), float("-inf"), 1e300, True, [], {}, [[1]], "x" * 20_000)
LATENCIES = ("latency_ms", "limit_ms", "mmacs", "measured.latency_ms", "measured.high_ms", "latency.correction")


SOURCES = Sources(
    latency=LatencyRecord(
        lut="t.csv",
        label="rig",
        note="a note",
        calibrated=True,
        n_filled=0,
        context=None,
        calibration=None,
        correction=None,
    ),
    accuracy=AccuracyRecord(source="built in", label="made up", note="a note", percent=True),
)


@pytest.mark.parametrize(
    ("note", "text"),
    [
        ("quadratic fitted to 30 sub-nets, error 1", "quadratic fitted to 30 sub-nets, error 1"),
        ("more", "quadratic fitted to 30 sub-nets: more"),
    ],
)
def test_the_accuracy_model_is_named_once(note: str, text: str) -> None:
    assert AccuracyRecord(source="a.csv", label="quadratic fitted to 30 sub-nets", note=note, percent=True).text == text


def changed(record: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {**record, first: changed(record[first], rest, value) if rest else value}


def leaves(record: dict[str, Any], at: str = "") -> list[str]:
    out = []
    for name, value in record.items():
        out += leaves(value, f"{at}{name}.") if isinstance(value, dict) and name != "limits" else [f"{at}{name}"]
    return out


def written(folder: Path, record: dict[str, Any] = RECORD, candidates: Any = (CANDIDATE,)) -> Path:
    (folder / "search.json").write_text(json.dumps(record))
    (folder / "candidates.json").write_text(json.dumps(candidates))
    (folder / "pareto.csv").write_text('latency_ms,top1,ks,e,d,r\n1.0,60,"[3,3,3,3]","[3,3,3,3]","[1,1]",24\n')
    return folder


def test_the_sound_folder_is_read(tmp_path: Path) -> None:
    folder = read_folder(written(tmp_path))
    assert folder.record.limit_ms == 2.0
    assert folder.best.top1 == 60.0


def test_any_value_in_any_field_of_the_record_is_handled(tmp_path: Path) -> None:
    optional = ("schema", "latency.calibration", "latency.context")
    paths = [path for path in leaves(RECORD) if path not in optional]
    assert len(paths) > 50
    for path in paths:
        for wrong in WRONG:
            if isinstance(wrong, bool) and path.endswith(("converged", "calibrated", "percent")):
                continue
            if wrong == [] and path.split(".")[-1] in ("resolutions", "left_out_px", "ks", "e", "d", "loo_errors"):
                continue
            if wrong == {} and path == "limits":
                continue
            with pytest.raises(FormatError, match=r"search.json") as error:
                check_record(changed(RECORD, path, wrong), "search.json")
            assert str(error.value).isascii()
            assert len(str(error.value)) < 300


def without(record: dict[str, Any], path: str) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    if not rest:
        return {name: value for name, value in record.items() if name != first}
    return {**record, first: without(record[first], rest)}


@pytest.mark.parametrize("path", [path for path in leaves(RECORD) if path != "schema" and "versions" not in path])
def test_every_field_of_the_record_is_there(path: str) -> None:
    with pytest.raises(FormatError, match=rf"search.json: {path} is missing"):
        check_record(without(RECORD, path), "search.json")


@pytest.mark.parametrize("path", LATENCIES)
@pytest.mark.parametrize("value", [0, -1.0])
def test_a_latency_is_above_zero(path: str, value: float) -> None:
    with pytest.raises(FormatError, match=rf"x: {path} is {float(value)}; a number > 0"):
        check_record(changed(RECORD, path, value), "x")


@pytest.mark.parametrize("candidates", [[], {}, None, "text", [3], [[]], [CANDIDATE, {**CANDIDATE, "arch": None}]])
def test_candidates_are_a_list_of_them(tmp_path: Path, candidates: Any) -> None:
    with pytest.raises(FormatError, match=r"candidates.json"):
        read_folder(written(tmp_path, candidates=candidates))


@pytest.mark.parametrize("field", ["latency_ms", "low_ms", "high_ms", "top1", "arch"])
@pytest.mark.parametrize("wrong", WRONG)
def test_no_field_of_a_candidate_may_be_anything(tmp_path: Path, field: str, wrong: Any) -> None:
    with pytest.raises(FormatError, match=r"candidates.json"):
        read_folder(written(tmp_path, candidates=[CANDIDATE, {**CANDIDATE, field: wrong}]))


@pytest.mark.parametrize("row", ['0,60,"3","3","1",24', '1,inf,"3","3","1",24', '1e308,60,"3","3","1",24'])
def test_the_front_holds_latencies_and_accuracies(tmp_path: Path, row: str) -> None:
    written(tmp_path)
    (tmp_path / "pareto.csv").write_text(f"latency_ms,top1,ks,e,d,r\n{row}\n")
    with pytest.raises(Exception, match=r"pareto.csv, line 2") as error:
        read_folder(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"9" * 5000, b"\xff", b'{"schema": 1}', b"null"])
def test_json_that_is_none_is_one_line(tmp_path: Path, data: bytes) -> None:
    written(tmp_path)
    (tmp_path / "search.json").write_bytes(data)
    with pytest.raises(FormatError, match=r"search.json"):
        read_folder(tmp_path)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_everything_can_be_read_back(tmp_path: Path, small: Space, stand_ins: Any) -> None:
    latency = stand_ins.latency(small, small.resolutions)
    result = search(most_accurate(small, latency, stand_ins.accuracy(small), 0.04))
    folder = tmp_path / "a" / "b"
    record_written = record_of(result, SOURCES)
    write_folder(folder, result, record_written, block_ms=lambda block, px: 0.5)
    best = result.best
    for name in ("arch.json", "ofa.json"):
        assert arch_from_dict(read_arch_dict(folder / name), small) == best.arch
    candidates = json.loads((folder / "candidates.json").read_text())
    assert list(candidates[0]) == ["arch", "latency_ms", "low_ms", "high_ms", "top1", "space", "space_digest"]
    assert [arch_from_dict(c["arch"], small) for c in candidates] == [c.arch for c in result.candidates]
    record = json.loads((folder / "search.json").read_text())
    assert record["schema"] == 1
    assert record["accuracy"]["label"] == "made up"
    assert record["latency_ms"] == best.latency_ms
    assert record["measured"] is None
    assert read_folder(folder).record == record_written
    front = rows(folder / "pareto.csv")
    assert [float(row["latency_ms"]) for row in front] == result.front.costs.tolist()
    first = {name: json.loads(front[0][name]) for name in ("ks", "e", "d", "r")}
    assert latency.predict([arch_from_dict(first, small)])[0] == pytest.approx(float(front[0]["latency_ms"]))
    saved = read_folder(folder).front.networks
    assert [len(net.blocks_ms) for net in saved] == [len(small.blocks(net.arch)) for net in saved]
    assert {ms for net in saved for ms in net.blocks_ms} == {0.5}
    text = (folder / "pareto.csv").read_text()
    for wrong, words in (
        (text.replace("0.5 0.5", "0.5", 1), "blocks_ms has "),
        (text.replace("0.5 ", "-1 ", 1), "blocks_ms"),
    ):
        (folder / "pareto.csv").write_text(wrong)
        with pytest.raises(FormatError, match=words):
            read_folder(folder)
    blocks = rows(folder / "blocks.csv")
    assert len(blocks) == len(small.blocks(best.arch))
    assert sum(int(row["macs"]) for row in blocks) == best.macs
    assert blocks[0]["name"] == "first_conv"
    assert blocks[2]["name"] == "1.1"
    assert not (folder / "measured.csv").exists()


def test_what_was_measured_is_written_and_a_later_search_removes_it(
    tmp_path: Path, small: Space, stand_ins: Any
) -> None:
    latency = stand_ins.latency(small, small.resolutions)
    result = search(most_accurate(small, latency, stand_ins.accuracy(small), 0.04))
    net = MeasuredNet(result.best.arch, 0.039, 0.0385, 0.0395)
    trials = (Trial(1, False, result.best, net), Trial(1, True, result.best, net))
    loop = LoopResult(result, 1.0, net, trials, 1, True)
    write_folder(tmp_path, result, record_of(result, SOURCES, loop), loop=loop)
    measured = rows(tmp_path / "measured.csv")
    assert [row["confirms"] for row in measured] == ["0", "1"]
    assert float(measured[0]["predicted_ms"]) == result.best.latency_ms
    record = json.loads((tmp_path / "search.json").read_text())["measured"]
    assert record == {
        "latency_ms": 0.039,
        "low_ms": 0.0385,
        "high_ms": 0.0395,
        "n_rounds": 1,
        "n_networks": 1,
        "converged": True,
    }
    write_folder(tmp_path, result, record_of(result, SOURCES))
    assert not (tmp_path / "measured.csv").exists()


@pytest.fixture
def two_results(small: Space, stand_ins: Any) -> tuple[SearchResult, SearchResult]:
    """Two searches with different winners."""
    latency, accuracy = stand_ins.latency(small, small.resolutions), stand_ins.accuracy(small)
    first, second = (search(most_accurate(small, latency, accuracy, limit)) for limit in (0.03, 0.04))
    assert first.best.arch != second.best.arch
    return first, second


@pytest.mark.parametrize("last_call", [1, 3])
def test_an_interrupted_search_leaves_the_earlier_one(
    tmp_path: Path, two_results: tuple[SearchResult, SearchResult], last_call: int
) -> None:
    first, second = two_results
    write_folder(tmp_path, first, record_of(first, SOURCES))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    n_calls = 0

    def block_ms(block: BlockSpec, px: int) -> float:
        nonlocal n_calls
        n_calls += 1
        if n_calls == last_call:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path, second, record_of(second, SOURCES), block_ms=block_ms)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("n_bytes", [0, 300, 2000])
def test_a_full_disk_leaves_the_earlier_search(
    tmp_path: Path, two_results: tuple[SearchResult, SearchResult], full_disk: Any, n_bytes: int
) -> None:
    first, second = two_results
    write_folder(tmp_path, first, record_of(first, SOURCES))
    (tmp_path / "report.html").write_text("of the first search")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with full_disk(n_bytes), pytest.raises(OutputError, match="free some space"):
        write_folder(tmp_path, second, record_of(second, SOURCES))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert read_folder(tmp_path).best.arch == first.best.arch


@pytest.mark.parametrize("last_call", [1, 4])
def test_the_files_of_two_searches_are_never_read_as_one(
    tmp_path: Path,
    two_results: tuple[SearchResult, SearchResult],
    monkeypatch: pytest.MonkeyPatch,
    last_call: int,
) -> None:
    first, second = two_results
    write_folder(tmp_path, first, record_of(first, SOURCES))
    (tmp_path / "networks.csv").write_text("of the earlier search\n")
    n_calls, replace_file = 0, Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        nonlocal n_calls
        n_calls += 1
        if n_calls == last_call:
            raise KeyboardInterrupt
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path, second, record_of(second, SOURCES))
    assert not (tmp_path / "networks.csv").exists()
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(FormatError, match=r"search\.json: No such file"):
        read_folder(tmp_path)


def test_a_link_in_the_folder_stays_a_link(tmp_path: Path, two_results: tuple[SearchResult, SearchResult]) -> None:
    first, second = two_results
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "out"
    for result in (first, second):
        write_folder(out, result, record_of(result, SOURCES))
        for name in ("search.json", "arch.json"):
            if not (out / name).is_symlink():
                (out / name).rename(tmp_path / "elsewhere" / name)
                (out / name).symlink_to(tmp_path / "elsewhere" / name)
    assert read_folder(out).best.arch == second.best.arch
    assert (out / "search.json").is_symlink()


def test_a_folder_among_the_answers_stays(tmp_path: Path, two_results: tuple[SearchResult, SearchResult]) -> None:
    (tmp_path / "answers" / "mine.json").mkdir(parents=True)
    (tmp_path / "answers" / "link.json").symlink_to("mine.json")
    result = two_results[0]
    write_folder(tmp_path, result, record_of(result, SOURCES))
    assert read_folder(tmp_path).best.arch == result.best.arch
    assert [path.name for path in (tmp_path / "answers").iterdir()] == ["mine.json"]


def test_a_file_that_cannot_be_removed_is_named(tmp_path: Path, two_results: tuple[SearchResult, SearchResult]) -> None:
    (tmp_path / "networks.csv").mkdir()
    with pytest.raises(OutputError, match=r"/networks\.csv: "):
        write_folder(tmp_path, two_results[0], record_of(two_results[0], SOURCES))


def test_a_new_objective_is_one_quantity(tmp_path: Path, small: Space, stand_ins: Any) -> None:
    """Neither the search nor its files nor the report hold its name."""
    from ofa_core.search.console import answer_lines
    from ofa_core.search.report import write_report

    n_layers = Quantity(
        "n_layers", lambda genomes: np.count_nonzero(genomes[:, 1:], axis=1) * 1.0, label="layers", unit="blocks"
    )
    problem = most_accurate(small, stand_ins.latency(small, small.resolutions), stand_ins.accuracy(small), 0.04)
    accuracy = problem.objective
    fewest = replace(problem, objective=n_layers, reported=(accuracy,))
    result = fill_front(search(fewest), n_limits=3)
    assert sum(result.best.arch.depths) == result.best.values["n_layers"] == 2  # smaller is better by default
    most = replace(fewest, objective=replace(n_layers, direction="max"))
    result = fill_front(search(most), n_limits=3)
    everything = every_genome(small, small.resolutions)
    assert result.best.values["n_layers"] == n_layers.values(everything[problem.feasible(everything)]).max()
    assert result.best.top1 == accuracy.values(encode(small, [result.best.arch]))[0]

    record = record_of(result, SOURCES)
    write_folder(tmp_path, result, record)
    row = json.loads((tmp_path / "candidates.json").read_text())[0]
    assert list(row)[-1] == "n_layers"
    front = rows(tmp_path / "pareto.csv")
    assert list(front[0])[-1] == "n_layers"
    assert max(float(point["n_layers"]) for point in front) == 4
    folder = read_folder(tmp_path)
    assert folder.best.values["n_layers"] == result.best.values["n_layers"]
    assert folder.described("n_layers") == most.objective.description
    assert any("layers 4 blocks" in line or "layers 3 blocks" in line for line in answer_lines(record, "x"))
    write_report(tmp_path, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "Layers against predicted latency" in html
    assert "objective of the search" in html


def test_a_limit_may_be_a_lower_bound(small: Space, stand_ins: Any) -> None:
    """The fastest network of a given accuracy: latency is the objective, accuracy the limit."""
    problem = most_accurate(small, stand_ins.latency(small, small.resolutions), stand_ins.accuracy(small), 0.04)
    latency, accuracy = problem.cost, problem.objective
    everything = every_genome(small, small.resolutions)
    least = float(np.quantile(accuracy.values(everything), 0.7))
    result = search(replace(problem, constraints=(Constraint(accuracy, least),), objective=latency))
    fits = everything[accuracy.values(everything) >= least]
    assert result.best.top1 >= least
    assert result.best.latency_ms == pytest.approx(latency.values(fits).min())
    with pytest.raises(
        InfeasibleConstraintError, match=r"no sub-net of tiny has top1 >= 99; the largest is 62\.8, at 32 px"
    ):
        search(replace(problem, constraints=(Constraint(accuracy, 99.0),), objective=latency))
