from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.errors import ContextMismatchError, OfaError
from ofa_core.genomes import decode, sample_arch, sample_genomes
from ofa_core.measured_networks import (
    NETWORK_COLUMNS,
    Network,
    calibration_of,
    networks_path,
    read_networks,
    spaces_of,
    write_networks,
)
from ofa_core.spaces import get_space, mobilenet_v3, tiny
from ofa_core.table import Context, Entry, LatencyTable

CONTEXT = Context(device="pi", backend="onnxruntime", threads=4)


def some_networks(n: int = 6) -> list[Network]:
    rng = np.random.default_rng(0)
    out = []
    for i in range(n):
        space = get_space(("tiny", "mbv3-w1.0", "proxyless-w1.3")[i % 3])
        arch = sample_arch(space, rng)
        a, b, c, d, e = (float(x) for x in rng.lognormal(size=5))
        role = ("reference", "verify")[i % 2]
        total = a if i != 2 else None
        out.append(Network(space, arch, role, len(space.blocks(arch)), total, b, c if i else None, d, e, 300, 3))
    return out


def rewritten(path: Path, **changes: str) -> Path:
    import csv

    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    for name, value in changes.items():
        rows[1][NETWORK_COLUMNS.index(name)] = value
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def test_the_columns_are_those_of_the_contract() -> None:
    assert ",".join(NETWORK_COLUMNS) == (
        "schema,device,backend,backend_version,threads,cpus,dtype,batch_size,graph_form,statistic,clock,"
        "space,ks,e,d,r,role,n_blocks,sum_ms,latency_ms,median_ms,p90_ms,iqr_ms,n_samples,n_processes"
    )


def test_the_file_lies_beside_its_table() -> None:
    assert networks_path(Path("luts/pi-onnxruntime.csv")) == Path("luts/pi-onnxruntime.networks.csv")


def test_networks_survive_the_file_exactly(tmp_path: Path) -> None:
    networks = some_networks()
    write_networks(tmp_path / "t.networks.csv", CONTEXT, networks)
    assert read_networks(tmp_path / "t.networks.csv") == networks
    assert read_networks(tmp_path / "t.networks.csv", CONTEXT) == networks


def test_the_resolution_may_be_a_number_or_a_list_of_one(tmp_path: Path) -> None:
    networks = [replace(some_networks(1)[0], arch=tiny().largest(28))]
    path = tmp_path / "t.networks.csv"
    for text in ("28", "[28]"):
        write_networks(path, CONTEXT, networks)
        assert read_networks(rewritten(path, r=text)) == networks


def test_another_context_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.networks.csv"
    write_networks(path, CONTEXT, some_networks())
    with pytest.raises(ContextMismatchError, match="line 2: another context: threads 1 != 4"):
        read_networks(path, replace(CONTEXT, threads=1))
    with pytest.raises(ContextMismatchError, match="line 3: another context: device 'phone' != 'pi'"):
        read_networks(rewritten(path, device="phone"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "2"}, "schema '2'; this version reads schema 1"),
        ({"role": "teacher"}, "role is 'teacher'; one of reference, verify"),
        ({"sum_ms": "0"}, "latency_ms must be a number > 0, and sum_ms one or empty"),
        ({"latency_ms": ""}, "latency_ms must be a number > 0, and sum_ms one or empty"),
        ({"latency_ms": "nan"}, "a number from 0 to 1e"),
        ({"space": "mbv9"}, "line 2: unknown space 'mbv9'"),
        ({"ks": "[3"}, "line 2: "),
        ({"ks": "1" * 5000}, "line 2: "),
        ({"ks": "[" * 5000}, "line 2: "),
        ({"d": "[9, 9]"}, r"line 2: d\[0\] is 9"),
        ({"n_samples": "-1"}, "n_samples is '-1'"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_networks(tmp_path / "t.networks.csv", CONTEXT, some_networks())
    with pytest.raises(OfaError, match=message) as caught:
        read_networks(rewritten(tmp_path / "t.networks.csv", **changes))
    assert "\n" not in str(caught.value)


def test_no_networks_are_a_file_too(tmp_path: Path) -> None:
    write_networks(tmp_path / "t.networks.csv", CONTEXT, [])
    assert read_networks(tmp_path / "t.networks.csv") == []


def test_spaces_of_other_widths_are_named_in_the_file(tmp_path: Path) -> None:
    space = mobilenet_v3(0.75)
    network = Network(space, space.smallest(), "verify", 16, 1.0, 1.0)
    write_networks(tmp_path / "t.networks.csv", CONTEXT, [network])
    assert read_networks(tmp_path / "t.networks.csv") == [network]


def test_a_calibration_takes_the_tables_sum_first_and_the_written_one_where_the_table_has_none() -> None:
    space = tiny()
    archs = decode(space, np.unique(sample_genomes(space, 40, np.random.default_rng(3)), axis=0))[:8]
    whole = LatencyTable(CONTEXT, {(None, block): Entry(0.01 + block.macs / 1e7) for block in space.all_blocks()})
    sums = whole.sum_ms(space, archs)

    def networks(total: float | None) -> list[Network]:
        return [
            Network(space, arch, "reference", len(space.blocks(arch)), total and total * s, 1.25 * s)
            for arch, s in zip(archs, sums, strict=True)
        ]

    empty = LatencyTable(CONTEXT, {})
    for found in (
        calibration_of(networks(7.0), whole, ()),  # what is written down is old: the table knows better
        calibration_of(networks(None), whole, ()),
        calibration_of(networks(1.0), empty, ()),
    ):
        assert found is not None
        assert (found.n_networks, found.scale) == (8, pytest.approx(1.25))
    assert calibration_of(networks(None), empty) is None
    # Measured again in another session, 4 % slower: still one network, and no measurement of it judges the other.
    again = [replace(net, latency_ms=1.04 * net.latency_ms) for net in networks(None)[:3]]
    found = calibration_of([*networks(None), *again], whole, ())
    assert found is not None
    assert found.n_networks == 8
    assert found.loo_errors[:3] == pytest.approx([found.loo_errors[0]] * 3)
    assert np.exp(found.loo_errors[0] - found.loo_errors[7]) == pytest.approx(1.04**0.5, rel=0.01)
    assert calibration_of([replace(net, role="verify") for net in networks(1.0)], whole) is None


def test_networks_give_the_space_of_a_table_that_covers_none() -> None:
    space = tiny()
    part = LatencyTable(CONTEXT, {(None, block): Entry(1.0) for block in space.all_blocks()[:5]})
    network = Network(space, space.largest(), "reference", 10, None, 1.0)
    assert spaces_of(part) == ()
    assert spaces_of(part, [network]) == (tiny(),)
    whole = LatencyTable(CONTEXT, {(None, block): Entry(1.0) for block in space.all_blocks()})
    assert spaces_of(whole, [replace(network, space=mobilenet_v3())]) == (tiny(),)
