from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ofa_core.download import cache_folder
from ofa_core.errors import OfaError
from ofa_core.hub import download_of, fetch_item, file_state, item_folder, local_path, space_name
from ofa_core.hub_index import read_index

RIGHT = b"right content " * 50


def made_up(mirror, broken=lambda n: "right"):
    """Serve a made-up file for each row of the real index, and return the index; `broken(n)`: right, wrong or cut."""
    items, n = [], 0
    for item in read_index().items:
        files = []
        for file in item.files:
            data = f"{file.path} ".encode() * (1 + n % 7)
            entry = {**mirror.add(file.path, data), "name": file.name}
            if file.bytes is None:
                entry["bytes"] = None
            served = {"right": data, "wrong": data[:-1] + b"X", "cut": data[: len(data) // 2]}[broken(n)]
            (mirror.folder / file.path).write_bytes(served)
            files.append(entry)
            n += 1
        items.append({"name": item.name, "kind": item.kind, "files": files})
    assert n == 171
    return items


def test_all_rows_of_the_index_are_downloaded_once_and_verified(mirror, hub):
    hub(made_up(mirror))
    for _ in range(2):
        for item in read_index().items:
            fetch_item(item)
            assert {file_state(item, file) for file in item.files} == {"right"}
    assert len(mirror.requests) == 171


def test_of_all_rows_only_files_with_the_right_content_are_kept(mirror, hub):
    kinds = ("right", "wrong", "cut")
    hub(made_up(mirror, lambda n: kinds[n % 3]))
    n = 0
    for item in read_index().items:
        for file in item.files:
            path = item_folder(item) / file.name
            if kinds[n % 3] == "right":
                fetch_item(item, [file])
                assert file_state(item, file) == "right"
            else:
                with pytest.raises(OfaError) as caught:
                    fetch_item(item, [file])
                assert download_of(file).addresses[0] in str(caught.value)
                assert file.git_blob_sha1 in str(caught.value)
                assert "\n" not in str(caught.value)
                assert not path.exists()
            n += 1
    assert n == 171


def test_verify_downloads_and_judges_all_rows(mirror, hub, capsys):
    from ofa_core.cli_app import run_app
    from ofa_core.train.cli import app

    kinds = ("right", "wrong", "cut")
    hub(made_up(mirror, lambda n: kinds[n % 3]))
    assert run_app(app, ["hub", "verify", "--download"], prog="ofa-train") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "57 right, 0 damaged, 0 missing, 114 failed"
    assert len(lines) == 172
    assert run_app(app, ["hub", "verify"], prog="ofa-train") == 0  # nothing wrong was kept
    assert capsys.readouterr().out.splitlines()[-1] == "57 right, 0 damaged, 114 missing, 0 failed"


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"X" + b[1:], lambda b: b""], ids=["cut", "other", "empty"]
)
def test_a_file_that_is_damaged_in_the_cache_is_downloaded_again(mirror, hub, damage):
    hub([{"name": "t", "kind": "table", "files": [mirror.add("t.csv", RIGHT)]}])
    path = local_path("hub:t", ("table",))
    path.write_bytes(damage(RIGHT))
    (item,) = read_index().items
    assert file_state(item, item.files[0]) == "damaged"
    assert local_path("hub:t", ("table",)).read_bytes() == RIGHT


def test_a_net_and_its_architecture(mirror, hub):
    files = [mirror.add(f"n/{name}", name.encode()) for name in ("init", "net.config", "run.config")]
    hub([{"name": "n", "kind": "net", "files": files}])
    folder = local_path("hub:n", ("arch",))
    assert sorted(p.name for p in folder.iterdir()) == ["net.config", "run.config"]
    assert local_path("hub:n", ("supernet", "net")) == folder
    assert sorted(p.name for p in folder.iterdir()) == ["init", "net.config", "run.config"]


def test_a_net_whose_input_size_only_the_index_holds(mirror, hub):
    files = [{**mirror.add("n.config", b"{}"), "name": "net.config"}, {**mirror.add("n.pth", b"w"), "name": "init"}]
    hub([{"name": "n", "kind": "net", "files": files, "resolution_px": 224}])
    assert json.loads((local_path("hub:n", ("arch",)) / "run.config").read_text()) == {"image_size": 224}


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        (("supernet", "net"), "hub:t is a latency table; a supernet or a specialised net is expected"),
        (("arch",), "hub:t is a latency table; a specialised net is expected"),
        (("accuracy",), "hub:t is a latency table; an accuracy predictor is expected"),
    ],
)
def test_another_kind_of_item_is_refused_before_it_is_downloaded(mirror, hub, kinds, reason):
    hub([{"name": "t", "kind": "table", "files": [mirror.add("t.csv", RIGHT)]}])
    with pytest.raises(OfaError, match=reason):
        local_path("hub:t", kinds)
    assert not mirror.requests


def test_a_space_is_named_by_its_supernet():
    assert space_name("hub:ofa_mbv3_d234_e346_k357_w1.2") == "mbv3-w1.2"
    assert space_name("mbv3-w1.0") == "mbv3-w1.0"
    with pytest.raises(OfaError, match="hub:proxyless_cpu does not name its search space"):
        space_name("hub:proxyless_cpu")


def test_paths_stay_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("hub:t").write_bytes(b"mine")
    for text in ("t.csv", "./hub:t", "-", "a/b.csv", "~x"):
        assert local_path(text, ("table",)) == Path(text)


def test_offline_the_address_and_the_place_are_named(tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    file = {"name": "t.csv", "path": "a/t.csv", "git_blob_sha1": "0" * 40, "bytes": 7}
    index = {"schema": 1, "address": address, "items": [{"name": "t", "kind": "table", "files": [file]}]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    monkeypatch.setenv("OFA_HUB_INDEX", str(tmp_path / "index.json"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(OfaError) as caught:
        local_path("hub:t", ("table",))
    for part in (f"{address}a/t.csv", "0" * 40, "7 bytes", str(tmp_path / "cache/ofa-latency/hub/t/t.csv")):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- addresses with a checksum ---------------------------------------------------------------------------------------


def test_any_server_with_a_checksum(mirror, hub):
    hub([])
    mirror.add("deep/table%20a.csv", RIGHT)
    digest = hashlib.sha256(RIGHT).hexdigest()
    path = local_path(f"{mirror.address}deep/table%2520a.csv#sha256={digest.upper()}", ("table",))
    assert path.read_bytes() == RIGHT
    assert path.suffix == ".csv"
    assert path.is_relative_to(cache_folder())


def test_a_wrong_checksum_is_one_line_and_keeps_nothing(mirror, hub):
    hub([])
    mirror.add("t.csv", RIGHT)
    with pytest.raises(OfaError, match=f"SHA-256 checksum is {hashlib.sha256(RIGHT).hexdigest()}") as caught:
        local_path(f"{mirror.address}t.csv#sha256={'0' * 64}", ("table",))
    assert "\n" not in str(caught.value)
    assert not [p for p in cache_folder().rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "end", ["", "#", "#sha256=", "#sha256=abc", "#md5=d41d8cd98f00b204e9800998ecf8427e", f"#{'0' * 64}"]
)
def test_without_a_checksum_nothing_is_requested(mirror, hub, end):
    hub([])
    mirror.add("t.csv", RIGHT)
    with pytest.raises(OfaError, match="no digest, so nothing is downloaded"):
        local_path(f"{mirror.address}t.csv{end}", ("table",))
    assert not mirror.requests


# ---- Hugging Face ----------------------------------------------------------------------------------------------------

FETCH = """
import sys
from ofa_core.errors import OfaError
from ofa_core.hub import local_path
try:
    print(local_path(sys.argv[1], ("supernet",)).read_bytes().decode()[:5])
except OfaError as error:
    print(error)
"""


def hugging_face(text: str, endpoint: str, home: Path) -> str:
    """Resolve an address in a process of its own, because the package reads its settings when it is imported."""
    env = {**os.environ, "HF_ENDPOINT": endpoint.rstrip("/"), "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FETCH, text], env=env, capture_output=True, text=True, timeout=100, check=True
    )
    return done.stdout.strip()


def test_hugging_face_files_are_checked(mirror, tmp_path):
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub, the extra [hub]")
    mirror.headers = {"ETag": '"abc"', "X-Repo-Commit": "c" * 40}
    mirror.add("me/nets/resolve/main/net.pt", RIGHT)
    digest = hashlib.sha256(RIGHT).hexdigest()
    assert hugging_face(f"hub:me/nets/net.pt#sha256={digest}", mirror.address, tmp_path / "hf") == "right"
    said = hugging_face(f"hub:me/nets/net.pt#sha256={'0' * 64}", mirror.address, tmp_path / "hf")
    assert "has another SHA-256 checksum" in said
    assert "\n" not in said
    said = hugging_face(f"hub:me/nets/other.pt#sha256={digest}", mirror.address, tmp_path / "hf")
    assert said.startswith("hub:me/nets/other.pt")
    assert "\n" not in said


def test_a_hugging_face_address_without_a_file_lists_files_with_their_checksums(mirror, tmp_path):
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub, the extra [hub]")
    large = {
        "type": "file",
        "path": "net.pt",
        "size": 9,
        "oid": "1" * 40,
        "lfs": {"oid": "a" * 64, "size": 9, "pointerSize": 1},
    }
    small = {"type": "file", "path": "README.md", "size": 2, "oid": "2" * 40}
    mirror.add("api/models/me/nets/tree/main", json.dumps([small, large]).encode())
    said = hugging_face("hub:me/nets", mirror.address, tmp_path / "hf")
    assert said == f"hub:me/nets: give a file and its digest: hub:me/nets/net.pt#sha256={'a' * 64}"


def test_not_a_hugging_face_address():
    with pytest.raises(OfaError, match="USER/REPOSITORY/FILE"):
        local_path("hub:me//x", ("supernet",))
