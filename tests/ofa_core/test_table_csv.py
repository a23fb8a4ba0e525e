"""The CSV form of a latency table, as docs/formats.md defines it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.errors import ContextMismatchError, FormatError, TableError
from ofa_core.space import Space
from ofa_core.spaces import tiny
from ofa_core.table import Context, Entry, Key, LatencyTable
from ofa_core.table_csv import COLUMNS

numbers = st.one_of(st.none(), st.floats(0, 1e12, allow_nan=False))
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


def test_the_columns_are_those_of_the_contract(table: LatencyTable) -> None:
    assert ",".join(COLUMNS) == HEADER
    assert table.to_csv().splitlines()[0] == f"{HEADER},delegate"


def test_later_columns_are_last_and_optional(table: LatencyTable) -> None:
    key = next(iter(table.entries))
    more = table.with_entries({key: replace(table.entries[key], energy_mj=1.5)})
    assert more.to_csv().splitlines()[0] == f"{HEADER},energy_mj,delegate"
    assert more.to_csv().splitlines()[2].endswith(",ok,,")


def test_the_instructions_for_int8_are_the_last_column_of_int8_tables_only(table: LatencyTable, tmp_path: Path) -> None:
    context = replace(table.context, dtype="int8", isa="avx2 avx512_vnni")
    path = tmp_path / "t.csv"
    LatencyTable(context, table.entries).write(path)
    lines = path.read_text().splitlines()
    assert lines[0] == f"{HEADER},delegate,isa"
    assert lines[1].endswith(",,avx2 avx512_vnni")
    assert LatencyTable.read(path).context == context


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
        ("\n".join([lines[0] + ",op", lines[1] + ",x"]), "a column name is repeated"),
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
