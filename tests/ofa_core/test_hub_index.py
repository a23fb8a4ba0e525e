from __future__ import annotations

import csv
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ofa_core.download import git_blob_sha1
from ofa_core.errors import FormatError, OfaError
from ofa_core.hub_index import item_with, read_index
from ofa_core.spaces import SPACE_NAMES

ROOT = Path(__file__).parents[2]
FILE = {"name": "a.csv", "path": "x/a.csv", "git_blob_sha1": "0" * 40, "bytes": 3}
ITEM = {"name": "a", "kind": "table", "files": [FILE]}


def test_the_packaged_index_has_every_published_file_once():
    index = read_index()
    files = [file for item in index.items for file in item.files]
    assert len(files) == len({file.path for file in files}) == 171
    assert Counter(item.kind for item in index.items) == {"supernet": 3, "accuracy": 2, "table": 2, "net": 55}
    assert re.fullmatch(r"https://raw\.githubusercontent\.com/han-cai/files/[0-9a-f]{40}/", index.address)
    assert {item.space for item in index.items} - {None} <= set(SPACE_NAMES)


def test_the_fifty_specialised_nets_match_their_names():
    nets = [item for item in read_index().items if item.finetune_epochs is not None]
    devices = Counter(item.device for item in nets)
    assert devices == {
        "note10": 8, "pixel1": 7, "note8": 4, "pixel2": 4, "s7edge": 4, "lg-g8": 4, "1080ti": 4, "v100": 4, "tx2": 4,
        "cpu": 4, None: 3,
    }  # fmt: skip
    for item in nets:
        assert f"top1-{item.top1}" in item.name
        assert f"finetune-{item.finetune_epochs}" in item.name
        assert {file.name for file in item.files} == {"init", "net.config", "run.config"}
        assert item.preprocessing == "imagenet"
        if item.device is None:
            assert f"{item.mmacs:g}M" in item.name
        else:
            assert f"-{item.latency_ms:g}ms" in item.name
    assert {i.batch_size for i in nets if i.device in ("v100", "1080ti")} == {64}


def test_the_listing_of_the_repository_gives_the_packaged_index(reference_data, tmp_path):
    listing = reference_data / "hub_index.csv"
    with listing.open(newline="") as stream:
        rows = {row["path"]: (row["git_blob_sha1"], row["bytes"]) for row in csv.DictReader(stream)}
    files = [file for item in read_index().items for file in item.files]
    assert {f.path: (f.git_blob_sha1, str(f.bytes or "")) for f in files} == rows


def test_the_real_files_have_the_blob_ids_of_the_index(reference_data):
    by_path = {file.path: file for item in read_index().items for file in item.files}
    here = {"ofa/acc_predictor.pth": reference_data / "acc_predictor.pth"}
    for path in by_path:
        match = re.fullmatch(r"ofa/note10/(\d+_lookup_table\.yaml)", path)
        if match:
            here[path] = reference_data / "note10_lut" / match[1]
    assert len(here) == 6
    for path, file in here.items():
        assert git_blob_sha1(file) == by_path[path].git_blob_sha1, path
        assert file.stat().st_size == by_path[path].bytes
    assert item_with(here["ofa/acc_predictor.pth"]).name == "acc_predictor"


def test_a_blob_id_is_the_one_of_git(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 3_000_001)
    assert git_blob_sha1(path) == hashlib.sha1(b"blob 3000001\0" + b"x" * 3_000_001).hexdigest()
    assert git_blob_sha1(path) == subprocess.run(
        ["git", "hash-object", str(path)], capture_output=True, text=True, check=True
    ).stdout.strip()  # fmt: skip
    assert item_with(path) is None
    assert item_with(tmp_path / "nothing") is None


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(
        OfaError, match=r"hub:note10_lat-22 is not in the index; .* such as .*note10_lat-22ms_top1-76\.6"
    ):
        read_index().find("note10_lat-22")


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([{**ITEM, "kind": "weights"}], "kind is 'weights'"),
        ([{**ITEM, "files": []}], "a has no files"),
        ([ITEM, ITEM], "a occurs twice"),
        ([{**ITEM, "name": "../a"}], "'../a' is not a name"),
        ([{**ITEM, "files": [{**FILE, "name": "../../a"}]}], "'../../a' is not a name"),
        ([{**ITEM, "files": [{**FILE, "name": ".bashrc"}]}], "'.bashrc' is not a name"),
        ([{**ITEM, "files": [{**FILE, "path": "x/../../a"}]}], "leaves the address"),
        ([{**ITEM, "files": [{**FILE, "git_blob_sha1": "abc"}]}], "git_blob_sha1 of x/a.csv is 'abc'"),
        ([{**ITEM, "files": [{**FILE, "git_blob_sha1": "G" * 40}]}], "40 hexadecimal digits"),
        ([{"name": "a", "kind": "table"}], "files is missing"),
        ([{**ITEM, "files": [{**FILE, "bytes": -1}]}], "bytes is -1"),
    ],
)
def test_a_damaged_index_is_one_line(tmp_path, monkeypatch, items, reason):
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"schema": 1, "address": "http://127.0.0.1/", "items": items}))
    monkeypatch.setenv("OFA_HUB_INDEX", str(path))
    with pytest.raises(FormatError, match=re.escape(reason)) as caught:
        read_index()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 2, "address": "", "items": []}', "[" * 100_000])
def test_other_files_are_refused_as_an_index(tmp_path, monkeypatch, text):
    path = tmp_path / "index.json"
    path.write_text(text)
    monkeypatch.setenv("OFA_HUB_INDEX", str(path))
    with pytest.raises(FormatError, match=str(path)):
        read_index()


def test_the_tool_makes_the_packaged_file(reference_data, tmp_path):
    code = "import sys, runpy; from pathlib import Path; m = runpy.run_path(sys.argv[1]); m['main'].__globals__['OUT'] = Path(sys.argv[2]); m['main'](sys.argv[3], sys.argv[4])"  # noqa: E501
    out = tmp_path / "hub.json"
    commit = read_index().address.rstrip("/").rpartition("/")[2]
    tool = ROOT / "tools" / "make_hub_index.py"
    listing = reference_data / "hub_index.csv"
    subprocess.run([sys.executable, "-c", code, str(tool), str(out), str(listing), commit], check=True)
    assert out.read_bytes() == (ROOT / "ofa_core" / "data" / "hub.json").read_bytes()
