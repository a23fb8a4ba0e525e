"""`--dtype int8` of each command: the numbers printed, the files written, and what is refused."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.arch_json import write_arch  # noqa: E402
from ofa_core.cli_app import run_app  # noqa: E402
from ofa_core.errors import FormatError, OfaError  # noqa: E402
from ofa_core.export.network_ranges import Ranges, ranges_from_dict  # noqa: E402
from ofa_core.export.quantisation import fixed_ranges  # noqa: E402
from ofa_core.formats.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from ofa_core.formats.net_config import write_net_config  # noqa: E402
from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.formats.published_weights import write_published  # noqa: E402
from ofa_core.nn.subnet import build_subnet  # noqa: E402
from ofa_core.nn.supernet import Supernet  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train.cli import app  # noqa: E402
from ofa_core.train.commands import Request, net_for, open_checkpoint  # noqa: E402
from ofa_core.train.distributed import ALONE  # noqa: E402
from ofa_core.train.finetune import finetune_subnet  # noqa: E402
from ofa_core.train.int8 import RangeSettings, ranges_of  # noqa: E402
from ofa_core.train.integer import IntegerNet  # noqa: E402
from ofa_core.train.phases import finetune  # noqa: E402
from ofa_core.train.run import Data, TrainingRun  # noqa: E402

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")
ARCH = tiny().uniform(3, 3, 1, 24)
INT8 = ("--dtype", "int8", "--range-images", 32)


@pytest.fixture
def run(capsys):
    def run(*words) -> tuple[int, str, str]:
        code = run_app(app, [str(w) for w in words], prog="ofa-train")
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def weights(tmp_path) -> Path:
    write_checkpoint(tmp_path / "net.pt", Supernet(tiny(), seed=1), tiny(), HALF)
    write_arch(tmp_path / "arch.json", ARCH, tiny())
    return tmp_path / "net.pt"


def facts_of(path: Path) -> dict[str, str]:
    import onnx

    return {p.key: p.value for p in onnx.load(path).metadata_props}


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_evaluate_prints_both_forms_and_how_often_they_agree(run, weights, tmp_path, method):
    code, out, err = run("evaluate", weights, "--arch", tmp_path / "arch.json", *INT8, "--ranges", method)
    assert code == 0, err
    _, fp32, int8, note = out.splitlines()
    for row, dtype in ((fp32, "fp32"), (int8, "int8")):
        assert (row.split()[1], row.split()[-1]) == (dtype, "359")
    found = re.search(r"int8 chooses the class of fp32 for ([\d.]+) % of the images \((.*)\)", note)
    assert 80 <= float(found[1]) <= 100
    assert found[2] == f"{method} ranges of 32 images"


def test_without_dtype_nothing_is_quantised(run, weights, tmp_path):
    _, out, _ = run("evaluate", weights, "--arch", tmp_path / "arch.json")
    assert "int8" not in out
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_fine_tuning_gives_a_file_that_computes_what_was_trained(run, weights, suffix, run_file, tmp_path):
    sub, out = tmp_path / "sub.pt", tmp_path / f"net.{suffix}"
    arch = tmp_path / "arch.json"
    code, text, err = run("finetune", arch, "--weights", weights, "--epochs", 1, "--lr", 0.01, "--out", sub, *INT8)
    assert code == 0, err
    starts = [line.split()[0] for line in text.splitlines()]
    assert "after 1 epoch int8" in text
    assert starts == ["sub-net", "before", "before", "after", "after", "before:", "after"]
    read = read_checkpoint(sub)
    assert read.ranges is not None
    assert (read.ranges.method, read.ranges.n_images) == ("minmax", 32)
    unused = "sub.pt holds minmax ranges of 32 images: --ranges and --range-images are not used"
    code, _, err = run("export", sub, "--batch-size", 8, "--out", out, "--dtype", "int8", "--range-images", 1)
    assert (code, unused in err) == (0, True)
    x = torch.randn((16, 3, 24, 24), generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    np.testing.assert_allclose(run_file(out, x.numpy()), IntegerNet.of(read.net, read.ranges)(x).numpy(), atol=1e-6)
    assert unused in run("evaluate", sub, *INT8, "--ranges", "mse")[2]
    _, told, err = run("evaluate", sub, *INT8)
    again = told.splitlines()
    assert unused not in err
    assert again[2].split()[-4:] == text.splitlines()[4].split()[-4:]


@pytest.mark.parametrize("method", ["percentile", "mse"])
@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_an_exported_file_has_the_ranges_that_were_asked_for(run, weights, method, suffix, run_file, tmp_path):
    out = tmp_path / f"net.{suffix}"
    words = ("--arch", tmp_path / "arch.json", "--out", out, "--batch-size", 8, *INT8, "--ranges", method)
    assert run("export", weights, *words)[0] == 0
    opened = open_checkpoint(Request(weights, "digits"), ALONE)
    net = net_for(opened.checkpoint, ARCH, opened.evaluator)[0]
    x = torch.cat(opened.evaluator.range_images(24, 32))[:16]
    found, others = (ranges_of(net, 24, opened.evaluator, RangeSettings(m, 32)) for m in (method, "minmax"))
    expected = IntegerNet.of(net, found)(x)
    np.testing.assert_allclose(run_file(out, x.numpy()), expected.numpy(), atol=1e-6)
    assert not torch.equal(expected, IntegerNet.of(net, others)(x))


def test_fine_tuning_learns_in_int8(few_images, small_config, tmp_path):
    space = tiny().with_classes(4)
    arch = space.smallest(24)
    data = Data(few_images, few_images, np.arange(40), np.arange(0))
    run = TrainingRun(small_config, data, tmp_path / "sub.pt")
    evaluator = data.evaluator(small_config, run.process)
    net = evaluator.calibrated(build_subnet(space, arch), arch)
    ranges = ranges_of(net, 24, evaluator, RangeSettings(n_images=40))
    before = evaluator.measure(IntegerNet.of(net, ranges), 24)
    phase = replace(finetune(6), batch_size=8, lr=0.02)
    finetune_subnet(run, net, space, arch, phase, ranges)
    after = evaluator.measure(IntegerNet.of(net, ranges), 24)
    assert before.top1 < 50
    assert after.top1 > 90
    assert read_checkpoint(tmp_path / "sub.pt").ranges == ranges


def test_compiling_is_refused_in_int8(run, weights, tmp_path):
    (tmp_path / "settings.toml").write_text('[data]\nsource = "digits"\n[run]\ncompile = true\n')
    words = ["finetune", tmp_path / "arch.json", "--weights", weights, "--config", tmp_path / "settings.toml"]
    code, _, err = run(*words, "--out", tmp_path / "sub.pt", *INT8)
    assert code == 1
    assert "compile = true is for float32 only" in err
    assert not (tmp_path / "sub.pt").exists()


def test_the_metadata_of_a_file_says_how_it_was_quantised(run, weights, tmp_path):
    out, arch = tmp_path / "net.onnx", tmp_path / "arch.json"
    code, _, err = run("export", weights, "--arch", arch, "--out", out, *INT8)
    assert code == 0, err
    found = facts_of(out)
    assert found["dtype"] == "int8"
    assert found["graph_form"] == "integer"
    assert found["ranges"] == "minmax ranges of 32 images"
    assert found["weights"] == "given weights, batch norm folded in"
    assert json.loads(found["arch"])["r"] == [24]


def test_a_folder_as_published_is_float32_only(run, weights, tmp_path):
    code, _, err = run("export", weights, "--arch", tmp_path / "arch.json", "--out", tmp_path / "folder", *INT8)
    assert code == 1
    assert "a folder as published holds float32 weights only" in err


@pytest.fixture
def published(tmp_path) -> Path:
    write_net_config(tmp_path / "theirs", tiny(), ARCH)
    write_published(tmp_path / "theirs" / "init", build_subnet(tiny(), ARCH, seed=3).eval())
    return tmp_path / "theirs"


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_a_published_net_is_written(run, published, dtype, suffix, run_file, tmp_path):
    out = tmp_path / f"net.{suffix}"
    words = [published / "init", "--net-config", published / "net.config", "--preprocessing", "half", "--dtype", dtype]
    code, text, err = run("export", *words, "--out", out)
    assert (code, text) == (0, f"{out}\n"), err
    assert run_file(out, np.zeros((1, 3, 24, 24), np.float32)).shape == (1, 10)
    if suffix == "onnx":
        assert facts_of(out)["net"] == "net"
        assert facts_of(out).get("dtype", "fp32") == dtype


def test_a_published_folder_is_not_written_again(run, published, tmp_path):
    words = [published / "init", "--net-config", published, "--preprocessing", "half", "--out", tmp_path / "other"]
    code, _, err = run("export", *words)
    assert code == 1
    assert "is a folder as published already" in err


def test_an_accuracy_table_says_its_dtype_and_is_continued_in_it_only(run, weights, tmp_path):
    out = tmp_path / "acc.csv"
    words = ["accuracy-table", weights, "--out", out, "--images", 40]
    assert run(*words, "--n", 2, *INT8)[:2] == (0, f"2 sub-nets in {out}\n")
    assert run(*words, "--n", 3, *INT8)[:2] == (0, f"3 sub-nets in {out}\n")
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {(row["dtype"], row["ranges"]) for row in rows} == {("int8", "minmax ranges of 32 images")}
    before = out.read_bytes()
    for changed in ([], [*INT8, "--ranges", "mse"], ["--dtype", "int8", "--range-images", 33]):
        code, text, err = run(*words, "--n", 4, *changed)
        assert (code, text, len(err.splitlines())) == (1, "", 1)
        assert f"{out} was measured in int8 with minmax ranges of 32 images and this is" in err
        assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": []}, "ranges of 0 blocks"),
        ({"n_images": 0}, "n_images is 0"),
        ({"method": 3}, "method is 3"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(change, message):
    blocks = tiny().blocks(ARCH)
    sound = Ranges(tuple(fixed_ranges(block) for block in blocks), "minmax", 4)
    assert ranges_from_dict(sound.to_dict(), blocks, "file") == sound
    with pytest.raises((FormatError, OfaError), match=f"file.*{message}"):
        ranges_from_dict({**sound.to_dict(), **change}, blocks, "file")
