"""`ofa-train hub`, and published names wherever files are taken, against a server on this machine."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from ofa_core.cli_app import run_app
from ofa_core.train.cli import app

TABLE = b"a latency table"


@pytest.fixture
def call(capsys):
    def run(*words: object) -> tuple[int, str, str]:
        code = run_app(app, ["hub", *map(str, words)], prog="ofa-train")
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def items(mirror):
    """Two items: a table of two files, and a net of one."""
    table = [mirror.add("t/160.yaml", TABLE), mirror.add("t/176.yaml", TABLE * 2)]
    net = [mirror.add("n/net.config", b"{}")]
    facts = {"device": "phone", "latency_ms": 12.5, "batch_size": 1, "top1": 71.5, "finetune_epochs": 25}
    return [{"name": "t", "kind": "table", "files": table}, {"name": "n", "kind": "net", **facts, "files": net}]


def test_the_list_is_tab_separated_where_no_terminal_is(call):
    code, out, err = call("list", "--device", "note10")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out), delimiter="\t"))
    assert len(rows) == 9
    row = next(r for r in rows if r["name"] == "note10_lat-22ms_top1-76.6_finetune-25")
    assert (row["kind"], row["device"], row["latency_ms"], row["batch"], row["top1"]) == (
        "net",
        "note10",
        "22",
        "1",
        "76.6",
    )
    assert [float(r["latency_ms"]) for r in rows if r["kind"] == "net"] == [8, 11, 16, 22, 30, 41, 50, 64]


def test_the_list_of_a_kind(call):
    _, out, _ = call("list", "--kind", "supernet")
    assert [line.split("\t")[7] for line in out.splitlines()[1:]] == ["mbv3-w1.0", "mbv3-w1.2", "proxyless-w1.3"]


@pytest.mark.parametrize(("option", "value", "known"), [("--device", "nokia", "note10"), ("--kind", "x", "supernet")])
def test_an_unknown_filter_is_a_usage_error(call, option, value, known):
    code, _, err = call("list", option, value)
    assert code == 2
    assert value in err
    assert known in err


def test_get_prints_the_paths_and_the_list_shows_what_is_cached(call, hub, items):
    hub(items)
    code, out, _ = call("get", "t", "hub:n")
    table, net = map(Path, out.split())
    assert code == 0
    assert (table / "160.yaml").read_bytes() == TABLE
    assert net.read_bytes() == b"{}"
    (net.unlink(), call("list"))
    _, out, _ = call("list")
    assert {row["name"]: row["cached"] for row in csv.DictReader(io.StringIO(out), delimiter="\t")} == {
        "t": "yes",
        "n": "",
    }


def test_verify_counts_right_damaged_and_missing_files(call, hub, items):
    hub(items)
    assert call("verify")[:2] == (0, "0 right, 0 damaged, 3 missing, 0 failed\n")
    folder = Path(call("get", "t")[1].strip())
    (folder / "176.yaml").write_bytes(TABLE)
    code, out, _ = call("verify")
    assert code == 1
    assert out.splitlines() == ["right    t/160.yaml", "damaged  t/176.yaml", "1 right, 1 damaged, 1 missing, 0 failed"]
    assert call("verify", "--download")[:2] == (
        0, "right    n/net.config\nright    t/160.yaml\nright    t/176.yaml\n3 right, 0 damaged, 0 missing, 0 failed\n"
    )  # fmt: skip


def test_verify_names_what_cannot_be_downloaded(call, hub, items):
    mirror = hub(items)
    (mirror.folder / "t/176.yaml").write_bytes(TABLE + b"X" * len(TABLE))
    (mirror.folder / "n/net.config").unlink()
    code, out, _ = call("verify", "--download")
    assert code == 1
    lines = out.splitlines()
    assert lines[0].startswith("failed   n/net.config: cannot download")
    assert lines[1] == "right    t/160.yaml"
    assert lines[2].startswith("failed   t/176.yaml: cannot download")
    assert "git blob id" in lines[2]
    assert lines[3] == "1 right, 0 damaged, 0 missing, 2 failed"


def test_verify_of_a_named_item_that_is_missing_fails(call, hub, items):
    hub(items)
    assert call("verify", "n")[:2] == (1, "missing  n/net.config\n0 right, 0 damaged, 1 missing, 0 failed\n")


def test_get_of_an_unknown_name_is_one_line(call, hub, items):
    hub(items)
    code, out, err = call("get", "m")
    assert (code, out) == (1, "")
    assert err.startswith("ofa-train: hub:m is not in the index")
    assert err.count("\n") == 1


# ---- names wherever files are taken ----------------------------------------------------------------------------------


def test_published_weights_need_neither_space_nor_preprocessing(mirror, hub, capsys, tmp_path):
    pytest.importorskip("torch", reason="needs torch")
    from ofa_core.arch_json import write_arch
    from ofa_core.formats.published_weights import write_published
    from ofa_core.nn.supernet import Supernet
    from ofa_core.spaces import tiny

    write_published(tmp_path / "w", Supernet(tiny(), seed=3))
    write_arch(tmp_path / "arch.json", tiny().smallest(), tiny())
    item = {"name": "ofa_tiny", "kind": "supernet", "space": "tiny", "preprocessing": "half"}
    hub([{**item, "files": [mirror.add("ofa_tiny", (tmp_path / "w").read_bytes())]}])

    def run(*words: object) -> tuple[int, str, str]:
        code = run_app(app, list(map(str, words)), prog="ofa-train")
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    code, out, err = run("evaluate", "hub:ofa_tiny", "--arch", tmp_path / "arch.json")
    assert code == 0, err
    # A copy that came by other means is recognised by its content.
    assert run("evaluate", tmp_path / "w", "--arch", tmp_path / "arch.json")[:2] == (0, out)
    given = ("--space", "tiny", "--preprocessing", "half")
    assert run("evaluate", tmp_path / "w", "--arch", tmp_path / "arch.json", *given)[:2] == (0, out)
    write_published(tmp_path / "other", Supernet(tiny(), seed=4))
    code, _, err = run("evaluate", tmp_path / "other", "--arch", tmp_path / "arch.json")
    assert code == 1
    assert "give --preprocessing" in err


def test_a_published_net_is_evaluated_and_exported_by_its_name(mirror, hub, capsys, tmp_path):
    pytest.importorskip("torch", reason="needs torch")
    from ofa_core.formats.net_config import write_net_config
    from ofa_core.formats.published_weights import write_published
    from ofa_core.nn.subnet import build_subnet
    from ofa_core.spaces import tiny

    arch = tiny().smallest()
    write_net_config(tmp_path / "net", tiny(), arch)
    write_published(tmp_path / "net/init", build_subnet(tiny(), arch).eval())
    names = ("net.config", "run.config", "init")
    files = [mirror.add(f"tiny_net/{name}", (tmp_path / "net" / name).read_bytes()) for name in names]
    hub([{"name": "tiny_net", "kind": "net", "preprocessing": "half", "files": files}])

    for source in ("hub:tiny_net", tmp_path / "net"):
        assert run_app(app, ["evaluate", str(source)], prog="ofa-train") == 0
        assert run_app(app, ["export", str(source), "--out", str(tmp_path / "n.onnx")], prog="ofa-train") == 0
        out, err = capsys.readouterr()
        assert out.splitlines()[0].split()[:2] == ["sub-net", "top-1"]
        assert out.splitlines()[-1] == str(tmp_path / "n.onnx"), err
        (tmp_path / "n.onnx").unlink()


def test_a_table_and_a_net_are_taken_by_their_names(mirror, hub, capsys, tmp_path):
    from ofa_core.formats.net_config import write_net_config
    from ofa_core.search.cli import app as search
    from ofa_core.spaces import tiny
    from ofa_core.table import Context, Entry, LatencyTable
    from predictors.cli import app as predict
    from profiler.cli import app as profile

    space = tiny()
    LatencyTable(Context(device="phone"), {(None, b): Entry(0.25) for b in space.all_blocks()}).write(
        tmp_path / "t.csv"
    )
    write_net_config(tmp_path / "net", space, space.smallest())
    files = [mirror.add(f"n/{name}", (tmp_path / "net" / name).read_bytes()) for name in ("net.config", "run.config")]
    table = {"name": "t", "kind": "table", "files": [mirror.add("t.csv", (tmp_path / "t.csv").read_bytes())]}
    hub([table, {"name": "n", "kind": "net", "files": files}])

    def run(program, *words: object) -> str:
        code = run_app(program, list(map(str, words)), prog="ofa")
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    answer = json.loads(run(predict, "hub:n", "--lut", "hub:t", "--json"))
    assert answer["predictions"][0]["latency_ms"] == 0.25 * len(space.blocks(space.smallest()))
    assert run(profile, "compare", "hub:t", tmp_path / "t.csv")
    run(profile, "convert", "hub:t", tmp_path / "yaml")
    out = tmp_path / "found"
    words = ("--max-latency-ms", 9, "--accuracy", "proxy:macs", "--no-report", "--out", out)
    run(search, "--lut", "hub:t", *words)
    assert (out / "arch.json").exists()


def test_a_shared_table_is_used_by_its_address(mirror, hub, capsys, tmp_path):
    import hashlib

    from ofa_core.spaces import tiny
    from ofa_core.table import Context, Entry, LatencyTable
    from predictors.cli import app as predict
    from profiler.cli import app as profile

    hub([])
    space, table = tiny(), tmp_path / "phone.csv"
    LatencyTable(Context(device="phone"), {(None, b): Entry(0.5) for b in space.all_blocks()}).write(table)
    assert run_app(profile, ["share", str(table), "--licence", "CC0-1.0"], prog="ofa-profile") == 0
    said = capsys.readouterr().out.splitlines()
    shared = tmp_path / "phone.share.zip"
    digest = hashlib.sha256(shared.read_bytes()).hexdigest()
    assert said[0] == f"{shared}: {len(LatencyTable.read(table))} blocks, 0 networks, CC0-1.0"
    assert said[1].endswith(f"--lut 'https://HOST/phone.share.zip#sha256={digest}'")

    mirror.add("phone.share.zip", shared.read_bytes())
    address = f"{mirror.address}phone.share.zip#sha256={digest}"
    assert run_app(app, ["hub", "get", address], prog="ofa-train") == 0
    assert Path(capsys.readouterr().out.strip()).read_bytes() == table.read_bytes()
    (tmp_path / "arch.json").write_text('{"space": "tiny", "ks": [3,3,3,3], "e": [3,3,3,3], "d": [1,1], "r": 24}')
    assert run_app(predict, [str(tmp_path / "arch.json"), "--lut", address, "--json"], prog="ofa-predict") == 0
    prediction = json.loads(capsys.readouterr().out)["predictions"][0]
    assert prediction["latency_ms"] == 0.5 * len(space.blocks(space.smallest(24)))


@pytest.mark.parametrize("licence", ["", " ", "two\nlines", "x" * 201])
def test_a_licence_is_one_line(capsys, tmp_path, licence):
    from profiler.cli import app as profile

    assert run_app(profile, ["share", str(tmp_path / "t.csv"), "--licence", licence], prog="ofa-profile") == 2
