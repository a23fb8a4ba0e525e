"""A search that measures, killed and started again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ofa_core.measured_networks import networks_path, read_networks, write_networks
from ofa_core.search.measuring import rounds_path
from ofa_core.table import LatencyTable
from profiler.journal import read_journal
from profiler.remeasure import remeasure_path

PROFILE = "import sys; from profiler.cli import main; sys.exit(main())"
SEARCH = "import sys; from ofa_core.search.cli import main; sys.exit(main())"


def profiled(folder: Path) -> Path:
    table = folder / "t.csv"
    argv = ["--space", "tiny", "--target", "fake", "--budget-s", "1", "--out", str(table)]
    assert subprocess.run([sys.executable, "-c", PROFILE, *argv], capture_output=True).returncode in (0, 3)
    return table


def search_command(table: Path, out: Path, limit_ms: float = 2.0) -> list[str]:
    argv = ["--lut", table, "--max-latency-ms", limit_ms, "-a", "proxy:macs", "--measure", "fake", "--budget-s", 1]
    return [sys.executable, "-c", SEARCH, *map(str, argv), "--out", str(out), "--no-report", "--json"]


@pytest.mark.slow
def test_kill_9_then_the_same_command_continues_the_session(tmp_path: Path) -> None:
    table, out = profiled(tmp_path), tmp_path / "out"
    n_before = len(read_networks(networks_path(table)))
    journal = remeasure_path(table, "search")
    process = subprocess.Popen(search_command(table, out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < 60:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    visits = set(read_journal(journal).visits)
    chosen = rounds_path(table).read_text().splitlines()
    assert visits
    assert not out.exists()

    other = subprocess.run(search_command(table, out, 1.9), capture_output=True, text=True)
    assert other.returncode == 1
    assert "limit_ms '2.0', now '1.9'" in other.stderr.splitlines()[-1]

    second = subprocess.Popen(search_command(table, out), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while len(read_journal(journal).visits) <= len(visits) and second.poll() is None:
        time.sleep(0.01)
    assert visits < set(read_journal(journal).visits)  # none was made again, and others are added
    assert rounds_path(table).read_text().splitlines()[: len(chosen)] == chosen
    text, told = second.communicate(timeout=120)
    assert second.returncode == 0, told
    assert "continuing the interrupted search" in told
    assert json.loads(text.splitlines()[-1])["measured"]["high_ms"] <= 2
    assert len(read_networks(networks_path(table))) == n_before + 7
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"t.csv", "t.networks.csv", "t.journal.jsonl", "out"}


@pytest.mark.slow
def test_networks_are_added_to_a_table_whose_sums_do_not_predict_latencies(tmp_path: Path) -> None:
    table = profiled(tmp_path)
    context = LatencyTable.read(table).context
    networks = [replace(n, latency_ms=0.1 + 0.4 * n.n_blocks) for n in read_networks(networks_path(table), context)]
    write_networks(networks_path(table), context, networks)
    before = read_networks(networks_path(table))
    command = [word for word in search_command(table, tmp_path, 9.0) if word != "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "the sum of blocks does not predict whole networks" in done.stderr
    assert done.returncode == 0, done.stderr
    assert "is added to t.networks.csv and calibrates the table" in done.stderr
    after = read_networks(networks_path(table))
    assert after[: len(before)] == before
    assert len(after) > len(before)
    [listed] = re.findall(r"^files .*\{(.*)\}$", done.stdout, re.MULTILINE)
    assert sorted(listed.split(",")) == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_search_for_each_device_keeps_the_devices_that_are_complete(tmp_path: Path) -> None:
    first = profiled(tmp_path)
    second = tmp_path / "u.csv"
    for path in (first, networks_path(first)):
        shutil.copy(path, path.with_name(path.name.replace("t.", "u.", 1)))
    argv = ["--lut", f"{first}=2", "--lut", f"{second}=2.1", "--per-device", "-m", "t.csv=fake", "-m", "u.csv=fake"]
    argv += ["-a", "proxy:macs", "--budget-s", "1", "--out", str(tmp_path / "out"), "--no-report", "--json"]
    command = [sys.executable, "-c", SEARCH, *argv]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (journal := remeasure_path(second, "search")).exists() or journal.read_bytes().count(b"\n") < 20:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    complete = rounds_path(first).read_text()
    networks = read_networks(networks_path(first))
    other = subprocess.run(search_command(first, tmp_path / "other", 1.9), capture_output=True, text=True)
    assert other.returncode == 1, "the journal of a complete device was replaced"
    assert "limit_ms '2.0', now '1.9'" in other.stderr.splitlines()[-1]

    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("continuing the interrupted search") == 2
    assert read_networks(networks_path(first)) == networks
    assert '"took"' in complete
    assert not rounds_path(first).exists()
