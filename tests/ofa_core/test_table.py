"""The latency table and its CSV form, line by line of docs/formats.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.blocks import BlockSpec
from ofa_core.errors import ContextMismatchError, FormatError, MissingBlockError, TableError
from ofa_core.genomes import decode, sample_genomes
from ofa_core.space import Space
from ofa_core.spaces import mobilenet_v3, tiny
from ofa_core.table import COLUMNS, Context, Entry, Key, LatencyTable

HEADER = (
    "schema,device,backend,backend_version,threads,cpus,dtype,batch_size,graph_form,statistic,clock,resolution_px,"
    "op,in_px,out_px,in_c,mid_c,out_c,kernel_px,stride,act,se,shortcut,"
    "latency_ms,median_ms,p25_ms,p90_ms,iqr_ms,n_samples,n_processes,status"
)


def table_of(space: Space, resolutions: tuple[int, ...], seed: int = 0) -> LatencyTable:
    rng = np.random.default_rng(seed)
    blocks = space.all_blocks(resolutions)
    return LatencyTable(Context(device="synthetic"), {(None, b): Entry(float(rng.lognormal())) for b in blocks})


@pytest.fixture
def table() -> LatencyTable:
    return table_of(tiny(), (24, 28))


def rewritten(table: LatencyTable, path: Path, **changes: Any) -> Path:
    """The table's CSV with fields of its second row changed."""
    lines = [line.split(",") for line in table.to_csv().splitlines()]
    for name, value in changes.items():
        lines[2][COLUMNS.index(name)] = str(value)
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")
    return path


# ---- the CSV form ----------------------------------------------------------------------------------------------------


def test_the_columns_are_those_of_the_contract(table: LatencyTable) -> None:
    assert ",".join(COLUMNS) == HEADER
    assert table.to_csv().splitlines()[0] == f"{HEADER},delegate"


def test_later_columns_stand_at_the_end_and_only_where_they_are_known(table: LatencyTable) -> None:
    key = next(iter(table.entries))
    more = table.with_entries({key: replace(table.entries[key], energy_mj=1.5)})
    assert more.to_csv().splitlines()[0] == f"{HEADER},energy_mj,delegate"
    assert more.to_csv().splitlines()[2].endswith(",ok,,")


numbers = st.one_of(st.none(), st.floats(0, 1e12, allow_nan=False))


@given(
    st.lists(
        st.builds(
            Entry,
            st.floats(0, 1e12),
            numbers,
            numbers,
            numbers,
            numbers,
            st.integers(0, 10**12),
            st.integers(0, 99),
            st.sampled_from(["ok", "unstable", "filled"]),
            numbers,
            numbers,
        ),
        min_size=1,
        max_size=6,
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20),
    st.booleans(),
)
def test_numbers_and_names_survive_the_file_exactly(entries: list[Entry], device: str, per_px: bool) -> None:
    import tempfile

    keys: list[Key] = [(24 if per_px else None, block) for block in tiny().all_blocks([24])]
    table = LatencyTable(Context(device=device, threads=2, cpus="4-7"), dict(zip(keys, entries, strict=False)))
    with tempfile.TemporaryDirectory() as folder:
        table.write(Path(folder) / "t.csv")
        again = LatencyTable.read(Path(folder) / "t.csv")
    assert again.context == table.context
    assert again.entries == table.entries
    assert again.to_csv() == table.to_csv()


def test_a_failed_row_has_no_numbers_and_counts_as_unmeasured(table: LatencyTable, tmp_path: Path) -> None:
    key = next(iter(table.entries))
    failed = table.with_entries({key: Entry(None, status="failed")})
    failed.write(tmp_path / "t.csv")
    again = LatencyTable.read(tmp_path / "t.csv")
    assert again.entries[key] == Entry(None, status="failed")
    assert again.find(key[1]) is None
    assert again.n_failed == 1
    assert again.missing(tiny(), [24]) == [(24, key[1])]
    assert again.resolutions(tiny()) == (28,)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"schema": 2}, FormatError, "line 3: schema '2'; this version reads schema 1"),
        ({"threads": 2}, ContextMismatchError, "line 3: another context: threads 1 != 2"),
        ({"device": "x" * 300}, FormatError, "at most 200 printable characters"),
        ({"in_px": -1}, FormatError, "line 3: in_px is '-1'; a whole number >= 0"),
        ({"in_px": "9" * 5000}, FormatError, "in_px is '9999"),
        ({"op": "conv9"}, FormatError, "unknown op 'conv9'"),
        ({"se": 2}, FormatError, "se is '2'; 0 or 1"),
        ({"latency_ms": -1.0}, TableError, "latency_ms is '-1.0'; a number from 0 to 1e"),
        ({"latency_ms": "nan"}, TableError, "latency_ms is 'nan'; a number from 0 to 1e"),
        ({"latency_ms": "1e999"}, TableError, "a number from 0 to 1e"),
        ({"latency_ms": "fast"}, FormatError, "latency_ms is 'fast'; a number"),
        ({"latency_ms": ""}, FormatError, "latency_ms is empty, but status is 'ok'"),
        ({"status": "fine"}, FormatError, "status is 'fine'; one of ok"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(
    table: LatencyTable, tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        LatencyTable.read(rewritten(table, tmp_path / "t.csv", **changes))


def test_files_that_are_none(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = table.to_csv().splitlines()
    for text, message in (
        ("", "no column schema"),
        (HEADER + "\n", "no rows"),
        ("a,b\n1,2\n", "no column schema, device, backend, backend_version; has 'a, b'"),
        ("\n".join([lines[0], lines[1] + ",1"]), "line 2: 33 fields where the header has 32"),
        ("\n".join([lines[0] + ",op", lines[1] + ",x"]), "a column name stands twice"),
        ("\n".join([lines[0], lines[1], lines[1]]), "line 3: a second row for first_conv"),
    ):
        path.write_text(text)
        with pytest.raises((FormatError, TableError), match=message):
            LatencyTable.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="not a text file"):
        LatencyTable.read(path)
    with pytest.raises(FormatError, match="No such file"):
        LatencyTable.read(tmp_path / "nothing.csv")


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_table_holds_finite_latencies_only(value: float) -> None:
    with pytest.raises(TableError, match="a number from 0 to 1e"):
        LatencyTable(Context(), {(None, tiny().all_blocks([24])[0]): Entry(value)})


# ---- look-up ---------------------------------------------------------------------------------------------------------


def test_a_net_looks_up_its_own_resolution_first() -> None:
    block = next(b for b in tiny().all_blocks([24]) if b.op == "classifier")
    table = LatencyTable(Context(), {(None, block): Entry(1.0), (24, block): Entry(2.0), (28, block): Entry(3.0)})
    assert [table.latency_ms(block, px) for px in (None, 24, 28, 32)] == [1.0, 2.0, 3.0, 1.0]
    failed = table.with_entries({(24, block): Entry(None, status="failed")})
    assert failed.latency_ms(block, 24) == 1.0


def test_a_missing_block_is_named_with_its_nearest(table: LatencyTable) -> None:
    block = BlockSpec("mbconv", 12, 6, 8, 24, 16, 7, 2, "relu", False, False)
    message = r"no latency for mbconv 12x12 8->24->16 k7 s2 relu at 24 px; its nearest: mbconv 12x12 8->24->16 k5 s2"
    with pytest.raises(MissingBlockError, match=message):
        table.latency_ms(block, 24)
    empty = LatencyTable(Context(), {})
    with pytest.raises(MissingBlockError, match="and no mbconv at all"):
        empty.latency_ms(block)


def test_w10_keys_asked_of_a_w12_table_get_one_clear_line() -> None:
    table = table_of(mobilenet_v3(1.2), (160,))
    space = mobilenet_v3(1.0)
    with pytest.raises(MissingBlockError, match="first_conv 160x160 3->16 at 160 px") as caught:
        table.sum_ms(space, [space.largest(160)])
    assert "\n" not in str(caught.value)
    assert "nearest: first_conv 160x160 3->24" in str(caught.value)
    with pytest.raises(MissingBlockError, match=r"and \d+ more"):
        table.dense(space, [160])


def test_the_sum_is_the_sum_of_the_walk(table: LatencyTable) -> None:
    archs = decode(tiny(), sample_genomes(tiny(), 50, np.random.default_rng(0), (24, 28)))
    expected = [sum(table.latency_ms(b, a.resolution_px) for b in tiny().blocks(a)) for a in archs]
    assert table.sum_ms(tiny(), archs) == pytest.approx(expected, rel=1e-14)
    assert table.sum_ms(tiny(), []).shape == (0,)


def test_a_table_knows_its_spaces_and_resolutions(table: LatencyTable) -> None:
    assert table.spaces() == (tiny(),)
    assert table.resolutions(tiny()) == (24, 28)
    assert table.resolutions(mobilenet_v3()) == ()
    assert repr(table) == f"<LatencyTable synthetic unknown {len(table)} blocks>"


def test_tables_are_values(table: LatencyTable) -> None:
    block = tiny().all_blocks([24])[0]
    more = table.with_entries({(None, block): Entry(9.0)})
    assert more.latency_ms(block) == 9.0
    assert table.latency_ms(block) != 9.0


def test_contexts_name_their_differences() -> None:
    assert Context().differences(Context(batch_size=8, dtype="int8")) == [
        "dtype 'float32' != 'int8'",
        "batch_size 1 != 8",
    ]


# ---- numbers and contexts that are none ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1e308", "1e13", "inf", "nan", "-1"])
@pytest.mark.parametrize("column", ["latency_ms", "median_ms", "iqr_ms"])
def test_numbers_whose_sums_overflow_are_refused(table: LatencyTable, tmp_path: Path, column: str, value: str) -> None:
    with pytest.raises(TableError, match=rf"line 3: {column} is '{value}'; a number from 0 to 1e\+12"):
        LatencyTable.read(rewritten(table, tmp_path / "t.csv", **{column: value}))
    with pytest.raises(TableError, match=r"a number from 0 to 1e\+12"):
        LatencyTable(Context(), {(None, tiny().all_blocks()[0]): Entry(float(value))})


@pytest.mark.parametrize(
    ("column", "value"), [("threads", "0"), ("batch_size", "0"), ("cpus", "x"), ("cpus", "4-"), ("cpus", "0x3")]
)
def test_a_context_that_nothing_can_be_measured_in_is_refused(
    table: LatencyTable, tmp_path: Path, column: str, value: str
) -> None:
    with pytest.raises(FormatError, match=rf"line 3: {column} is '?{value}'?; .* expected"):
        LatencyTable.read(rewritten(table, tmp_path / "t.csv", **{column: value}))
