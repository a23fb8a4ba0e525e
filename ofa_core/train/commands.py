"""The work of the sub-commands of `ofa-train`, without printing."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ofa_core.arch import Arch
from ofa_core.backend_names import DTYPES
from ofa_core.errors import FormatError, OfaError
from ofa_core.formats.checkpoint import Checkpoint, read_checkpoint
from ofa_core.formats.net_config import read_member
from ofa_core.formats.preprocessing import Preprocessing
from ofa_core.formats.published_weights import (
    load_published,
    n_classes_of,
    read_specialised,
    read_state_dict,
)
from ofa_core.hub_index import item_with
from ofa_core.nn.subnet import SubNet
from ofa_core.nn.supernet import Supernet
from ofa_core.space import Space
from ofa_core.space_record import require_space
from ofa_core.spaces import get_space
from ofa_core.train.accuracy_table import Origin, check_table, planned_archs, shard_path, write_table
from ofa_core.train.config import Config, settings_of
from ofa_core.train.distributed import Process, process_group
from ofa_core.train.evaluation import Accuracy, Evaluator, standard_archs
from ofa_core.train.identity import class_difference, source_digest, weights_digest
from ofa_core.train.images import IMAGENET
from ofa_core.train.int8 import RangeSettings, ranges_of
from ofa_core.train.integer import IntegerNet
from ofa_core.train.new_classifier import with_new_classifier
from ofa_core.train.run import Data, open_data

__all__ = [
    "NAMED_PREPROCESSING",
    "Opened",
    "Request",
    "check_classes",
    "evaluate_standard",
    "load_weights",
    "named_preprocessing",
    "net_for",
    "open_checkpoint",
    "opened",
    "subnet",
    "table_rows",
]

_log = logging.getLogger(__name__)

_OTHER_IMAGES = "give its own images as --data, or fine-tune with --new-classifier"

NAMED_PREPROCESSING = {
    "imagenet": IMAGENET,
    "half": Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct"),
    "half-crop": Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "crop"),
}


@dataclass(frozen=True)
class Request:
    """Weights and images, as a command line names them.

    Attributes:
        weights: the checkpoint, see `load_weights`.
        images: see `ofa_core.train.sources.open_sources`.
        space: expected search space; required for a published file.
        preprocessing: name in `NAMED_PREPROCESSING`; required for a published file.
        workers: number of processes that decode images.
        settings: other settings; None takes defaults that suit the images.
        held_out: number of training images to hold out; None takes that of the settings.
        check_labels: False for a command that uses no labels. Then only a supernet that holds class names, whose
            sub-nets are calibrated on the images, is compared with them.
        new_classifier: True to replace the classifier by one with initial weights for the classes of the images.
    """

    weights: Path
    images: str = "digits"
    space: Space | None = None
    preprocessing: str | None = None
    workers: int = 0
    settings: Config | None = None
    held_out: int | None = None
    check_labels: bool = True
    new_classifier: bool = False


@dataclass(frozen=True)
class Opened:
    """A checkpoint and the images to use it with.

    Attributes:
        checkpoint: its network is on the process's device.
        config: settings with the checkpoint's own preprocessing.
        data: the images.
        evaluator: on the validation images.
        process: this process among all.
    """

    checkpoint: Checkpoint
    config: Config
    data: Data
    evaluator: Evaluator
    process: Process


def open_checkpoint(request: Request, process: Process) -> Opened:
    """Open a checkpoint and images.

    Raises:
        OfaError: if the classes of the images are not those of the checkpoint; and as `load_weights`.
    """
    settings = request.settings or settings_of(None, request.images)
    held_out = settings.data.held_out if request.held_out is None else request.held_out
    images = replace(settings.data, source=request.images, workers=request.workers, held_out=held_out)
    settings = replace(settings, data=images)
    data = cache(lambda: open_data(settings))
    checkpoint = load_weights(request.weights, request.space, request.preprocessing)
    if request.new_classifier:
        checkpoint = with_new_classifier(checkpoint, data().val.classes, settings.run.seed)
    calibrates = isinstance(checkpoint.net, Supernet) and checkpoint.classes is not None
    if request.check_labels or calibrates:
        check_classes(checkpoint, data().val.classes, request.weights, request.images)
    checkpoint.net.to(process.device)
    config = replace(settings, preprocessing=checkpoint.preprocessing)
    return Opened(checkpoint, config, data(), data().evaluator(config, process), process)


@contextmanager
def opened(request: Request, device: str) -> Iterator[Opened]:
    """Open a checkpoint and images in this process; warn at the end of images that could not be decoded."""
    with process_group(device) as process:
        found = open_checkpoint(request, process)
        yield found
        if found.data.unreadable.names:
            _log.warning("%s; they are left out", found.data.unreadable.summary())


def load_weights(path: Path, space: Space | None, preprocessing: str | None) -> Checkpoint:
    """Read a checkpoint of this project, or a published supernet.

    Args:
        path: the file, or the folder of a specialised net (`net.config`, `run.config` and `init`).
        space: the expected space; a published file does not hold it, but the hub has it for its own files.
        preprocessing: name in `NAMED_PREPROCESSING`; as the space.

    Raises:
        FormatError: for any other file.
        OfaError: if a published file comes without a space or preprocessing.
        SpaceError: for a checkpoint of another space; the number of classes may differ.
    """
    if path.is_dir():
        return _load_specialised(path, space, preprocessing)
    try:
        read = read_checkpoint(path)
    except FormatError as error:
        if "published state dict" not in str(error):
            raise
    else:
        if space is not None:
            require_space(read.space.with_classes(space.n_classes), space, path)
        return read
    how = named_preprocessing(preprocessing, path)
    space = space or _published_space(path)
    state = read_state_dict(path)
    member = space.with_classes(n_classes_of(state) or space.n_classes)
    net = Supernet(member)
    load_published(net, state, str(path))
    return Checkpoint(net.eval(), member, None, how)


def _load_specialised(folder: Path, space: Space | None, preprocessing: str | None) -> Checkpoint:
    """Read the folder of a specialised net, as published, or as `ofa-train export` writes it."""
    weights = folder / "init"
    how = named_preprocessing(preprocessing, weights)
    member, arch = read_member(folder, space)
    return Checkpoint(read_specialised(folder, weights)[0], member, arch, how)


def _published_space(path: Path) -> Space:
    """Return the space of a published supernet that the hub lists."""
    item = item_with(path)
    if item is None or item.space is None:
        raise OfaError(f"{path} is a published state dict, which does not hold its search space; give --space")
    return get_space(item.space)


def named_preprocessing(name: str | None, weights: Path) -> Preprocessing:
    """Return the preprocessing of this name, for weights that do not hold theirs; None is that of the hub's index.

    Raises:
        OfaError: for an unknown name, or no name for a file that the hub does not list.
    """
    known = ", ".join(NAMED_PREPROCESSING)
    if name is None:
        item = item_with(weights)
        name = None if item is None else item.preprocessing
    if name is None:
        raise OfaError(f"{weights} does not hold its preprocessing; give --preprocessing, one of {known}")
    if name not in NAMED_PREPROCESSING:
        raise OfaError(f"unknown preprocessing {name!r}; choose one of {known}")
    return NAMED_PREPROCESSING[name]


def check_classes(checkpoint: Checkpoint, classes: tuple[str, ...], weights: Path, images: str) -> None:
    """Compare the classes of images with those of a checkpoint; by number only if it holds no names.

    Raises:
        OfaError: with the difference.
    """
    own = checkpoint.space.n_classes
    if checkpoint.classes is None and own != len(classes):
        raise OfaError(f"{weights} has {own} classes, and {images} has {len(classes)}; {_OTHER_IMAGES}")
    if checkpoint.classes is not None and checkpoint.classes != classes:
        difference = class_difference(checkpoint.classes, classes)
        raise OfaError(f"{weights} was trained on other classes than those of {images}: {difference}; {_OTHER_IMAGES}")


def net_for(checkpoint: Checkpoint, arch: Arch | None, evaluator: Evaluator) -> tuple[SubNet, Arch]:
    """Return the checkpoint's own sub-net, or one of its supernet, calibrated.

    Raises:
        OfaError: for a supernet without an architecture, or a sub-net with another one.
    """
    if isinstance(checkpoint.net, SubNet):
        assert checkpoint.arch is not None
        if arch is not None and arch != checkpoint.arch:
            raise OfaError(f"the checkpoint holds the sub-net {checkpoint.arch}, not {arch}")
        return checkpoint.net, checkpoint.arch
    if arch is None:
        raise OfaError("the checkpoint is a supernet; give the sub-net as an arch.json")
    return evaluator.calibrated(checkpoint.net, arch), arch


def subnet(checkpoint: Checkpoint, arch: Arch, evaluator: Evaluator) -> SubNet:
    """Return a supernet's sub-net, calibrated; or the checkpoint's own sub-net, at any image size."""
    return checkpoint.net if isinstance(checkpoint.net, SubNet) else evaluator.calibrated(checkpoint.net, arch)


def evaluate_standard(
    net: Supernet, evaluator: Evaluator, archs: dict[str, Arch] | None = None
) -> Iterator[tuple[str, Arch, Accuracy]]:
    """Calibrate and evaluate the standard sub-nets, or the given ones."""
    chosen = standard_archs(net.space) if archs is None else archs
    for name, arch in chosen.items():
        yield name, arch, evaluator.accuracy(net, arch)


def table_rows(
    opened: Opened,
    out: Path,
    n_archs: int,
    seed: int,
    int8: RangeSettings | None = None,
    on_result: Callable[[Accuracy], object] = lambda _: None,
) -> Iterator[tuple[int, int]]:
    """Write an accuracy table of `n_archs` random sub-nets on the held-out training images.

    Each process measures the sub-nets of its share alone, and passes each result to `on_result`.

    Args:
        opened: the supernet and the images.
        out: the table.
        n_archs: number of sub-nets.
        seed: of the sub-nets.
        int8: how ranges are found, to measure the sub-nets in int8; None measures them in float32.
        on_result: called with each result.

    Yields:
        (done, total) of this process.
    """
    net, space, process = opened.checkpoint.net, opened.checkpoint.space, opened.process
    if not isinstance(net, Supernet):
        raise OfaError("an accuracy table needs a supernet, and the checkpoint is a sub-net")
    origin = table_origin(opened, int8)
    check_table(out, space, origin)  # with several processes, the table that their files replace
    single = Process(0, 1, process.device)
    evaluator = opened.data.evaluator(opened.config, single, held_out=True)

    def top1_of(arch: Arch) -> tuple[float, int]:
        if int8 is None:
            result = evaluator.accuracy(net, arch)
        else:
            sub = evaluator.calibrated(net, arch)
            ranges = ranges_of(sub, arch.resolution_px, evaluator, int8)
            result = evaluator.measure(IntegerNet.of(sub, ranges), arch.resolution_px)
        on_result(result)
        return result.top1, result.n_images

    own = planned_archs(space, n_archs, seed)[process.rank :: process.world]
    yield from write_table(shard_path(out, process.rank, process.world), space, own, top1_of, origin)


def table_origin(opened: Opened, int8: RangeSettings | None = None) -> Origin:
    """Return what an accuracy table depends on: the weights, the held-out and calibration images, and the dtype."""
    data, config = opened.data, opened.config
    parts = (
        source_digest(data.train, data.held_out),
        source_digest(data.train, data.train_indices),
        config.data.n_calibration,
        config.augmentation,
    )
    images = hashlib.sha256(repr(parts).encode()).hexdigest()
    weights = weights_digest(opened.checkpoint.net, config.preprocessing)
    return Origin(weights, images) if int8 is None else Origin(weights, images, DTYPES["int8"], int8.note)
