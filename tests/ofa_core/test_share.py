from __future__ import annotations

import hashlib
import json
import shutil
import warnings
import zipfile
from pathlib import Path

import pytest

from ofa_core.errors import FormatError
from ofa_core.hub import local_path
from ofa_core.measured_networks import Network, networks_path, write_networks
from ofa_core.share import RECORD, is_share, read_share, unpack_share, write_share
from ofa_core.spaces import tiny
from ofa_core.table import Context, Entry, LatencyTable

VERSIONS = {"ofa-latency": "0.1.0", "python": "3.11.2"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    space, path = tiny(), tmp_path / "luts" / "phone.csv"
    context = Context(device="phone", backend="tflite", backend_version="2.1", threads=4, statistic="mean@100.000us")
    LatencyTable(context, {(None, b): Entry(0.5 + 0.001 * i) for i, b in enumerate(space.all_blocks())}).write(path)
    arch = space.smallest()
    write_networks(networks_path(path), context, [Network(space, arch, "reference", 9, 3.0, 3.1)])
    return path


@pytest.fixture
def shared(table: Path, tmp_path: Path) -> Path:
    write_share(table, tmp_path / "phone.share.zip", "CC0-1.0", VERSIONS)
    return tmp_path / "phone.share.zip"


def test_a_shared_table_reads_back_with_its_networks_and_conditions(table, shared, tmp_path):
    record, _ = read_share(shared)
    assert record.licence == "CC0-1.0"
    assert record.versions == VERSIONS
    assert (record.context["device"], record.context["threads"]) == ("phone", 4)
    assert (record.n_blocks, record.n_networks) == (len(LatencyTable.read(table)), 1)
    back = unpack_share(shared, tmp_path / "back")
    assert back.read_bytes() == table.read_bytes()
    assert networks_path(back).read_bytes() == networks_path(table).read_bytes()


def test_equal_tables_give_equal_files(table, shared, tmp_path):
    write_share(table, tmp_path / "again.zip", "CC0-1.0", VERSIONS)
    assert (tmp_path / "again.zip").read_bytes() == shared.read_bytes()


def test_a_table_without_networks(table, tmp_path):
    networks_path(table).unlink()
    assert write_share(table, tmp_path / "a.zip", "CC0-1.0", VERSIONS).n_networks == 0
    back = unpack_share(tmp_path / "a.zip", tmp_path / "back")
    assert [p.name for p in back.parent.iterdir()] == ["phone.csv"]


def test_its_address_is_taken_wherever_a_table_is(shared, mirror, hub):
    hub([])
    mirror.add("t/phone.share.zip", shared.read_bytes())
    digest = hashlib.sha256(shared.read_bytes()).hexdigest()
    path = local_path(f"{mirror.address}t/phone.share.zip#sha256={digest}", ("table",))
    assert LatencyTable.read(path).context.device == "phone"
    assert networks_path(path).is_file()
    assert local_path(str(shared), ("table",)) == path  # the file itself, too


def with_member(shared: Path, out: Path, name: str, data: bytes) -> Path:
    """Copy a shared table with one member replaced or added."""
    with zipfile.ZipFile(shared) as source, zipfile.ZipFile(out, "w") as copy:
        for member in source.namelist():
            if member != name:
                copy.writestr(member, source.read(member))
        copy.writestr(name, data)
    return out


def test_a_changed_member_is_refused(shared, tmp_path):
    changed = with_member(shared, tmp_path / "c.zip", "phone.csv", b"schema,x\n")
    with pytest.raises(FormatError, match=r"'phone\.csv' differs from its checksum"):
        unpack_share(changed, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", ["../evil.txt", "notes.txt", "phone.csv", RECORD])
def test_a_further_member_is_refused(shared, tmp_path, name):
    further = tmp_path / "f.zip"
    shutil.copy(shared, further)
    with zipfile.ZipFile(further, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a repeated name
        archive.writestr(name, zipfile.ZipFile(shared).read(name) if name in archive.namelist() else b"x")
    with pytest.raises(FormatError, match=r"only those that share\.json lists"):
        unpack_share(further, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"table": "../phone.csv"}, "a table and its networks are expected"),
        ({"table": "phone.exe", "sha256": {"phone.csv": "0"}}, "a table and its networks are expected"),
        ({"sha256": {}}, "a table and its networks are expected"),
        ({"sha256": {"phone.csv": "0", "../evil": "0"}}, "evil"),
        ({"schema": 2}, "schema 2"),
        ({"licence": None}, "licence is None"),
        ({"n_blocks": 0}, "n_blocks is 0"),
    ],
)
def test_a_record_that_does_not_fit_is_one_line(shared, tmp_path, change, reason):
    with zipfile.ZipFile(shared) as archive:
        record = json.loads(archive.read(RECORD))
    changed = with_member(shared, tmp_path / "c.zip", RECORD, json.dumps({**record, **change}).encode())
    with pytest.raises(FormatError, match=reason) as caught:
        unpack_share(changed, tmp_path / "back")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "back").exists()


def test_networks_that_were_measured_later_are_kept(shared, tmp_path):
    table = unpack_share(shared, tmp_path / "back")
    beside = networks_path(table)
    beside.write_text(beside.read_text() + "more\n")
    assert unpack_share(shared, tmp_path / "back") == table
    assert beside.read_text().endswith("more\n")
    table.write_text("damaged")
    unpack_share(shared, tmp_path / "back")
    assert not beside.read_text().endswith("more\n")


def test_a_truncated_shared_table_is_refused(shared, tmp_path):
    cut = tmp_path / "cut.zip"
    cut.write_bytes(shared.read_bytes()[:-30])
    assert not is_share(cut)
    assert not is_share(tmp_path)
    assert not is_share(tmp_path / "nothing")
    with pytest.raises(FormatError, match=str(cut)):
        read_share(cut)


def test_a_file_that_unpacks_to_too_much_is_refused(shared, tmp_path, monkeypatch):
    monkeypatch.setattr("ofa_core.share.MAX_BYTES", 100)
    with pytest.raises(FormatError, match="at most 100 are accepted"):
        read_share(shared)
