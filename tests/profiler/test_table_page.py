"""The page of a table, in a browser and from the command."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ofa_core.blocks import BlockSpec
from ofa_core.cli_app import run_app
from ofa_core.errors import FormatError, TableError
from ofa_core.genomes import sample_arch
from ofa_core.measured_networks import Network, networks_path, write_networks
from ofa_core.space import Space
from ofa_core.spaces import proxyless, tiny
from ofa_core.table import Context, Entry, Key, LatencyTable
from profiler.cli import app
from profiler.table_page import read_files, write_table_page

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
from browser import open_browser

CONTEXT = Context(device="<i>rig</i>", backend="onnxruntime", backend_version="1.0", statistic="mean@1000us")


def ms_of(block: BlockSpec) -> float:
    return 0.01 + block.macs / 1e7


def make_table(path: Path, slower: float = 1.0, space: Space | None = None) -> Path:
    space = space or tiny()
    entries: dict[Key, Entry] = {}
    for block in space.all_blocks():
        ms = ms_of(block) * (slower if block.kernel_px == 5 else 1)
        entries[(None, block)] = Entry(ms, ci90_ms=0.01 * ms, n_samples=9, n_processes=5)
    entries[next(iter(entries))] = Entry(None, status="failed")
    LatencyTable(CONTEXT, entries).write(path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path, space, rng = make_table(tmp_path / "rig.csv"), tiny(), np.random.default_rng(1)
    networks = []
    for i in range(20):
        arch = sample_arch(space, rng)
        total = sum(ms_of(block) for block in space.blocks(arch))
        role = "verify" if i % 4 == 0 else "reference"
        networks.append(Network(space, arch, role, len(space.blocks(arch)), total, 1.02 * total))
    write_networks(networks_path(path), CONTEXT, networks)
    return path


def test_a_table_and_another_one_as_a_page(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_table(tmp_path / "other.csv", slower=1.3)
    page = tmp_path / "page.html"
    assert run_app(app, ["report", str(table), str(other), "-o", str(page)], prog="ofa-profile") == 0
    assert capsys.readouterr().out == f"{page}\n"
    with open_browser(tmp_path / "downloads") as browser:
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.dataset.ready") == "true"
        words = browser.find_element("css selector", "main").text
        n_blocks = len(tiny().all_blocks())
        assert f"<i>rig</i>: {n_blocks - 1} blocks" in words
        expected_words = (
            "1 failed, 0 unstable",
            "\u00b11.0 %",
            "Calibration error",
            "Whole networks",
            "Against other.csv",
            "\u00d7 1.30",
        )
        for expected in expected_words:
            assert expected in words, expected
        shown = [len(browser.find_elements("css selector", "#blocks .bar"))]
        places = browser.find_elements("css selector", "#place option")
        for i in range(1, len(places)):
            browser.execute_script(
                "const place = document.getElementById('place'); place.value = arguments[0];"
                "place.dispatchEvent(new Event('change'))",
                i,
            )
            shown.append(len(browser.find_elements("css selector", "#blocks .bar")))
        assert sum(shown) == n_blocks - 1
        assert len(browser.find_elements("css selector", "#size .point")) == n_blocks - 1


def test_the_default_name_is_that_of_the_table_here(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert run_app(app, ["report", str(table)], prog="ofa-profile") == 0
    assert [path.name for path in folder.iterdir()] == ["rig.html"]


def test_what_cannot_be_shown_is_one_line(table: Path, tmp_path: Path) -> None:
    files = read_files(table)
    nothing = LatencyTable(CONTEXT, {key: Entry(None, status="failed") for key in files.table.entries})
    with pytest.raises(FormatError, match=r"rig.csv has no measured block"):
        write_table_page(tmp_path / "page.html", replace(files, table=nothing))
    foreign = read_files(make_table(tmp_path / "foreign.csv", space=proxyless(1.3)))
    with pytest.raises(TableError, match="no block is measured in both"):
        write_table_page(tmp_path / "page.html", files, foreign)
    assert not (tmp_path / "page.html").exists()
    (tmp_path / "rig.journal.jsonl").write_text("no journal\n")
    with pytest.raises(FormatError, match=r"rig.journal.jsonl"):
        read_files(table)
