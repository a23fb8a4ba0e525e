"""Old names of backends in files are split into backend, dtype and delegate."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from ofa_core.backend_names import OLD_NAMES, backend_label, with_new_names
from ofa_core.context import Context
from ofa_core.errors import ContextMismatchError, FormatError
from ofa_core.jsonlines import LinesFile
from ofa_core.measured_networks import read_networks, write_networks
from ofa_core.table import Entry, LatencyTable
from ofa_core.table_csv import COLUMNS
from profiler.plan import PROBE

FILES = Path(__file__).parents[1] / "data" / "v0_1"


@pytest.mark.parametrize("old", sorted(OLD_NAMES))
def test_an_old_name_is_split_and_is_the_label(old: str) -> None:
    dtype = OLD_NAMES[old][1]
    context = Context(backend=old, dtype=dtype)
    assert (context.backend, context.dtype, context.delegate) == OLD_NAMES[old]
    assert context.runtime == old
    assert Context(**asdict(context)) == context


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch-cuda:1", ("torch", "float32", "cuda:1")),
        ("torch-cuda-fp16-nhwc:0", ("torch", "float16", "cuda-nhwc:0")),
        ("onnxruntime-cuda:1", ("onnxruntime", "float32", "cuda:1")),
        ("onnxruntime:1", ("onnxruntime:1", "float32", "")),  # only GPUs had numbers
        ("benchmark-model", ("benchmark-model", "float32", "")),
        ("another-runtime", ("another-runtime", "float32", "")),
    ],
)
def test_numbers_and_unknown_names(old: str, new: tuple[str, str, str]) -> None:
    found = with_new_names({"backend": old, "dtype": new[1]})
    assert (found["backend"], found["dtype"], found["delegate"]) == new
    assert backend_label(*new) == old


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("toy", "float32", ""), "toy"),
        (("toy", "float16", "npu"), "toy-fp16-npu"),
        (("toy", "int8", "npu:2"), "toy-int8-npu:2"),
    ],
)
def test_a_new_backend_has_a_label_too(names: tuple[str, str, str], label: str) -> None:
    assert backend_label(*names) == label


def test_a_dtype_that_contradicts_the_name_is_refused() -> None:
    with pytest.raises(FormatError, match="dtype is 'float32'; backend 'tflite-fp16' computes in float16"):
        Context(backend="tflite-fp16")
    assert Context(backend="onnxruntime", dtype="float16").dtype == "float16"  # a user's own file


def test_files_of_both_forms_pair(tmp_path: Path) -> None:
    context = Context(device="pi", backend="tflite", dtype="float16", delegate="xnnpack")
    table = LatencyTable(context, {(None, PROBE): Entry(1.0)})
    new, old = table.to_csv(), tmp_path / "old.csv"
    assert new.splitlines()[0].endswith(",delegate")
    assert LatencyTable.parse(new, "new.csv").context == context
    rows = [line.rsplit(",", 1)[0] for line in new.splitlines()]
    old.write_text("\n".join(row.replace(",tflite,", ",tflite-fp16,") for row in rows) + "\n")
    assert old.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert LatencyTable.read(old).context == context


def test_networks_of_version_0_1_are_those_of_a_new_context(tmp_path: Path) -> None:
    context = LatencyTable.read(FILES / "tiny.csv").context
    assert (context.backend, context.delegate) == ("onnxruntime", "cpu")
    networks = read_networks(FILES / "tiny.networks.csv", context)
    write_networks(tmp_path / "new.networks.csv", context, networks)
    assert read_networks(tmp_path / "new.networks.csv", context) == networks


def test_a_journal_of_version_0_1_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "tiny.journal.jsonl"
    path.write_bytes(gzip.decompress((FILES / "tiny.journal.jsonl.gz").read_bytes()))
    header = json.loads(path.read_text().partition("\n")[0])
    del header["schema"]
    new = {**header, "context": {**header["context"], "delegate": "cpu"}}
    with LinesFile(path, new) as file:
        assert file.resumed
    for delegate in ("cuda", "none"):
        other = {**header, "context": {**header["context"], "delegate": delegate}}
        with pytest.raises(ContextMismatchError, match="different context"):
            LinesFile(path, other)
