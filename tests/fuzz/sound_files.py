"""One sound file of each kind that the commands read, in one folder."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from in_process import run_command
from small_spaces import OWN_SPACE

import ofa_core
from ofa_core.arch_json import arch_to_dict
from ofa_core.formats.net_config import net_config_of
from ofa_core.formats.yaml_tables import write_ofa_yaml
from ofa_core.genomes import decode, sample_genomes
from ofa_core.measured_files import MeasuredFile
from ofa_core.measured_networks import read_networks, write_networks
from ofa_core.share import write_share
from ofa_core.spaces import proxyless, tiny
from ofa_core.table import Context, Entry, LatencyTable

FAKE = ("ofa-profile", "--target", "fake", "--space", "tiny", "--resolutions", "24", "--backend", "sleep")
MEASURED = (
    (*FAKE, "--processes", "3", "--budget-s", "3", "--out", "table.csv"),
    (*FAKE, "--nets", "6", "--processes", "3", "--budget-s", "3", "--out", "run.csv"),
)
SEARCH = ("--accuracy", "proxy:macs", "--seed", "1", "--no-report", "--out", "search")

RECIPE = """
[space]
name = "tiny"
dropout = 0.0
resolutions = [24, 28]
stage_strides = [2, 2]

[data]
source = "digits"
held_out = 300

[augmentation]
scale = [0.6, 1.0]
flip = false

[preprocessing]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
resize = "direct"

[recipe]
name = "progressive"
epochs = 1.5
lr_scale = 0.5
batch_size = 48

[run]
seed = 1
amp = "none"
"""

DEVICES = """
[pixel2]
target = "adb:HT7A1234"
backend = "tflite"
threads = 1
cpus = [4, 5]
work_dir = "/data/local/tmp/ofa"

[pi]
target = "ssh:me@host:22"
python = "/usr/bin/python3"

[fake]
backend = "sleep"
"""


def write_sound_files(folder: Path) -> None:
    """Write them; a few seconds."""
    for argv in MEASURED:
        _run(argv, folder)
    space, rng = tiny(), np.random.default_rng(0)
    table = LatencyTable.read(folder / "table.csv")
    write_share(folder / "table.csv", folder / "table.share.zip", "CC0-1.0", {"ofa-latency": "0.1.0"})
    shutil.copy(Path(ofa_core.__file__).parent / "data" / "hub.json", folder / "hub.json")
    table.write(folder / "other.csv")
    LatencyTable(replace(table.context, batch_size=4), table.entries).write(folder / "batch4.csv")
    (yaml_path,) = write_ofa_yaml(table, folder, space, [24])
    yaml_path.rename(folder / "table.yaml")
    wide = LatencyTable(Context(), {(None, b): Entry(1.0) for b in proxyless().all_blocks([224])})
    (other,) = write_ofa_yaml(wide, folder, proxyless(), [224])
    (folder / "ratio.yaml").write_text("".join(other.read_text().splitlines(keepends=True)[:39]))
    other.unlink()
    (folder / "pairs.csv").write_text("14x14x80-14x14x80-expand:3-kernel:7-stride:1,2.25\n")
    (folder / "table.json").write_text(json.dumps({"Conv-input:24x24x3-output:12x12x8": {"count": 3, "mean": 1.5}}))
    _write_networks(folder, rng)
    _write_predictors(folder)
    _write_architectures(folder)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "space.toml").write_text(OWN_SPACE)
    (folder / "devices.toml").write_text(DEVICES)
    _write_acc_predictor(folder)
    _run(
        ("ofa-search", "--lut", "table.csv", "--max-latency-ms", "1", *SEARCH, "--measure", "fake", "--budget-s", "2"),
        folder,
    )
    _write_checkpoints(folder)


def _write_networks(folder: Path, rng: np.random.Generator) -> None:
    """Networks with some noise and energy, in each form in which they are read."""
    space, context = tiny(), LatencyTable.read(folder / "table.csv").context
    networks = []
    for net in read_networks(folder / "table.networks.csv"):
        ms = 1.1 * net.latency_ms * float(np.exp(0.02 * rng.standard_normal()))
        networks.append(replace(net, latency_ms=ms, energy_mj=2 * ms, energy_source="rapl"))
    write_networks(folder / "table.networks.csv", context, networks)
    write_networks(folder / "nets.csv", context, networks)
    archs = decode(space, sample_genomes(space, 40, rng, [24]))
    truth = 1.1 * LatencyTable.read(folder / "table.csv").sum_ms(space, archs) * np.exp(0.02 * rng.standard_normal(40))
    for name, column, values in (
        ("measured.csv", "latency_ms", truth),
        ("top1.csv", "top1", rng.uniform(60, 70, len(archs))),
    ):
        with (folder / name).open("w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("space", "ks", "e", "d", "r", column))
            for arch, value in zip(archs, values, strict=True):
                record = arch_to_dict(arch, space)
                writer.writerow(("tiny", *(json.dumps(record[k]) for k in ("ks", "e", "d")), 24, repr(float(value))))
    (folder / "arch.json").write_text(json.dumps({"schema": 1, "space": "tiny", **arch_to_dict(archs[0], space)}))


def _write_predictors(folder: Path) -> None:
    from predictors.accuracy import AccuracyPredictor
    from predictors.loading import load_latency
    from predictors.network import NetworkPredictor
    from predictors.persistence import save_predictor

    space, nets = tiny(), folder / "nets.csv"
    file, top1 = MeasuredFile.read(nets), MeasuredFile.read(folder / "top1.csv")
    rows, accuracies = file.select(space, file.column()), top1.select(space, top1.column())
    archs, values = rows.genomes, rows.values
    lut, context = load_latency(folder / "table.csv", space), file.context()
    save_predictor(folder / "table.predictor", lut)
    save_predictor(folder / "network.predictor", NetworkPredictor(space, context=context).fit(archs, values))
    transfer = NetworkPredictor(space, table=LatencyTable.read(folder / "table.csv"), context=context)
    sources = [load_latency(folder / "other.csv", space)]
    save_predictor(folder / "transfer.predictor", transfer.fit(archs[:12], values[:12], sources=sources))
    accuracy = AccuracyPredictor(space).fit(accuracies.genomes, accuracies.values)
    save_predictor(folder / "accuracy.predictor", accuracy)


def _write_architectures(folder: Path) -> None:
    space = tiny()
    arch = space.largest(24)
    for name in ("net.config", "published/net.config"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**net_config_of(space, arch), "resolution": 24}))
    (folder / "published" / "run.config").write_text(json.dumps({"image_size": 24, "n_epochs": 1, "dataset": "x"}))


def _run(argv: tuple[str, ...], folder: Path) -> None:
    ended = run_command(argv, folder)
    assert ended.code == 0, ended.stderr


def _write_acc_predictor(folder: Path) -> None:
    from ofa_core.formats.acc_predictor import PublishedAccuracyPredictor

    space, rng = tiny(), np.random.default_rng(1)
    pixels = space.resolutions
    n_inputs = len(pixels) + space.n_slots * (len(space.kernels) + len(space.expands))
    weights = (rng.normal(0, 0.1, (n_inputs, 8)), rng.normal(0, 0.1, (8, 1)))
    biases = (np.zeros(8), np.full(1, 0.7))
    arrays = {"weights": _float32(weights), "biases": _float32(biases)}
    PublishedAccuracyPredictor(space, pixels, **arrays, label="made up").write(folder / "accuracy.npz")


def _float32(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(array.astype(np.float32) for array in arrays)


def _write_checkpoints(folder: Path) -> None:
    """Weights of a supernet and of a sub-net, ours and published, and the checkpoint of a finished run."""
    from ofa_core.formats.checkpoint import write_checkpoint
    from ofa_core.formats.published_weights import write_published
    from ofa_core.nn.supernet import Supernet, extract
    from ofa_core.train.images import IMAGENET

    space = tiny().with_classes(10)
    net, arch = Supernet(space).eval(), space.smallest(24)
    write_checkpoint(folder / "supernet.pt", net, space, IMAGENET)
    write_checkpoint(folder / "subnet.pt", extract(net, arch), space, IMAGENET, arch)
    write_published(folder / "published.pth", net)
    resume_run(folder)
    write_images(folder / "images.npz")


def resume_run(folder: Path) -> None:
    """Train one step of one phase on a few images, or go on with the run that is in the folder."""
    from ofa_core.train.config import Config, DataConfig, RunConfig, SpaceConfig
    from ofa_core.train.phases import Phase
    from ofa_core.train.run import Data, TrainingRun
    from ofa_core.train.sources import ArraySource
    from ofa_core.train.supernet import train_supernet

    rng = np.random.default_rng(3)
    images = ArraySource(rng.integers(0, 255, (8, 24, 24, 3)).astype(np.uint8), np.arange(8) % 2, ("a", "b"), "made")
    config = Config(
        space=SpaceConfig("tiny", resolutions=(24,)),
        data=DataConfig("made", held_out=0, n_calibration=4),
        phase=tuple(Phase(name, epochs=1, lr=0.01, batch_size=8) for name in ("first", "second")),
        run=RunConfig(device="cpu", fast_gradients=False),
    )
    data = Data(images, images, np.arange(8), np.arange(0))
    train_supernet(TrainingRun(config, data, folder / "run"), resume=True)


def write_images(path: Path) -> None:
    """Two images of each of two classes, as `npz:` takes them."""
    from PIL import Image

    files = []
    for i in range(4):
        out = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), 60 * i, np.uint8)).save(out, "PNG")
        files.append(out.getvalue())
    arrays = {
        "data": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": np.arange(4) % 2,
        "classes": np.array(["a", "b"]),
    }
    np.savez(path, **arrays)
