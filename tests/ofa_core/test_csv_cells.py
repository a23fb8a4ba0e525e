"""No cell that we write is a formula to a spreadsheet, and each is read as it was."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ofa_core.csv_fields import read_csv_rows, safe_cells
from ofa_core.genomes import decode, sample_genomes
from ofa_core.measured_networks import Network, read_networks, write_networks
from ofa_core.spaces import tiny
from ofa_core.table import Context, Entry, LatencyTable

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(1)"]


@pytest.mark.parametrize("text", [*FORMULAS, "'=x", "plain", "", "'quoted", "1=2"])
def test_a_cell_survives_the_round_trip(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["a", "b"])
        writer.writerow(safe_cells([text, "end"]))
    ((_, row),) = read_csv_rows(path, ["a"])
    assert row["a"] == text
    assert path.read_text().splitlines()[1].lstrip('"')[:1] not in ("=", "+", "-", "@")


def test_numbers_stay_as_they_are() -> None:
    assert safe_cells([-1, -1.5, None]) == [-1, -1.5, None]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_table_holds_a_formula(text: str, tmp_path: Path) -> None:
    context = Context(device=text, backend_version=text)
    (block, *_) = tiny().all_blocks([24])
    table = LatencyTable(context, {(None, block): Entry(1.0)})
    table.write(tmp_path / "t.csv")
    assert LatencyTable.read(tmp_path / "t.csv").context == context
    (arch,) = decode(tiny(), sample_genomes(tiny(), 1, np.random.default_rng(0)))
    net = Network(tiny(), arch, "reference", len(tiny().blocks(arch)), 1.5, 1.6, energy_mj=1.0, energy_source=text)
    write_networks(tmp_path / "t.networks.csv", context, [net])
    assert [n.energy_source for n in read_networks(tmp_path / "t.networks.csv", context)] == [text]
    for path in tmp_path.iterdir():
        with path.open(newline="") as stream:
            assert not [cell for row in csv.reader(stream) for cell in row if cell[:1] in ("=", "+", "-", "@")]
