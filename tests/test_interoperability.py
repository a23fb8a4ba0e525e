"""Files of this project in the programs of others: the authors' package, runtimes, and a graph viewer."""

from __future__ import annotations

import functools
import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from browser import open_browser

from ofa_core.formats.net_config import net_config_of, read_member, write_net_config
from ofa_core.formats.yaml_tables import read_table, write_ofa_yaml
from ofa_core.genomes import decode, sample_genomes
from ofa_core.space import Space
from ofa_core.spaces import get_space, tiny
from ofa_core.table import Context, Entry, LatencyTable

ROOT = Path(__file__).parents[1]
PX = (160, 224)


def made_up(space: Space) -> LatencyTable:
    """A table in which every block of a space has a latency of its own."""
    rng = np.random.default_rng(5)
    return LatencyTable(
        Context("made-up"), {(None, b): Entry(float(rng.uniform(0.1, 3))) for b in space.all_blocks(PX)}
    )


def archs_of(space: Space, n: int = 20) -> list[Any]:
    return decode(space, sample_genomes(space, n, np.random.default_rng(6), PX))


# ---- the authors' package --------------------------------------------------------------------------------------------


@pytest.fixture
def authors(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of `ofa` from the package index that read latency tables; it is older than PyYAML's required loader."""
    pytest.importorskip("torch", reason="ofa needs torch")
    if importlib.util.find_spec("ofa") is None:
        pytest.skip("ofa is not installed")
    spec = importlib.util.spec_from_file_location("published_code", ROOT / "benchmarks" / "published_code.py")
    assert spec is not None
    assert spec.loader is not None
    published_code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(published_code)
    with published_code.stubbed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ofa.nas.efficiency_predictor import latency_lookup_table
    monkeypatch.setattr(yaml, "load", functools.partial(yaml.load, Loader=yaml.SafeLoader))
    return latency_lookup_table


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("mbv3-w1.0", "MBv3LatencyTable"),
        ("mbv3-w1.2", "MBv3LatencyTable"),
        ("proxyless-w1.3", "ProxylessNASLatencyTable"),
    ],
)
def test_the_authors_package_reads_our_tables_and_gives_our_latencies(authors, tmp_path, name, reader) -> None:
    space = get_space(name)
    table = made_up(space)
    write_ofa_yaml(table, tmp_path, space, PX)
    theirs = {px: getattr(authors, reader)(url=str(tmp_path / f"{px}_lookup_table.yaml")) for px in PX}
    archs = archs_of(space)
    for arch, ours_ms in zip(archs, table.sum_ms(space, archs), strict=True):
        config = net_config_of(space, arch)
        px = arch.resolution_px
        assert theirs[px].predict_network_latency_given_config(config, px) == pytest.approx(ours_ms, rel=1e-9)


def test_the_authors_package_counts_our_macs(authors) -> None:
    space = get_space("mbv3-w1.2")
    for arch in archs_of(space, 5):
        ours = sum(block.macs for block in space.blocks(arch)) / 1e6
        theirs = authors.MBv3LatencyTable.count_flops_given_config(net_config_of(space, arch), arch.resolution_px)
        assert theirs == pytest.approx(ours, rel=0.001)


def test_published_tables_read_the_same_in_both(authors, reference_data) -> None:
    space = get_space("mbv3-w1.2")
    table = read_table(reference_data / "note10_lut")
    for px in (160, 224):
        theirs = authors.MBv3LatencyTable(url=str(reference_data / "note10_lut" / f"{px}_lookup_table.yaml"))
        archs = [arch.at(px) for arch in archs_of(space, 10)]
        ours = table.sum_ms(space, archs)
        for arch, ms in zip(archs, ours, strict=True):
            assert theirs.predict_network_latency_given_config(net_config_of(space, arch), px) == pytest.approx(ms)


# ---- a graph viewer --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sub-net as ONNX and as TFLite."""
    from ofa_core.export.onnx import arch_model, write_onnx

    pytest.importorskip("flatbuffers", reason="needs the extra [tflite]")
    from ofa_core.export.tflite import arch_tflite

    folder = tmp_path_factory.mktemp("exported")
    arch = tiny().largest()
    write_onnx(arch_model(tiny(), arch), folder / "net.onnx")
    (folder / "net.tflite").write_bytes(arch_tflite(tiny(), arch))
    return folder


@pytest.fixture
def viewer(mirror: Any, files: Path) -> str:
    """The address of Netron's page, without a version, because a released one reports its use to its makers."""
    netron = pytest.importorskip("netron", reason="needs netron")
    for file in (*Path(netron.__file__).parent.glob("*.*"), *files.iterdir()):
        (mirror.folder / file.name).symlink_to(file)
    page = (mirror.folder / "index.html").read_text()
    (mirror.folder / "index.html").unlink()
    (mirror.folder / "index.html").write_text(
        re.sub(r'name="version" content="[^"]*"', 'name="version" content="0.0.0"', page)
    )
    return str(mirror.address)


@pytest.mark.parametrize("name", ["net.onnx", "net.tflite"])
def test_a_graph_viewer_draws_every_convolution(viewer: str, tmp_path: Path, name: str) -> None:
    with open_browser(tmp_path) as browser:
        from selenium.webdriver.support.wait import WebDriverWait

        browser.get(f"{viewer}favicon.ico")
        browser.add_cookie({"name": "consent", "value": "1"})  # otherwise it asks a server where this machine is
        browser.get(f"{viewer}index.html?url={viewer}{name}")
        other = {"avg_pool": 0, "classifier": 0}  # the classifier is a matrix product
        n_convolutions = sum(
            2 + block.expands + 2 * block.se if block.op == "mbconv" else other.get(block.op, 1)
            for block in tiny().blocks(tiny().largest())
        )

        def n_drawn(browser: Any) -> int:
            nodes = browser.find_elements("css selector", ".node")
            return sum(node.get_attribute("textContent").startswith(("Conv", "DepthwiseConv2D")) for node in nodes)

        WebDriverWait(browser, 60).until(lambda b: n_drawn(b) >= n_convolutions)
        assert n_drawn(browser) == n_convolutions


def test_a_specialised_net_in_the_authors_form_reads_back(tmp_path: Path) -> None:
    space = get_space("proxyless-w1.3")
    for arch in archs_of(space, 5):
        write_net_config(tmp_path, space, arch)
        assert read_member(tmp_path) == (space, arch)
