"""The report in a real browser: choose a network by click, keyboard and limit, download, dark mode, narrow screens."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.arch_json import arch_from_dict, arch_to_dict
from ofa_core.genomes import decode, sample_genomes
from ofa_core.measured_networks import Network, write_networks
from ofa_core.search.report import write_page, write_report
from ofa_core.search.result_folder import Sources, record_of, write_folder
from ofa_core.search.result_schema import (
    AccuracyRecord,
    CalibrationRecord,
    DeviceRecord,
    DeviceRow,
    LatencyRecord,
    MeasuredRecord,
)
from ofa_core.search.run import most_accurate, search
from ofa_core.search.saved import read_folder
from ofa_core.search.steps import with_front
from ofa_core.space import Space
from ofa_core.table import Context

sys.path.insert(0, str(Path(__file__).parents[2]))
from browser import open_browser, saved

LIMIT_MS = 0.04
MAX_BYTES = 1_500_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small: Space, stand_ins: Any) -> Path:
    """A search folder with a front, layers, and networks measured for the table."""
    path = tmp_path_factory.mktemp("report") / "found"
    context = Context(device="a <b>bold</b> phone", backend="onnxruntime", backend_version="1.0", statistic="median")
    latency = stand_ins.latency(small, small.resolutions)
    result = with_front(search(most_accurate(small, latency, stand_ins.accuracy(small), LIMIT_MS)))
    calibration = CalibrationRecord(
        scale=1.0, per_block_ms=0.0, per_mparam_ms=0.0, n_networks=20, raw_bias=0.0, loo_mape=0.01, spearman=0.99,
        loo_errors=(0.01,) * 20, margin_90=1.02,
    )  # fmt: skip
    sources = Sources(
        latency=LatencyRecord(
            lut="made-up.csv", label="made up", note="made up", calibrated=True, n_filled=0, context=context,
            calibration=calibration, correction=None,
        ),
        accuracy=AccuracyRecord(source="proxy:macs", label="proxy", note="from MACs", percent=False),
    )  # fmt: skip
    write_folder(path, result, record_of(result, sources), block_ms=lambda block, px: stand_ins.block_ms(block))
    archs = decode(small, sample_genomes(small, 20, np.random.default_rng(3)))
    sums = latency.predict(archs)
    networks = [
        Network(small, arch, role, len(small.blocks(arch)), float(ms), float(ms) * 1.01)
        for arch, ms, role in zip(archs, sums, ["reference"] * 12 + ["verify"] * 8, strict=True)
    ]
    write_networks(path / "networks.csv", context, networks)
    write_report(path, path / "report.html")
    return path


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Any]:
    with open_browser(folder / "downloads") as browser:
        yield browser


@pytest.fixture
def page(browser: Any, folder: Path) -> Any:
    """The report, just opened."""
    browser.get((folder / "report.html").as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready") == "true"
    return browser


@pytest.fixture(scope="module")
def fleet(folder: Path, small: Space, stand_ins: Any) -> Path:
    """The report of the same search with a second device, which was measured, and a third one without a limit."""
    data = read_folder(folder)
    networks = [net.arch for net in (*data.front.networks, *data.candidates)]
    rows, records = {}, []
    for name, factor, limit_ms in (("board", 3.0, 0.11), ("=board int8", 0.5, None)):
        context = replace(data.record.latency.context, dtype="int8" if limit_ms is None else "float32")
        latency = replace(data.record.latency, context=context, lut=f"{name}.csv")
        measured = MeasuredRecord(latency_ms=0.115, low_ms=0.11, high_ms=0.12, n_rounds=1, n_networks=5, converged=True)
        records.append(
            DeviceRecord(
                name=name, quantity=f"latency_ms:{name}", limit_ms=limit_ms, latency=latency,
                measured=None if limit_ms is None else measured,
            )
        )  # fmt: skip
        for arch in networks:
            layers = [factor * stand_ins.block_ms(block) for block in small.blocks(arch)]
            rows[name, str(arch)] = DeviceRow(
                device=name, arch=arch_to_dict(arch, small), latency_ms=sum(layers), low_ms=0.9 * sum(layers),
                high_ms=1.1 * sum(layers), blocks_ms=layers,
            )  # fmt: skip
    path = folder / "fleet.html"
    write_page(replace(data, record=replace(data.record, devices=records), device_rows=rows), path)
    return path


def click(page: Any, selector: str) -> None:
    found = page.find_element("css selector", selector)
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    found.click()


def text(page: Any, selector: str) -> str:
    return str(page.find_element("css selector", selector).text)


def test_the_page_is_small_and_quick(page: Any, folder: Path) -> None:
    assert (folder / "report.html").stat().st_size < MAX_BYTES
    entry = page.execute_script("return performance.getEntriesByType('navigation')[0].toJSON()")
    print(f"interactive after {entry['domInteractive']:.0f} ms, loaded after {entry['loadEventEnd']:.0f} ms")
    assert "<b>bold</b>" in text(page, "h1"), "names are text"


def test_a_click_on_the_front_shows_that_network(page: Any, folder: Path) -> None:
    first = read_folder(folder).front.networks[0]
    assert text(page, "#chosen h3") == "Winner"
    point = page.find_element("css selector", '#front .point[data-key="0"]')
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    from selenium.webdriver import ActionChains

    ActionChains(page).move_to_element(point).click().perform()
    assert text(page, "#chosen h3").startswith("Front, 1 of")
    assert text(page, "#chosen code") == first.network
    assert len(page.find_elements("css selector", ".block:not(.unused)")) == sum(first.arch.depths)
    bars = page.find_elements("css selector", "#layers .bar")
    assert len(bars) == len(first.blocks_ms)
    total = f"{sum(first.blocks_ms):.4g}"[:5]
    assert text(page, "#layers-text").startswith(total[:4])
    click(page, "#winner")
    assert text(page, "#chosen h3") == "Winner"


def test_the_slider_answers_another_limit(page: Any, folder: Path) -> None:
    slider = page.find_element("css selector", "#limit")
    front = read_folder(folder).front.networks
    page.execute_script("arguments[0].value = 0; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert text(page, "#chosen code") == front[0].network
    page.execute_script("arguments[0].value = 1000; arguments[0].dispatchEvent(new Event('input'))", slider)
    best = max(front, key=lambda net: net.top1)
    assert f"{best.top1:.4g}"[:4] in text(page, "#chosen .chosen-values")
    drawn = page.find_element("css selector", "#front .chart > svg")
    assert "what if" in page.execute_script("return arguments[0].textContent", drawn)


def test_arrow_keys_and_enter_choose_too(page: Any, folder: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    plot = page.find_element("css selector", "#front .chart > svg")
    page.execute_script("arguments[0].focus()", plot)
    plot.send_keys(Keys.ARROW_RIGHT)
    assert "Front, 1 of" in text(page, "#front .tip")
    plot.send_keys(Keys.ENTER)
    assert text(page, "#chosen code") == read_folder(folder).front.networks[0].network


def test_layers_by_macs_and_memory(page: Any, small: Space, folder: Path) -> None:
    saved_folder = read_folder(folder)
    click(page, '[data-mode="macs"]')
    macs = sum(layer.macs for layer in saved_folder.layers) / 1e6
    assert text(page, "#layers-text").startswith(f"{macs:.4g}"[:4])
    click(page, '[data-mode="memory"]')
    largest = max(4 * block.activation_elements for block in small.blocks(saved_folder.best.arch)) / 1e6
    assert f"Largest: {largest:.4g}"[:12] in text(page, "#layers-text")


def test_what_is_shown_can_be_downloaded(page: Any, folder: Path, small: Space) -> None:
    data = read_folder(folder)
    downloads = folder / "downloads"
    click(page, "#get-arch")
    values = json.loads(saved(page, downloads / "arch.json"))
    assert values == json.loads((folder / "arch.json").read_text())
    assert arch_from_dict(values, small) == data.best.arch
    click(page, "#get-front")
    rows = list(csv.DictReader(io.StringIO(saved(page, downloads / "networks.csv"))))
    assert [float(row["latency_ms"]) for row in rows if row["role"] == "front"] == list(data.front.latency_ms)
    click(page, "#get-layers")
    layers = list(csv.DictReader(io.StringIO(saved(page, downloads / "layers.csv"))))
    assert [int(row["macs"]) for row in layers] == [layer.macs for layer in data.layers]
    assert [float(row["latency_ms"]) for row in layers] == pytest.approx(
        [layer.latency_ms for layer in data.layers], 1e-5
    )
    click(page, "#get-measured")
    measured = list(csv.DictReader(io.StringIO(saved(page, downloads / "measured.csv"))))
    assert [float(row["measured_ms"]) for row in measured] == [net.latency_ms for net in data.networks]


def test_several_devices_side_by_side(browser: Any, fleet: Path, folder: Path, small: Space, stand_ins: Any) -> None:
    browser.get(fleet.as_uri())
    best = read_folder(folder).best
    board = 3 * sum(stand_ins.block_ms(block) for block in small.blocks(best.arch))
    first, second, third = [row.text for row in browser.find_elements("css selector", "#on-devices tr:not(.head)")]
    assert f"{best.predicted_ms:.6f}"[:6] in first
    assert f"{board:.4f} ({0.9 * board:.4f} to {1.1 * board:.4f})"[:6] in second
    assert "0.1150 (0.1100 to 0.1200) 0.11 -0.0050 (-4.5 %)" in second, "measured above its limit"
    assert browser.find_elements("css selector", "#on-devices td.over")[0].text == "-0.0050 (-4.5 %)"
    assert "int8" in third
    sums = [float(row.text.split()[-1]) for row in browser.find_elements("css selector", "#by-stage tr:not(.head)")]
    assert sums == pytest.approx([board / 3, board, board / 6], rel=1e-3)
    click(browser, "#get-devices")
    rows = list(csv.DictReader(io.StringIO(saved(browser, folder / "downloads" / "devices.csv"))))
    assert {row["device"] for row in rows} == {"made-up", "board", "'=board int8"}, "no cell is a formula"
    (winner,) = [row for row in rows if (row["role"], row["device"]) == ("winner", "board")]
    assert (float(winner["measured_ms"]), float(winner["limit_ms"])) == (0.115, 0.11)
    stages = [float(value) for name, value in winner.items() if name.startswith(("first_", "stage", "last_"))]
    assert sum(stages) == pytest.approx(float(winner["predicted_ms"]), rel=1e-3)


def test_another_device_on_the_axis(browser: Any, fleet: Path, folder: Path) -> None:
    from selenium.webdriver.support.select import Select

    browser.get(fleet.as_uri())
    axis = Select(browser.find_element("css selector", "#axis"))
    assert len(axis.options) == 4, "three devices, and all of them"
    axis.select_by_value("latency_ms:board")
    assert text(browser, "#limit-said") == "0.11 ms per batch"
    assert "on board, not calibrated" in text(browser, "#layers-text")
    slider = browser.find_element("css selector", "#limit")
    browser.execute_script("arguments[0].value = 0; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert text(browser, "#chosen code") == read_folder(folder).front.networks[0].network
    axis.select_by_value("all")
    assert not slider.is_displayed()
    assert len(browser.find_elements("css selector", "#front circle.chosen")) == 3
    metrics = {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_and_light(page: Any) -> None:
    def paper() -> str:
        return str(page.execute_script("return getComputedStyle(document.body).backgroundColor"))

    light = paper()
    click(page, ".theme")
    assert (text(page, ".theme"), paper()) == ("Theme: light", light)
    click(page, ".theme")
    assert text(page, ".theme") == "Theme: dark"
    assert paper() != light
    click(page, ".theme")
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    assert (text(page, ".theme"), paper() != light) == ("Theme: system", True)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("width", [400, 1300])
def test_nothing_is_wider_than_the_screen(page: Any, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_prints_on_paper_in_ink(page: Any) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.find_element("css selector", "#get-arch").is_displayed()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(page.execute_cdp_cmd("Page.printToPDF", {})["data"]) > 10_000
