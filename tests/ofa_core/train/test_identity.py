"""Images and classes are told apart by what they are: by name, label and order, not by number."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
Image = pytest.importorskip("PIL.Image", reason="needs pillow")
pytestmark = pytest.mark.torch

from ofa_core.cli_app import run_app  # noqa: E402
from ofa_core.errors import FormatError, OfaError  # noqa: E402
from ofa_core.formats.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.formats.torch_files import write_torch  # noqa: E402
from ofa_core.nn.supernet import Supernet, extract  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train.checkpoints import load_latest, newest, save_state  # noqa: E402
from ofa_core.train.cli import app  # noqa: E402
from ofa_core.train.config import Config, DataConfig, RunConfig, SpaceConfig  # noqa: E402
from ofa_core.train.distributed import ALONE  # noqa: E402
from ofa_core.train.identity import class_difference, source_digest  # noqa: E402
from ofa_core.train.phases import Phase  # noqa: E402
from ofa_core.train.run import Events, TrainingRun, open_data  # noqa: E402
from ofa_core.train.sources import open_sources  # noqa: E402
from ofa_core.train.supernet import StoppedError, train_supernet  # noqa: E402

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")
CLASSES = ("ant", "bee", "cat")


def image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An image folder of three classes, with 8 training and 2 validation images each."""
    root = tmp_path / "images"
    for c, name in enumerate(CLASSES):
        for i in range(8):
            image(root / "train" / name / f"{i}.png", 100 * c + i)
        for i in range(2):
            image(root / "val" / name / f"{i}.png", 100 * c + 50 + i)
    return root


def config_of(images: Path) -> Config:
    return Config(
        SpaceConfig("tiny", resolutions=(24,), dropout=0.0),
        DataConfig(f"imagefolder:{images}", held_out=2, n_calibration=8),
        preprocessing=HALF,
        phase=(Phase("one", 1, 0.01, batch_size=4),),
        run=RunConfig(device="cpu", fast_gradients=False),
    )


def train(images: Path, out: Path, *, resume: bool, stop: bool = False) -> None:
    config = config_of(images)
    train_supernet(TrainingRun(config, open_data(config), out, events=Events(stop=lambda: stop)), resume=resume)


@pytest.fixture
def stopped(images: Path, tmp_path: Path) -> Path:
    """A run on the images, stopped after one step."""
    with pytest.raises(StoppedError):
        train(images, tmp_path / "run", resume=False, stop=True)
    return tmp_path / "run"


def rename_class(root: Path) -> None:
    for part in ("train", "val"):
        (root / part / "ant").rename(root / part / "wasp")


def add_class(root: Path) -> None:
    for part in ("train", "val"):
        image(root / part / "dog" / "0.png", 7)


def remove_class(root: Path) -> None:
    for part in ("train", "val"):
        shutil.rmtree(root / part / "cat")


def add_image(root: Path) -> None:
    image(root / "train" / "ant" / "new.png", 8)


def remove_image(root: Path) -> None:
    (root / "train" / "ant" / "0.png").unlink()


def exchange_images(root: Path) -> None:
    (root / "train" / "ant" / "0.png").rename(root / "train" / "ant" / "other.png")


def relabel_image(root: Path) -> None:
    (root / "train" / "ant" / "0.png").rename(root / "train" / "bee" / "moved.png")


def change_validation(root: Path) -> None:
    image(root / "val" / "bee" / "new.png", 9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rename_class, "classes: 3 then, 3 now, without 'ant' and with 'wasp'"),
        (add_class, "classes: 3 then, 4 now, with 'dog'"),
        (remove_class, "classes: 3 then, 2 now, without 'cat'"),
        (add_image, "24 training images then, 25 now"),
        (remove_image, "24 training images then, 23 now"),
        (exchange_images, r"other training images, or other labels, of the same number \(24\)"),
        (relabel_image, r"other training images, or other labels, of the same number \(24\)"),
        (change_validation, "6 validation images then, 7 now"),
    ],
)
def test_a_run_resumes_with_the_same_images_only(images, stopped, change, said):
    before = newest(stopped)
    change(images)
    with pytest.raises(OfaError, match=f"holds a run on other images .*{said}"):
        train(images, stopped, resume=True)
    assert newest(stopped) == before
    assert not (stopped / "supernet.pt").exists()


def test_a_folder_that_was_moved_is_the_same(images, stopped):
    digest = source_digest(open_sources(f"imagefolder:{images}")[0])
    moved = images.rename(images.with_name("moved"))
    assert source_digest(open_sources(f"imagefolder:{moved}")[0]) == digest
    images.symlink_to(moved)  # the settings name the folder, and have to be the same
    train(images, stopped, resume=True)
    assert read_checkpoint(stopped / "supernet.pt").classes == CLASSES


def test_a_checkpoint_of_version_0_1_0_is_compared_by_number(images, stopped):
    content = load_latest(stopped)
    assert content is not None
    del content["data"]
    del content["net"]["classes"]
    save_state(stopped, content["n_steps"] + 1, {k: v for k, v in content.items() if k != "schema"})
    add_class(images)
    with pytest.raises(OfaError, match=r"holds a run on other images \(3 classes then, 4 now\)"):
        train(images, stopped, resume=True)


def test_class_differences_in_words():
    assert class_difference(("a", "b"), ("b", "a")) == "the same names in another order"
    assert class_difference("abcdefgh", "a") == "8 then, 1 now, without 'b', 'c', 'd', 'e', 'f' and 2 more"


# ---- checkpoints and the images that they are used on ----------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    space = tiny().with_classes(3)
    write_checkpoint(tmp_path / "net.pt", Supernet(space, seed=1), space, HALF, classes=CLASSES)
    return tmp_path / "net.pt"


def call(capsys, *words) -> tuple[int, str, str]:
    code = run_app(app, [str(w) for w in words], prog="ofa-train")
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *words) -> str:
    code, out, err = call(capsys, *words)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize("command", ["evaluate", "accuracy-table", "calibrate", "finetune", "export"])
def test_images_of_other_classes_are_refused_by_every_command(capsys, tmp_path, weights, images, command):
    from ofa_core.arch_json import write_arch

    write_arch(tmp_path / "arch.json", tiny().uniform(3, 3, 1, 24), tiny())
    rename_class(images)
    out = tmp_path / "out.pt"
    words: list[object] = [command, weights, "--out", out]
    if command in ("calibrate", "finetune"):
        words = [command, tmp_path / "arch.json", "--weights", weights, "--out", out]
    elif command == "evaluate":
        words = [command, weights]
    elif command == "export":
        words = [command, weights, "--arch", tmp_path / "arch.json", "--out", tmp_path / "out.onnx"]
    err = refused(capsys, *words, "--data", f"imagefolder:{images}")
    assert "3 then, 3 now, without 'ant' and with 'wasp'" in err
    err = refused(capsys, *words, "--data", "digits")
    assert "net.pt was trained on other classes than those of digits: 3 then, 10 now" in err
    assert not list(tmp_path.glob("out*"))


def test_a_checkpoint_without_names_is_compared_by_number(capsys, tmp_path, weights, images):
    content = torch.load(weights, weights_only=True)
    del content["classes"]
    write_torch(weights, content)
    assert "net.pt has 3 classes, and digits has 10; give its own images as --data" in refused(
        capsys, "evaluate", weights
    )
    rename_class(images)
    assert call(capsys, "evaluate", weights, "--data", f"imagefolder:{images}")[0] == 0


def test_a_sub_net_is_exported_unchanged_with_any_images(capsys, tmp_path):
    space = tiny().with_classes(3)
    arch = space.uniform(3, 3, 1, 24)
    net = extract(Supernet(space, seed=1), arch)
    write_checkpoint(tmp_path / "subnet.pt", net, space, HALF, arch, CLASSES)
    assert call(capsys, "export", tmp_path / "subnet.pt", "--out", tmp_path / "subnet.onnx")[0] == 0
    assert "other classes" in refused(capsys, "evaluate", tmp_path / "subnet.pt")


@pytest.mark.parametrize("names", [["a", "b"], "abc", [1, 2, 3], {"a": 1}])
def test_names_that_do_not_fit_the_network_are_refused(weights, names):
    write_torch(weights, {**torch.load(weights, weights_only=True), "classes": names})
    with pytest.raises(FormatError, match="classes is not a list of 3 names"):
        read_checkpoint(weights)


# ---- images that are not there, or not readable ----------------------------------------------------------------------


@pytest.mark.parametrize("part", ["train", "val"])
def test_an_empty_class_is_refused(images, part):
    for path in (images / part / "bee").iterdir():
        path.unlink()
    word = {"train": "training", "val": "validation"}[part]
    with pytest.raises(OfaError, match=f"{word} has no image of 1 of 3 classes: bee; add images, or remove the class"):
        open_sources(f"imagefolder:{images}")


def test_hidden_folders_are_not_classes(images):
    image(images / "train" / ".trash" / "0.png", 1)
    assert open_sources(f"imagefolder:{images}")[0].classes == CLASSES


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": [0, 2]}, "labels 0 to 2 of 2 classes"),
        ({"labels": [-1, 0]}, "labels -1 to 0 of 2 classes"),
        ({"labels": [1, 1]}, "no image of 1 of 2 classes: a"),
        ({"offsets": [0, 5]}, "offsets"),
        ({"offsets": [0, 9, 5]}, "offsets"),
        ({"offsets": [0, 5, 10**9]}, "images to byte 1000000000"),
        ({"names": ["only"]}, "1 names of 2 images"),
        ({"names": "only"}, "all arrays must have one dimension"),
        ({"classes": "ab"}, "all arrays must have one dimension"),
        ({"data": np.zeros(9, np.float32)}, "data must be bytes"),
        ({"imagenet1k_index": [[1, 2]]}, "imagenet1k_index must be 2 whole numbers >= 0"),
        ({"imagenet1k_index": [1, -2]}, "imagenet1k_index must be 2 whole numbers >= 0"),
    ],
)
def test_inconsistent_arrays_are_refused(tmp_path, change, said):
    arrays = {"data": np.zeros(9, np.uint8), "offsets": [0, 5, 9], "labels": [1, 0], "classes": ["a", "b"], **change}
    np.savez(tmp_path / "x.npz", **{k: np.asarray(v) for k, v in arrays.items()})
    with pytest.raises(OfaError, match=said):
        open_sources(f"npz:{tmp_path / 'x.npz'},{tmp_path / 'x.npz'}")


def spoil(folder: Path) -> int:
    paths = list(folder.rglob("*.png"))
    for path in paths:
        path.write_bytes(b"not a picture")
    return len(paths)


@pytest.mark.parametrize(("part", "word", "n"), [("val", "validation", 6), ("train", "training", 24)])
@pytest.mark.parametrize("command", ["supernet", "evaluate"])
def test_only_unreadable_images_are_refused(capsys, tmp_path, weights, images, part, word, n, command):
    assert spoil(images / part) == n
    words = {"supernet": ["supernet", "--space", "tiny", "--out", tmp_path / "run"], "evaluate": ["evaluate", weights]}
    err = refused(capsys, *words[command], "--data", f"imagefolder:{images}")
    assert f"{word} has {n} images, and none can be read" in err
    assert "0.png: cannot identify image file" in err
    assert not (tmp_path / "run").exists()


def test_without_a_readable_image_there_is_no_accuracy(images):
    config = config_of(images)
    data = open_data(config)
    evaluator = data.evaluator(config, ALONE, held_out=True)
    for index in data.held_out:
        Path(data.train.name(int(index))).write_bytes(b"")
    net = Supernet(tiny().with_classes(3), seed=0)
    with pytest.raises(
        OfaError, match=r"^accuracy cannot be measured: no image could be read; 2 images cannot be decoded \(.*png"
    ):
        evaluator.accuracy(net, tiny().uniform(3, 3, 1, 24))
    for index in data.train_indices:
        Path(data.train.name(int(index))).write_bytes(b"")
    with pytest.raises(OfaError, match="calibration needs images, and got none; 10 images cannot be decoded"):
        data.evaluator(config, ALONE).accuracy(net, tiny().uniform(3, 3, 1, 24))


def test_a_step_without_readable_images_stops_and_names_them(images, tmp_path):
    config = config_of(images)
    data = open_data(config)
    spoil(images / "train")
    with pytest.raises(OfaError, match=r"^step 0 in phase one has 0 readable images of 4: 4 images cannot be decoded"):
        train_supernet(TrainingRun(config, data, tmp_path / "run"))


def test_some_unreadable_images_are_counted_by_evaluate(capsys, weights, images):
    (images / "val" / "bee" / "0.png").write_bytes(b"no")
    code, out, err = call(capsys, "evaluate", weights, "--data", f"imagefolder:{images}")
    assert code == 0
    assert out.splitlines()[1].endswith(" 5")
    assert "ofa-train: warning: 1 image cannot be decoded (" in err
