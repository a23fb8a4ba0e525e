"""A search on several devices, and `--beside`: what the folder and the report have of each device."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ofa_core.search.cli import main
from ofa_core.search.page_data import page_data
from ofa_core.search.saved import read_folder
from ofa_core.space import Space
from ofa_core.table import Context, Entry, LatencyTable

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def tables(tmp_path: Path, small: Space, stand_ins: Any) -> dict[str, Path]:
    """A phone, a board that takes thrice as long, and the phone in int8, whose table lacks a resolution."""
    found = {}
    for name, factor, dtype in (("phone", 1.0, "float32"), ("board", 3.0, "float32"), ("phone-int8", 0.5, "int8")):
        context = Context(device=name, backend="tflite", backend_version="2", statistic="median", dtype=dtype)
        pixels = small.resolutions[1:] if dtype == "int8" else small.resolutions
        entries = {(px, b): Entry(factor * stand_ins.block_ms(b)) for px in pixels for b in small.all_blocks((px,))}
        found[name] = tmp_path / f"{name}.csv"
        LatencyTable(context, entries).write(found[name])
    return found


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*argv: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ofa-search", *map(str, argv)])
        code = main()
        return code, capsys.readouterr().err

    return run


def networks(folder: Path) -> list[dict[str, Any]]:
    return list(page_data(read_folder(folder))["networks"])


def test_every_network_of_the_report_on_both_devices(
    tables: dict[str, Path], tmp_path: Path, small: Space, call: Call
) -> None:
    out = tmp_path / "out"
    limits = [f"--lut={tables['phone']}=0.05", f"--lut={tables['board']}=0.12"]
    code, err = call(*limits, "-a", "proxy:macs", "-o", out)
    assert code == 0, err
    saved = read_folder(out)
    front = [net.arch for net in saved.front.networks]
    for name in ("phone", "board"):
        sums = LatencyTable.read(tables[name]).sum_ms(small, front)
        rows = [saved.device_rows[name, str(arch)] for arch in front]
        assert [row.latency_ms for row in rows] == pytest.approx(list(sums))
        assert [sum(row.blocks_ms) for row in rows] == pytest.approx(list(sums), rel=1e-4)
    data = page_data(saved)
    assert [(d["name"], d["limit"]) for d in data["devices"]] == [("phone", 0.05), ("board", 0.12)]
    for net in data["networks"]:
        phone, board = net["on"]
        assert board["ms"] == pytest.approx(3 * phone["ms"])
        assert net["values"]["latency_ms:board"] == board["ms"]
    assert (out / "report.html").exists()
    before = (out / "report.html").read_text()
    assert call("report", out)[0] == 0
    assert (out / "report.html").read_text() == before, "the folder has all that the report shows"
    call("--lut", f"{tables['phone']}=0.05", "-a", "proxy:macs", "-o", out)
    assert not (out / "devices.json").exists(), "a search for one device in the same folder"


def test_the_best_network_of_each_device_is_in_the_report(
    tables: dict[str, Path], tmp_path: Path, small: Space, call: Call
) -> None:
    out = tmp_path / "out"
    limits = [f"--lut={tables['phone']}=0.05", f"--lut={tables['board']}=0.1"]
    code, err = call(*limits, "--per-device", "-a", "proxy:macs", "-o", out)
    assert code == 0, err
    titles = {net["title"]: net for net in networks(out)}
    assert titles["Winner: best for phone"]["on"][0]["ms"] <= 0.05
    assert titles["Best for board"]["on"][1]["ms"] <= 0.1


def test_a_table_beside_a_search_and_beside_its_folder_give_the_same_page(
    tables: dict[str, Path], tmp_path: Path, small: Space, call: Call
) -> None:
    search = ("--lut", tables["phone"], "--max-latency-ms", 0.05, "-a", "proxy:macs")
    code, err = call(*search, "--beside", tables["board"], "-o", tmp_path / "at_once")
    assert code == 0, err
    assert call(*search, "-o", tmp_path / "later")[0] == 0
    page = tmp_path / "page.html"
    code, err = call("report", tmp_path / "later", "--beside", tables["board"], "-o", page)
    assert code == 0, err
    assert not (tmp_path / "later" / "devices.json").exists(), "a report changes no other file"
    record = json.loads((tmp_path / "at_once" / "search.json").read_text())
    assert [(d["name"], d["limit_ms"]) for d in record["devices"]] == [("board", None)]
    shown = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    at_once = page_data(read_folder(tmp_path / "at_once"))
    assert shown["devices"] == at_once["devices"]
    assert [net["on"][1] for net in shown["networks"]] == [net["on"][1] for net in at_once["networks"]]


def test_networks_that_a_table_lacks_are_unknown_unless_it_is_filled(
    tables: dict[str, Path], tmp_path: Path, small: Space, call: Call
) -> None:
    out = tmp_path / "out"
    assert call("--lut", tables["phone"], "--pareto", 12, "-a", "proxy:macs", "-o", out)[0] == 0
    page = tmp_path / "page.html"
    lacking = [n for n in networks(out) if n["arch"]["r"] == [small.resolutions[0]]]
    assert lacking
    for words, n_unknown in (((), len(lacking)), (("--fill",), 0)):
        code, err = call("report", out, "--beside", tables["phone-int8"], *words, "-o", page)
        assert code == 0, err
        assert ("add --fill" in err) == (not words)
        shown = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
        assert sum(net["on"][1] is None for net in shown["networks"]) == n_unknown
        assert "latencies only" in page.read_text(), "no accuracy is predicted for int8"


@pytest.mark.parametrize("again", ["phone", "board"])
def test_two_devices_of_one_name(again: str, tables: dict[str, Path], tmp_path: Path, call: Call) -> None:
    beside = [word for name in ("board", again) for word in ("--beside", tables[name])]
    code, err = call("--lut", f"{tables['phone']}=0.05", *beside, "-a", "proxy:macs", "-o", tmp_path / "out")
    assert code == 2
    assert f"another file is named {again} too" in " ".join(err.replace("│", "").split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0]["blocks_ms"].pop(), "blocks_ms has"),
        (lambda rows: rows[0]["arch"].update(d=[9]), "devices.json: [0].arch"),
        (lambda rows: rows[0].update(latency_ms="fast"), "latency_ms"),
        (lambda rows: rows[0].pop("device"), "device"),
    ],
)
def test_a_damaged_file_of_devices(
    change: Callable[[Any], object], message: str, tables: dict[str, Path], tmp_path: Path, call: Call
) -> None:
    out = tmp_path / "out"
    words = ("--lut", f"{tables['phone']}=0.05", "--beside", tables["board"], "-a", "proxy:macs", "-o", out)
    assert call(*words, "--no-report")[0] == 0
    rows = json.loads((out / "devices.json").read_text())
    change(rows)
    (out / "devices.json").write_text(json.dumps(rows))
    code, err = call("report", out)
    assert code == 1
    assert message in err
    assert len(err.splitlines()) == 1
