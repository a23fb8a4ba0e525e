"""`ofa-search compare` from its words to its files, on made-up tables of the small space."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import open_browser, saved

from ofa_core.arch_json import ARCH_COLUMNS, arch_fields
from ofa_core.blocks import BlockSpec
from ofa_core.cli_app import run_app
from ofa_core.formats.net_config import write_net_config
from ofa_core.search.cli import app
from ofa_core.space import Space
from ofa_core.table import Context, Entry, LatencyTable

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*words: object) -> tuple[int, str, str]:
        code = run_app(app, [str(word) for word in words], prog="ofa-search")
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def tables(tmp_path: Path, small: Space) -> tuple[Path, Path]:
    """A device that pays for arithmetic and one that pays for every call."""

    def write(name: str, ms: Callable[[BlockSpec], float]) -> Path:
        LatencyTable(Context(name), {(None, b): Entry(ms(b)) for b in small.all_blocks()}).write(
            tmp_path / f"{name}.csv"
        )
        return tmp_path / f"{name}.csv"

    return write("slow", lambda b: 0.01 + b.macs / 1e6), write("Pixel 2", lambda b: 0.2 + b.macs / 1e9)


@pytest.fixture
def accuracy(tmp_path: Path, small: Space) -> Path:
    """Accuracies that grow with MACs."""
    import numpy as np

    from ofa_core.genomes import decode, sample_genomes

    archs = decode(small, sample_genomes(small, 150, np.random.default_rng(2)))
    with (tmp_path / "acc.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow((*ARCH_COLUMNS, "top1"))
        for arch in archs:
            macs = sum(block.macs for block in small.blocks(arch))
            writer.writerow((*arch_fields(arch, small).values(), 50 + 3 * np.log(macs / 1e5)))
    return tmp_path / "acc.csv"


@pytest.fixture
def authors(mirror: Any, hub: Any, small: Space, tmp_path: Path) -> list[str]:
    """Nets of a hub for one of the devices, and for another one."""
    items, archs = [], {"pixel2": [small.smallest(), small.largest()], "note8": [small.smallest(32)]}
    for device, nets in archs.items():
        for i, arch in enumerate(nets):
            write_net_config(tmp_path / "net", small, arch)
            names = ("net.config", "run.config")
            files = [mirror.add(f"{device}-{i}/{n}", (tmp_path / "net" / n).read_bytes()) for n in names]
            facts = {"device": device, "latency_ms": 1.0 + i, "batch_size": 1, "top1": 70.5 + i, "finetune_epochs": 25}
            items.append({"name": f"{device}-{i}", "kind": "net", **facts, "files": files})
    hub(items)
    return [item["name"] for item in items]


def words(tables: tuple[Path, Path], accuracy: Path) -> list[object]:
    slow, fast = tables
    return ["--lut", slow, "--lut", fast, "--accuracy", accuracy, "--max-latency-ms", 0.6, "--max-latency-ms", 2.4]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_best_net_on_each_device_and_the_authors_nets_beside(call, tables, accuracy, authors, tmp_path) -> None:
    code, out, err = call(
        "compare", *words(tables, accuracy), "--csv", tmp_path / "c.csv", "--html", tmp_path / "c.html"
    )
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "network"
    assert "slow (limit 0.6 ms)" in lines[0]
    assert [line.partition("  ")[0] for line in lines[1:]] == [
        "best for slow, 0.6 ms",
        "best for Pixel 2, 2.4 ms",
        "authors' net for pixel2, 1 ms",
        "authors' net for pixel2, 2 ms",
    ]

    rows = rows_of(tmp_path / "c.csv")
    assert len(rows) == 8
    by_cell = {(row["network"], row["device"]): row for row in rows}
    for network, device in (("best for slow, 0.6 ms", "slow"), ("best for Pixel 2, 2.4 ms", "Pixel 2")):
        own = by_cell[network, device]
        assert own["within_limit"] == "1"
        assert float(own["latency_ms"]) <= float(own["limit_ms"])
        # No network that is within this device's limit is better than the one that was searched for it.
        others = [
            r for r in rows if r["device"] == device and r["within_limit"] == "1" and r["top1_source"] == "predicted"
        ]
        assert max(others, key=lambda r: float(r["top1"]))["network"] == network
    published = by_cell["authors' net for pixel2, 2 ms", "Pixel 2"]
    assert (published["top1"], published["top1_source"], published["published_ms"]) == ("71.5", "published", "2.0")
    assert published["made_for"] == "Pixel 2"
    assert float(published["latency_ms"]) > 0


def test_search_folders_give_the_same_as_their_tables(call, tables, accuracy, authors, tmp_path) -> None:
    for table, limit in zip(tables, (0.6, 2.4), strict=True):
        options = ("--accuracy", accuracy, "--no-report", "--out", tmp_path / table.stem)
        assert call("--lut", table, "--max-latency-ms", limit, *options)[0] == 0
    code, out, err = call("compare", tmp_path / "slow", tmp_path / "Pixel 2")
    assert code == 0, err
    assert out == call("compare", *words(tables, accuracy))[1]
    # A folder and a table together.
    mixed = ("--lut", tables[1], "--accuracy", accuracy, "--max-latency-ms", 2.4)
    assert call("compare", tmp_path / "slow", *mixed)[1] == out


def test_authors_nets_of_a_named_device(call, tables, accuracy, authors) -> None:
    code, out, _ = call("compare", *words(tables, accuracy), "--authors", "Note 8")
    assert code == 0
    assert "authors' net for note8, 1 ms" in out
    code, _, err = call("compare", *words(tables, accuracy), "--authors", "nokia")
    assert code == 1
    assert "the hub has no nets for nokia; it has nets for note8, pixel2" in err


def test_without_the_hub_the_rest_is_compared(call, tables, accuracy, authors, mirror) -> None:
    (mirror.folder / "pixel2-0" / "net.config").unlink()
    code, out, err = call("compare", *words(tables, accuracy))
    assert code == 0
    assert "authors" not in out
    assert "warning: the nets of the authors are left out: cannot download" in err


def test_a_latency_that_a_table_lacks_is_estimated_or_unknown(call, tables, accuracy, authors, tmp_path, small) -> None:
    slow = LatencyTable.read(tables[0])
    some = {key: e for i, (key, e) in enumerate(slow.entries.items()) if key[1].op != "mbconv" or i % 3}
    LatencyTable(slow.context, some).write(tables[0])
    options = ("--space", "tiny", "--csv", tmp_path / "c.csv")
    code, out, err = call("compare", *words(tables, accuracy), *options, "--fill")
    assert code == 0, err
    assert {row["estimated"] for row in rows_of(tmp_path / "c.csv") if row["device"] == "slow"} >= {"1"}
    assert "ms~" in out
    code, _, err = call("compare", *words(tables, accuracy), *options)
    assert code == 1
    assert "add --fill to estimate them" in err


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((), "at least two devices"),
        (("--lut", "{0}", "--max-latency-ms", "1"), "at least two devices"),
        (("--lut", "{0}", "--lut", "{1}"), "one limit"),
        (("--lut", "{0}", *("--max-latency-ms", "1") * 2), "one limit"),
        (("--max-latency-ms", "1"), "one limit"),
    ],
)
def test_wrong_words_are_usage_errors(call, tables, given, reason) -> None:
    code, _, err = call("compare", *(word.format(*tables) for word in given))
    assert code == 2
    assert reason in " ".join(err.replace("│", " ").split())


def test_scores_and_lost_tables_are_refused(call, tables, tmp_path, authors) -> None:
    options = ("--accuracy", "proxy:macs", "--no-report", "--out", tmp_path / "found")
    assert call("--lut", tables[0], "--max-latency-ms", 0.6, *options)[0] == 0
    code, _, err = call("compare", tmp_path / "found", tmp_path / "found")
    assert (code, "needs a top-1 in percent" in err) == (1, True)
    code, _, err = call("compare", *words(tables, Path("proxy:macs")))
    assert (code, "needs a top-1 in percent" in err) == (1, True)
    record = tmp_path / "found" / "search.json"
    values = json.loads(record.read_text())
    values["accuracy"]["percent"] = True
    record.write_text(json.dumps(values))
    tables[0].unlink()
    code, _, err = call("compare", tmp_path / "found", tmp_path / "found")
    assert code == 1
    assert f"{tables[0]} is not there" in err


def test_equal_names_of_devices_get_their_places(call, tables, accuracy, authors, tmp_path) -> None:
    twin = LatencyTable.read(tables[1])
    LatencyTable(replace(twin.context, device="slow"), twin.entries).write(tables[1])
    _, out, _ = call("compare", *words(tables, accuracy))
    assert f"slow ({tables[0]}) (limit 0.6 ms)" in out
    assert f"slow ({tables[1]}) (limit 2.4 ms)" in out


def test_the_page_shows_all_and_downloads_the_csv(call, tables, accuracy, authors, tmp_path) -> None:
    files = ("--csv", tmp_path / "c.csv", "--html", tmp_path / "c.html")
    assert call("compare", *words(tables, accuracy), *files)[0] == 0
    with open_browser(tmp_path / "downloads") as browser:
        browser.get((tmp_path / "c.html").as_uri())
        assert browser.execute_script("return document.documentElement.dataset.ready") == "true"
        assert len(browser.find_elements("css selector", "svg[role=img]")) == 2
        assert len(browser.find_elements("css selector", "table.grid tr")) == 5
        browser.find_element("id", "get-csv").click()
        assert saved(browser, tmp_path / "downloads" / "comparison.csv") == (tmp_path / "c.csv").read_text()
