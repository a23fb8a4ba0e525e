from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.arch_json import write_arch  # noqa: E402
from ofa_core.cli_app import run_app  # noqa: E402
from ofa_core.formats.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from ofa_core.formats.net_config import write_net_config  # noqa: E402
from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.formats.published_weights import write_published  # noqa: E402
from ofa_core.lock import only_one  # noqa: E402
from ofa_core.nn.supernet import Supernet  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train.cli import app  # noqa: E402

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")


def run(capsys, *words) -> tuple[int, str, str]:
    code = run_app(app, [str(w) for w in words], prog="ofa-train")
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def weights(tmp_path) -> Path:
    write_checkpoint(tmp_path / "net.pt", Supernet(tiny(), seed=1), tiny(), HALF)
    return tmp_path / "net.pt"


@pytest.fixture
def arch(tmp_path) -> Path:
    write_arch(tmp_path / "arch.json", tiny().uniform(3, 3, 1, 24), tiny())
    return tmp_path / "arch.json"


def test_help_needs_no_torch():
    code = (
        "import sys; from ofa_core.cli_app import run_app; from ofa_core.train.cli import app;"
        "code = run_app(app, ['--help'], prog='ofa-train');"
        "sys.exit(code or any(m in sys.modules for m in ('torch', 'pandas', 'sklearn', 'matplotlib', 'PIL')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("supernet", "evaluate", "accuracy-table", "finetune", "export", "calibrate"):
        assert name in done.stdout


@pytest.mark.parametrize("command", [[], ["supernet"], ["evaluate"], ["finetune"], ["export"], ["calibrate"]])
def test_every_command_has_help(capsys, command):
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    assert "ofa-train" in out


def test_evaluate_prints_a_table_of_subnets(capsys, weights, arch):
    code, out, _ = run(capsys, "evaluate", weights, "--arch", arch)
    assert code == 0
    head, row = out.splitlines()
    assert head.split()[:2] == ["sub-net", "top-1"]
    assert row.split()[-1] == "359"


def test_a_second_command_on_one_output_is_refused(capsys, weights, tmp_path):
    supernet, table = tmp_path / "run" / "supernet.pt", tmp_path / "acc.csv"
    with only_one(supernet), only_one(table):
        for words in (
            ["--out", supernet.parent, "--epochs", 1],
            ["accuracy-table", weights, "--out", table, "--n", 3, "--images", 64],
        ):
            code, out, err = run(capsys, *words)
            assert (code, out) == (1, "")
            assert f"is in use by process {os.getpid()}" in err
    assert not table.exists()
    assert not list(supernet.parent.iterdir())


def test_accuracy_table(capsys, weights, tmp_path):
    out = tmp_path / "acc.csv"
    code, text, _ = run(capsys, "accuracy-table", weights, "--out", out, "--n", 3, "--images", 40)
    assert code == 0
    assert text == f"3 sub-nets in {out}\n"
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {"space", "ks", "e", "d", "r", "top1"} <= set(rows[0])
    assert rows[0]["space"] == "tiny"
    assert all(0 <= float(r["top1"]) <= 100 and r["n_images"] == "40" for r in rows)


def test_an_accuracy_table_of_other_weights_or_images_is_not_continued(capsys, weights, tmp_path):
    out, other = tmp_path / "acc.csv", tmp_path / "other.pt"
    words = ["accuracy-table", "--out", out, "--images", 40]
    assert run(capsys, *words, weights, "--n", 2)[0] == 0
    assert run(capsys, *words, weights, "--n", 3)[:2] == (0, f"3 sub-nets in {out}\n")
    before = out.read_bytes()
    write_checkpoint(other, Supernet(tiny(), seed=2), tiny(), HALF)
    write_checkpoint(tmp_path / "crop.pt", Supernet(tiny(), seed=1), tiny(), replace(HALF, resize="crop"))
    for changed, what in (
        ([other], "weights"),
        ([tmp_path / "crop.pt"], "weights"),
        ([weights, "--images", 41], "images"),
    ):
        code, text, err = run(capsys, *words, *changed, "--n", 4)
        assert (code, text, len(err.splitlines())) == (1, "", 1)
        assert f"{out} was measured with other {what} (digest " in err
        assert "give another file as --out" in err
        assert out.read_bytes() == before


def test_finetune_then_evaluate(capsys, weights, arch, tmp_path):
    out = tmp_path / "sub.pt"
    code, text, err = run(capsys, "finetune", arch, "--weights", weights, "--epochs", 1, "--lr", 0.05, "--out", out)
    assert code == 0, err
    assert "after 1 epoch " in text
    assert read_checkpoint(out).arch == tiny().uniform(3, 3, 1, 24)
    code, again, _ = run(capsys, "evaluate", out)
    assert code == 0
    assert again.splitlines()[1].split()[-4:] == text.splitlines()[-1].split()[-4:]


def test_calibrate_writes_a_subnet(capsys, weights, arch, tmp_path):
    code, _, err = run(capsys, "calibrate", arch, "--weights", weights, "--out", tmp_path / "sub.pt")
    assert code == 0, err
    read = read_checkpoint(tmp_path / "sub.pt")
    assert read.preprocessing == HALF
    assert read.net.layers[0].bn.running_var.min() > 0


def test_export_of_net_config(capsys, weights, arch, tmp_path):
    code, _, err = run(capsys, "export", weights, "--arch", arch, "--out", tmp_path / "net")
    assert code == 0, err
    assert {p.name for p in (tmp_path / "net").iterdir()} == {"net.config", "run.config", "init"}
    assert json.loads((tmp_path / "net/run.config").read_text()) == {"image_size": 24}
    config = tmp_path / "net/net.config"
    words = ["--net-config", config, "--preprocessing", "half"]
    code, out, err = run(capsys, "evaluate", tmp_path / "net/init", *words)
    assert code == 0, err
    assert out.splitlines()[1].split()[-1] == "359"


def test_a_net_config_without_an_input_size_needs_one(capsys, weights, arch, tmp_path):
    assert run(capsys, "export", weights, "--arch", arch, "--out", tmp_path / "net")[0] == 0
    words = ["evaluate", tmp_path / "net/init", "--net-config", tmp_path / "net", "--preprocessing", "half"]
    code, at_24, _ = run(capsys, *words)
    assert code == 0
    for content, message in (("{}", "without an image size"), ('{"image_size": [24, 32]}', "2 input sizes")):
        (tmp_path / "net/run.config").write_text(content)
        code, out, err = run(capsys, *words)
        assert (code, out, message in err) == (1, "", True)
        assert run(capsys, *words, "--resolution", 24)[:2] == (0, at_24)


def test_the_input_size_of_a_sub_net_may_be_named(capsys, weights, arch, tmp_path):
    (tmp_path / "short.json").write_text('{"ks": 3, "e": 3, "d": 1}')
    code, out, _ = run(capsys, "evaluate", weights, "--arch", tmp_path / "short.json", "--resolution", 24)
    assert code == 0
    assert (
        out.splitlines()[1].split()[1:]
        == run(capsys, "evaluate", weights, "--arch", arch)[1].splitlines()[1].split()[1:]
    )
    code, out, _ = run(capsys, "evaluate", weights, "--resolution", 28)
    assert code == 0
    assert {row.split("-")[0] for row in out.splitlines()[1:]} == {"R28"}
    for command in (["finetune"], ["calibrate"]):
        code, _, err = run(capsys, *command, tmp_path / "short.json", "--weights", weights)
        assert (code, "the architecture has no resolution" in err) == (1, True)
    code, _, err = run(capsys, "export", weights, "--resolution", 24, "--out", tmp_path / "x.onnx")
    assert (code, "give --arch too; this is its input size" in err) == (2, True)


def test_a_net_config_names_a_sub_net_of_a_supernet(capsys, weights, arch, tmp_path):
    write_net_config(tmp_path / "net", tiny().with_classes(1000), tiny().uniform(3, 3, 1, 24))
    code, out, err = run(capsys, "evaluate", weights, "--arch", tmp_path / "net")
    assert code == 0, err
    expected = run(capsys, "evaluate", weights, "--arch", arch)[1]
    assert out.splitlines()[1].split()[1:] == expected.splitlines()[1].split()[1:]


def test_an_accuracy_at_chance_causes_a_warning(capsys, weights, arch, tmp_path):
    said = "the accuracy is no better than chance (14.48 % top-1); usual causes: --preprocessing or the order of"
    code, _, err = run(capsys, "evaluate", weights, "--arch", arch)
    assert (code, said in err, len(err.splitlines())) == (0, True, 1)
    code, _, err = run(capsys, "calibrate", arch, "--weights", weights, "--out", tmp_path / "sub.pt")
    assert (code, said in err) == (0, True)
    code, _, err = run(capsys, "accuracy-table", weights, "--out", tmp_path / "a.csv", "--n", 3, "--images", 400)
    assert code == 0
    assert "3 of 3 accuracies are no better than chance" in err
    assert run(capsys, "export", weights, "--arch", arch, "--out", tmp_path / "net")[0] == 0
    words = ["evaluate", tmp_path / "net/init", "--net-config", tmp_path / "net", "--preprocessing", "half"]
    code, _, err = run(capsys, *words)
    assert (code, said in err) == (0, True)
    code, _, err = run(capsys, "finetune", arch, "--weights", weights, "--epochs", 2, "--out", tmp_path / "good.pt")
    assert (code, "1 of 2 accuracies are no better than chance" in err) == (0, True)
    code, _, err = run(capsys, "evaluate", tmp_path / "good.pt")
    assert (code, err) == (0, "")


def test_a_published_supernet_needs_its_space_and_preprocessing(capsys, tmp_path):
    write_published(tmp_path / "p.pth", Supernet(tiny(), seed=1))
    code, _, err = run(capsys, "evaluate", tmp_path / "p.pth")
    assert code == 1
    assert "does not hold its preprocessing; give --preprocessing, one of imagenet, half" in err
    code, _, err = run(capsys, "evaluate", tmp_path / "p.pth", "--preprocessing", "half")
    assert (code, "which does not hold its search space; give --space" in err) == (1, True)
    code, _, err = run(capsys, "evaluate", tmp_path / "p.pth", "--preprocessing", "haf", "--space", "tiny")
    assert (code, "unknown preprocessing 'haf'; choose one of imagenet, half, half-crop" in err) == (1, True)


def test_a_supernet_in_the_wrappers_of_another_trainer(capsys, weights, arch, tmp_path):
    state = torch.load(weights, weights_only=True)["state_dict"]
    named = {f"module.{name}": tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    best = np.float64(76.4)
    torch.save({"model": named, "best_acc": best, "args": argparse.Namespace(lr=best)}, tmp_path / "other.pth")
    named_space = ["--space", "tiny", "--preprocessing", "half"]
    code, out, err = run(capsys, "evaluate", tmp_path / "other.pth", "--arch", arch, *named_space)
    assert code == 0, err
    assert out == run(capsys, "evaluate", weights, "--arch", arch)[1]
    torch.save({"state_dict": state, "state_dict_ema": named}, tmp_path / "two.pth")
    code, _, err = run(capsys, "evaluate", tmp_path / "two.pth", "--arch", arch, *named_space)
    assert (code, "choose one as FILE#KEY" in err, len(err.splitlines())) == (1, True, 1)
    assert run(capsys, "evaluate", f"{tmp_path}/two.pth#state_dict_ema", "--arch", arch, *named_space)[1] == out


def test_a_supernet_of_fixed_kernels_is_reported(capsys, arch, tmp_path):
    write_published(tmp_path / "fixed.pth", Supernet(replace(tiny(), kernels=(3,)), seed=1))
    words = ["evaluate", tmp_path / "fixed.pth", "--arch", arch, "--preprocessing", "half", "--space"]
    code, _, err = run(capsys, *words, "tiny")
    assert code == 1
    assert 'kernels are fixed at 3; give its space as a TOML file with [space], name = "tiny" and kernels = [3]' in err
    (tmp_path / "space.toml").write_text('[space]\nname = "tiny"\nkernels = [3]\n')
    (tmp_path / "short.json").write_text('{"ks": 3, "e": 3, "d": 1, "r": 24}')
    words[words.index(arch)] = tmp_path / "short.json"
    code, out, err = run(capsys, *words, tmp_path / "space.toml")
    assert code == 0, err
    assert out.splitlines()[1].split()[-1] == "359"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["supernet", "--space", "mbv4"], 1, "unknown space 'mbv4'"),
        (["supernet", "--recipe", "progresive"], 1, "did you mean progressive?"),
        (["supernet", "--data", "imagefolder:/nowhere"], 1, "/nowhere: train/ and val/ (or test/) are expected"),
        (["evaluate", "/nowhere.pt"], 1, "/nowhere.pt: No such file"),
        (["--epochs", "x"], 2, "--epochs"),
        (["evaluat"], 2, "evaluat"),
    ],
)
def test_mistakes_end_in_one_line(capsys, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    got, out, err = run(capsys, *words)
    assert (got, out) == (code, "")
    assert message in err
    if code == 1:
        assert len(err.splitlines()) == 1
        assert err.startswith("ofa-train: ")
    assert not list(tmp_path.iterdir())


def test_a_subnet_checkpoint_is_refused_as_a_supernet(capsys, weights, arch, tmp_path):
    run(capsys, "calibrate", arch, "--weights", weights, "--out", tmp_path / "sub.pt")
    code, _, err = run(capsys, "accuracy-table", tmp_path / "sub.pt", "--out", tmp_path / "a.csv")
    assert (code, "needs a supernet" in err) == (1, True)
    code, _, err = run(capsys, "export", weights, "--out", tmp_path / "x.onnx")
    assert (code, "give the sub-net as an arch.json" in err) == (1, True)
