"""A space of one's own through every command: train, measure accuracies and latencies, search, export, predict."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from small_spaces import OWN_SPACE

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

from ofa_core.arch_json import read_arch_dict  # noqa: E402
from ofa_core.cli_app import run_app  # noqa: E402
from ofa_core.formats.checkpoint import read_space_of  # noqa: E402
from ofa_core.measured_networks import networks_path, read_networks  # noqa: E402
from ofa_core.search.cli import app as search_app  # noqa: E402
from ofa_core.space_files import space_from  # noqa: E402
from ofa_core.space_record import space_of_record  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train.cli import app as train_app  # noqa: E402
from predictors.cli import app as predict_app  # noqa: E402
from profiler.cli import app as profile_app  # noqa: E402

APPS = {"ofa-train": train_app, "ofa-profile": profile_app, "ofa-search": search_app, "ofa-predict": predict_app}

SETTINGS = (
    OWN_SPACE.replace("n_classes = 10", "n_classes = 4").replace("[24, 28, 32]", "[24, 32]")
    + """
[data]
source = "npz:train.npz,val.npz"
held_out = 40
n_calibration = 20

[augmentation]
scale = [0.9, 1.0]

[preprocessing]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
resize = "direct"

[[phase]]
name = "all"
epochs = 2
lr = 0.02
batch_size = 20

[run]
device = "cpu"
fast_gradients = false
"""
)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]):
    def run(prog: str, *words: object) -> tuple[int, str, str]:
        code = run_app(APPS[prog], [str(word) for word in words], prog=prog)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def images(path: Path, n: int, seed: int) -> None:
    """Noise whose brightness tells its class, as PNG files in one npz."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    files = []
    for label in labels:
        stream = io.BytesIO()
        pixels = rng.integers(0, 60, (32, 32, 3)) + 50 * label
        Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
        files.append(stream.getvalue())
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(path, data=np.frombuffer(b"".join(files), np.uint8), offsets=offsets, labels=labels, classes=list("abcd"))


def test_the_whole_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(SETTINGS)
    images(Path("train.npz"), 120, 0)
    images(Path("val.npz"), 40, 1)
    space = space_from("mine.toml")
    data = ("--data", "npz:train.npz,val.npz")

    code, _, err = call("ofa-train", "supernet", "--config", "mine.toml", "--out", "run")
    assert code == 0, err
    assert asdict(read_space_of(Path("run/supernet.pt"))) == asdict(space) == asdict(space_from("run/supernet.pt"))

    words = ("run/supernet.pt", *data, "--n", 25, "--images", 40, "--out", "accuracy.csv")
    assert call("ofa-train", "accuracy-table", *words)[0] == 0

    words = ("--resolutions", "24,32", "--budget-s", 2, "--processes", 3, "--out", "device.csv")
    code, _, err = call("ofa-profile", "--space", "mine.toml", *words)
    assert code in (0, 3), err
    assert {net.space for net in read_networks(networks_path(Path("device.csv")))} == {space}

    # Whoever resumes, verifies or searches with another space hears what differs.
    code, _, err = call("ofa-profile", "--space", "tiny", *words)
    assert (code, "space mine, now tiny: classes 4, not 10; stem stride 1, not 2" in err) == (1, True), err
    found = ("--lut", "device.csv", "--max-latency-ms", 100, "--out", "found")
    code, _, err = call("ofa-search", *found, "--space", "tiny", "--fill", "-a", "accuracy.csv")
    assert (code, "its rows are of mine (classes 4, not 10; stem stride 1, not 2" in err) == (1, True), err

    # The table's own networks say its space; --weights and --accuracy are of it.
    weights = ("--weights", "run/supernet.pt", *data)
    code, out, err = call("ofa-search", *found, "-a", "accuracy.csv", *weights, "--json")
    assert code == 0, err
    assert json.loads(out)["space"] == "mine"
    assert space_of_record(read_arch_dict(Path("found/arch.json"))) == space
    assert call("ofa-search", "report", "found")[0] == 0
    proxy = ("--lut", "device.csv", "--max-latency-ms", 100, "-a", "proxy:macs", "--no-report", "--out", "proxy")
    code, out, _ = call("ofa-search", *proxy)
    assert (code, "not an accuracy" in out) == (0, True)

    assert call("ofa-train", "export", "run/supernet.pt", *data, "--arch", "found/arch.json", "--out", "net")[0] == 0
    for words in (
        ["found/arch.json"],
        ["net"],
        ["net", "--space", "run/supernet.pt"],
        ["found/arch.json", "-s", "mine.toml"],
    ):
        code, out, err = call("ofa-predict", *words, "--lut", "device.csv", "--json")
        assert code == 0, err
        answer = json.loads(out)
        assert (answer["space_digest"], answer["predictions"][0]["calibrated"]) == (space.digest, True)
        assert answer["predictions"][0]["latency_ms"] > 0

    assert call("ofa-predict", "fit", "device.csv", "--out", "device.predictor")[0] == 0
    code, out, err = call("ofa-predict", "found/arch.json", "--lut", "device.predictor", "--json")
    assert (code, json.loads(out)["space_digest"]) == (0, space.digest), err


def test_weights_of_another_space_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call) -> None:
    from ofa_core.formats.checkpoint import write_checkpoint
    from ofa_core.formats.preprocessing import Preprocessing
    from ofa_core.nn.supernet import Supernet

    monkeypatch.chdir(tmp_path)
    mine = replace(tiny(), name="mine", first_stride=1)
    half = Preprocessing((0.5,) * 3, (0.5,) * 3, "direct")
    write_checkpoint(Path("mine.pt"), Supernet(mine), mine, half)
    for words in (
        ["evaluate", "mine.pt", "--space", "tiny"],
        ["accuracy-table", "mine.pt", "--space", "tiny", "--out", "a.csv"],
        ["supernet", "--space", "mine.pt", "--from", "nothing.pt", "--config", "other.toml", "--out", "run"],
    ):
        Path("other.toml").write_text('[space]\nn_classes = 3\n[data]\nsource = "digits"\n')
        code, _, err = call("ofa-train", *words)
        assert code == 1, words
        assert "stem stride 1, not 2" in err or "nothing.pt" in err
    assert not Path("a.csv").exists()


def test_a_named_space_takes_the_place_of_the_settings_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.toml").write_text('[space]\nname = "mbv3-w0.5"\nstage_strides = [1, 2, 2, 1, 2]\n')
    words = ("--config", "other.toml", "--from", "nothing.pt", "--out", "run")
    assert "stage_strides" not in call("ofa-train", "supernet", *words, "--space", "tiny")[2]
    for space in ("tiny", "mine.toml"):
        Path("mine.toml").write_text('[space]\nname = "tiny"\nkernels = [5]\n')
        code, _, err = call("ofa-train", "supernet", *words, "--space", space)
        assert (code, "nothing.pt" in err) == (1, True), err
