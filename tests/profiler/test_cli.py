from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ofa_core.backend_names import DTYPES
from ofa_core.cli_app import run_app
from ofa_core.formats.net_config import write_net_config
from ofa_core.lock import only_one
from ofa_core.measured_networks import networks_path, read_networks
from ofa_core.search.cli import app as search
from ofa_core.spaces import tiny
from ofa_core.table import Context, Entry, LatencyTable
from predictors.cli import app as predict
from predictors.loading import load_latency
from profiler.campaign import journal_path
from profiler.cli import main, parse_resolutions
from profiler.journal import read_journal

TINY = ["--space", "tiny", "--resolutions", "28,32", "--processes", "3"]


def call(*argv: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["ofa-profile", *argv])
    return main()


def test_the_whole_round_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.csv"
    assert call(*TINY, "--budget-s", "8", "--out", str(out), monkeypatch=monkeypatch) in (0, 3)
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert "calibration on 24 networks" in captured.err
    table = LatencyTable.read(out)
    assert table.spaces() == (tiny(),)
    assert table.resolutions(tiny()) == (28, 32)
    assert table.context.backend == "onnxruntime"
    assert all(0 < (e.latency_ms or 0) < 100 for e in table.entries.values())

    assert call("verify", "--lut", str(out), "--nets", "6", "--budget-s", "4", monkeypatch=monkeypatch) == 0
    text = capsys.readouterr().out
    for word in ("raw bias", "MAPE", "RMSE", "Spearman", "worst", "clock", "dropped"):
        assert word in text
    rows = read_networks(networks_path(out), table.context)
    assert [r.role for r in rows].count("verify") == 6
    references = {r.arch.at(0) for r in rows if r.role == "reference"}
    assert not references & {r.arch.at(0) for r in rows if r.role == "verify"}

    candidates = candidates_of(tmp_path)
    argv = ["verify", "--lut", str(out), "--candidates", str(candidates), "--budget-s", "3", "--json"]
    assert call(*argv, monkeypatch=monkeypatch) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["networks"][0]["latency_ms"] > 0
    assert [r.role for r in read_networks(networks_path(out))].count("reference") == 25

    assert call("compare", str(out), str(out), monkeypatch=monkeypatch) == 0
    assert "nothing changed" in capsys.readouterr().out

    folder = tmp_path / "yaml"
    assert call("convert", str(out), str(folder), monkeypatch=monkeypatch) == 0
    back = tmp_path / "back.csv"
    assert call("convert", str(folder), str(back), monkeypatch=monkeypatch) == 0
    assert LatencyTable.read(back).resolutions(tiny()) == (28, 32)


def test_a_table_in_use_by_another_command_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.csv"
    blocks = {(None, block): Entry(0.01) for block in tiny().all_blocks((28, 32))}
    LatencyTable(Context("local", "onnxruntime", statistic="mean@50.000us"), blocks).write(out)
    before = out.read_bytes()
    with only_one(out):
        for argv in (
            [*TINY, "--out", str(out)],
            ["verify", "--lut", str(out), "--candidates", str(candidates_of(tmp_path)), "--space", "tiny"],
        ):
            assert call(*argv, monkeypatch=monkeypatch) == 1
            told = capsys.readouterr().err
            assert f"{out} is in use by process {os.getpid()}" in told
    assert out.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"t.csv", "candidates.json"}


def candidates_of(folder: Path) -> Path:
    path = folder / "candidates.json"
    path.write_text(json.dumps([{"arch": {"ks": [3] * 4, "e": [3] * 4, "d": [2, 1], "r": [28]}, "latency_ms": 1.0}]))
    return path


@pytest.mark.parametrize(("dtype", "form"), [("fp32", "fused"), ("int8", "integer")])
def test_kill_9_then_the_same_command_loses_one_visit_at_most(tmp_path: Path, dtype: str, form: str) -> None:
    out = tmp_path / "t.csv"
    argv = [sys.executable, "-c", "import sys; from profiler.cli import main; sys.exit(main())"]
    argv += [*TINY, "--dtype", dtype, "--budget-s", "10", "--out", str(out)]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=Path.cwd())
    journal = journal_path(out)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b'"p":') < 30):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = journal.read_bytes()
    kept = kept[: kept.rfind(b"\n") + 1]
    assert kept.count(b'"p":') >= 30
    assert not out.exists()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=Path.cwd())
    assert done.returncode in (0, 3), done.stderr
    assert journal.read_bytes().startswith(kept)
    keys: set[tuple[int, ...]] = set()
    for event in map(json.loads, journal.read_text().splitlines()):
        if "redo" in event:  # a unit that drifted is measured again, and its earlier visits do not count
            keys = {key for key in keys if list(key[:2]) != event["redo"]}
        elif "p" in event:
            key = tuple(event[name] for name in "pcri")
            assert key not in keys
            keys.add(key)
    state = read_journal(journal)
    assert state.pilot is not None
    assert keys == set(state.visits)
    assert len(keys) == 3 * state.pilot["n_rounds"] * len(state.header["items"])
    table = LatencyTable.read(out)
    assert table.n_failed == 0
    assert (table.context.dtype, table.context.graph_form) == (DTYPES[dtype], form)


def test_a_part_of_the_blocks_gives_a_table_that_fill_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.csv"
    argv = ["--space", "tiny", "--resolutions", "28,32", "--processes", "3", "--target", "fake", "--backend", "sleep"]
    argv += ["--budget-s", "1", "--out", str(out)]
    assert call(*argv, "--plan", "active", "--fraction", "0.5", monkeypatch=monkeypatch) == 0
    err = capsys.readouterr().err
    blocks = tiny().all_blocks((28, 32))
    table = LatencyTable.read(out)
    assert len(table) == -(-len(blocks) // 2)
    assert f"{len(blocks) - len(table)} blocks not measured" in err
    assert "calibration on 24 networks" in err
    assert table.spaces() == ()
    rows = read_networks(networks_path(out), table.context)
    assert any(row.sum_ms is None for row in rows)
    before = out.read_bytes()

    # The device adds up exactly, so what the sums are off by is what the estimates are.
    verify = ["verify", "--lut", str(out), "--nets", "6", "--budget-s", "1"]
    assert call(*verify, monkeypatch=monkeypatch) == 1
    assert "lacks blocks of tiny at every resolution; add --fill to estimate them" in capsys.readouterr().err
    assert call(*verify, "--fill", "--json", monkeypatch=monkeypatch) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["n_filled"] > 0
    assert record["calibrated"]
    assert record["mape"] < 0.05
    assert call(*verify, "--fill", monkeypatch=monkeypatch) == 0
    assert "of their blocks are estimated, not measured" in capsys.readouterr().out
    verified = [row for row in read_networks(networks_path(out), table.context) if row.role == "verify"]
    assert len(verified) == 12
    assert any(row.sum_ms is None for row in verified)
    assert out.read_bytes() == before  # estimates are nobody's measurements

    predicted = load_latency(out, fill=True)
    assert predicted.calibration_ is not None
    assert predicted.calibration_.n_networks == 24
    assert predicted.predict([row.arch for row in verified]) == pytest.approx(
        [row.latency_ms for row in verified], rel=0.05
    )
    # The whole plan is another one: its measurements are not mixed in.
    assert call(*argv, monkeypatch=monkeypatch) == 1
    assert "different items" in capsys.readouterr().err


def test_a_few_networks_of_a_new_device_make_a_predictor_that_a_search_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--space", "tiny", "--processes", "3", "--target", "fake", "--backend", "sleep", "--budget-s", "1"]
    assert call(*argv, "--nets", "12", monkeypatch=monkeypatch) == 0
    captured = capsys.readouterr()
    assert captured.out == "luts/fake-sleep-nets.csv\n"
    assert "12 whole networks\n" in captured.err
    assert "ofa-predict fit luts/fake-sleep-nets.csv" in captured.err
    rows = read_networks(Path(captured.out.strip()))
    assert len({row.arch for row in rows}) == 12
    assert {row.arch.resolution_px for row in rows} == {24, 28, 32}
    for row in rows:  # the device adds up exactly
        assert row.latency_ms == pytest.approx(sum(0.02 + b.macs / 1e8 for b in tiny().blocks(row.arch)), rel=1e-3)
        assert (row.sum_ms, row.role) == (None, "reference")
    # Resumed: there is nothing left to do. Selected at random: other networks.
    before = Path(captured.out.strip()).read_bytes()
    assert call(*argv, "--nets", "12", monkeypatch=monkeypatch) == 0
    assert Path("luts/fake-sleep-nets.csv").read_bytes() == before
    out = ["--out", "other.csv"]
    assert call(*argv, "--nets", "40", "--select", "random", *out, monkeypatch=monkeypatch) == 0
    others = read_networks(Path("other.csv"))
    assert {row.arch for row in rows} - {row.arch for row in others}
    assert not list(tmp_path.glob("luts/*.networks.csv"))

    fit = ["fit", "luts/fake-sleep-nets.csv", "--source", "other.csv", "--out", "new.predictor"]
    assert run_app(predict, fit, prog="ofa-predict") == 0
    capsys.readouterr()
    find = ["--lut", "new.predictor", "--max-latency-ms", "0.19", "-a", "proxy:macs", "--json", "--no-report"]
    assert run_app(search, find, prog="ofa-search") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["latency_ms"] <= 0.19
    truth = 0.02 * (6 + sum(record["arch"]["d"])) + record["mmacs"] / 100
    assert record["latency_ms"] == pytest.approx(truth, rel=0.03)
    assert record["latency"]["context"]["device"] == "fake"


def test_an_architecture_without_an_input_size_is_measured_at_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--space", "tiny", "--resolutions", "28,32", "--processes", "3", "--target", "fake", "--backend", "sleep"]
    assert call(*argv, "--budget-s", "1", "--out", "t.csv", monkeypatch=monkeypatch) == 0
    Path("short.json").write_text('{"ks": 5, "e": 6, "d": 2}')
    Path("two.json").write_text('{"ks": 3, "e": 6, "d": 2, "r": 28, "image_size": 32}')
    verify = ["verify", "--lut", "t.csv", "--arch", "short.json", "--arch", "two.json", "--budget-s", "1"]
    capsys.readouterr()
    assert call(*verify, monkeypatch=monkeypatch) == 1
    assert "the architecture has no resolution" in capsys.readouterr().err
    assert call("verify", "--lut", "t.csv", "--arch", "two.json", monkeypatch=monkeypatch) == 1
    assert "2 input sizes where one is expected (r 28; image_size 32)" in capsys.readouterr().err
    assert call(*verify, "--resolution", "32", monkeypatch=monkeypatch) == 0
    rows = read_networks(networks_path(Path("t.csv")))
    verified = [row.arch for row in rows if row.role == "verify"]
    assert verified == [tiny().uniform(5, 6, 2, 32), tiny().uniform(3, 6, 2, 32)]
    # A published network is an architecture here too.
    write_net_config(Path("net"), tiny(), tiny().uniform(3, 3, 1, 28))
    verify = ["verify", "--lut", "t.csv", "--arch", "net", "--arch", "net/net.config", "--budget-s", "1"]
    assert call(*verify, monkeypatch=monkeypatch) == 0
    rows = read_networks(networks_path(Path("t.csv")))
    assert [row.arch for row in rows if row.role == "verify"][2:] == [tiny().uniform(3, 3, 1, 28)]


@pytest.mark.parametrize(
    ("argv", "code", "word"),
    [
        (["--space", "nope"], 1, "mbv3-w1.0"),
        (["--target", "local:x y"], 1, "address"),
        (["--target", "toaster"], 1, "known are"),
        (["--resolutions", "abc"], 2, "160,192,224"),
        (["--resolutions", "161"], 1, "multiple of 4"),
        (["--cpus", "big?"], 2, "4-7"),
        (["--graph-form", "odd"], 2, "fused"),
        (["--plan", "odd"], 2, "active"),
        (["--fraction", "0.5"], 2, "--plan active"),
        (["--share", "0.5"], 2, "--plan active"),
        (["--plan", "active", "--fraction", "0.5", "--share", "0.5"], 2, "old name of --fraction"),
        (["--nets", "9", "--select", "best"], 2, "d-optimal or random"),
        (["--select", "random"], 2, "--nets"),
        (["--nets", "4"], 2, "equal to 5"),
        (["--nets", "9", "--plan", "active"], 2, "no blocks"),
        (
            ["--nets", "9999", "--space", "tiny"],
            1,
            "sub-nets of tiny exist at these resolutions (9999 requested)",
        ),
        (["--backend", "toaster", "--budget-s", "1"], 1, "toaster"),
        (["verify", "--lut", "none.csv", "--nets", "3"], 1, "none.csv"),
        (["verify", "--lut", "none.csv"], 2, "--nets"),
        (["verify", "--lut", "none.csv", "--nets", "3", "--resolution", "32"], 2, "input size of --arch"),
        (["compare", "none.csv", "other.csv"], 1, "none.csv"),
        (["convert", "none.csv", "x.csv"], 1, "none.csv"),
    ],
)
def test_bad_input_is_one_clear_line(
    argv: list[str],
    code: int,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*argv, monkeypatch=monkeypatch) == code
    err = capsys.readouterr().err
    assert word in err.replace("\n", " ")
    assert "Traceback" not in err


def test_devices_lists_this_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("devices.adb_client.list_phones", list)
    assert call("devices", monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert out.startswith("local: ")
    assert "onnxruntime" in out


@pytest.mark.parametrize("name", ["a\\nb", "a\\u001b[2J", "x" * 201])
def test_an_unprintable_name_is_refused_before_measuring(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.toml").write_text(f'["{name}"]\ntarget = "ssh:nobody@192.0.2.1"\n')
    assert call("--target", "ssh:nobody@192.0.2.1", monkeypatch=monkeypatch) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "most 200 printable" in " ".join(err.split())
    assert "\x1b[2J" not in err
    assert not (tmp_path / "luts").exists()


def test_numbers_on_the_command_line() -> None:
    assert parse_resolutions("160,192-200", tiny()) == (160, 192, 196, 200)
    assert parse_resolutions("128-224:32", tiny()) == (128, 160, 192, 224)
    assert parse_resolutions(None, tiny()) == (24, 28, 32)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--seed", "-1"], "--seed"),
        (["--nets", "100000000"], "--nets"),
        (["--nets", "4"], "--nets"),
        (["--budget-s", "inf"], "--budget-s"),
        (["--budget-s", "nan"], "--budget-s"),
        (["verify", "--lut", "t.csv", "--nets", "5", "--seed", "-1"], "--seed"),
        (["verify", "--lut", "t.csv", "--nets", "100000"], "--nets"),
        (["verify", "--lut", "t.csv", "--nets", "5", "--budget-s", "inf"], "--budget-s"),
    ],
)
def test_numbers_out_of_range_are_wrong_usage(
    words: list[str], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*words, monkeypatch=monkeypatch) == 2
    captured = capsys.readouterr()
    assert f"Invalid value for '{option}'" in captured.err
    assert not captured.out
    assert not list(tmp_path.iterdir())


def test_more_networks_than_the_space_has_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tiny()
    context = Context(device="x", backend="sleep", backend_version="1", statistic="mean@100us")
    table = LatencyTable(context, {(None, block): Entry(1.0 + block.macs / 1e6) for block in space.all_blocks()})
    table.write(tmp_path / "t.csv")
    words = ["verify", "--lut", str(tmp_path / "t.csv"), "--nets", "20000"]
    assert call(*words, monkeypatch=monkeypatch) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "ofa-profile: choosing 20000 sub-nets",
        "ofa-profile: only 400 distinct sub-nets of tiny are left (20000 requested): ask for at most 400 with --nets",
    ]
