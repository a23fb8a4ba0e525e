"""What the sub-commands of `ofa-train` do, without printing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.errors import FormatError, OfaError
from ofa_core.formats.checkpoint import Checkpoint, read_checkpoint
from ofa_core.formats.preprocessing import Preprocessing
from ofa_core.formats.published_weights import load_published, read_specialised, read_state_dict
from ofa_core.nn.subnet import SubNet
from ofa_core.nn.supernet import Supernet
from ofa_core.space import Space
from ofa_core.space_record import require_space
from ofa_core.train.accuracy_table import planned_archs, write_table
from ofa_core.train.batches import Loader
from ofa_core.train.config import Config, DataConfig, embedded
from ofa_core.train.distributed import Process
from ofa_core.train.evaluation import Accuracy, Evaluator, evaluate, standard_archs
from ofa_core.train.identity import class_difference
from ofa_core.train.images import IMAGENET
from ofa_core.train.run import Data, open_data
from ofa_core.train.sources import Source

__all__ = [
    "NAMED_PREPROCESSING",
    "Opened",
    "check_classes",
    "evaluate_standard",
    "evaluate_static",
    "load_weights",
    "net_for",
    "open_checkpoint",
    "table_rows",
]

NAMED_PREPROCESSING = {
    "imagenet": IMAGENET,
    "half": Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct"),
    "half-crop": Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "crop"),
}


def named_preprocessing(name: str | None, weights: Path) -> Preprocessing:
    """The preprocessing that the user named for a file that does not say it.

    Raises:
        OfaError: for none, or an unknown one.
    """
    known = ", ".join(NAMED_PREPROCESSING)
    if name is None:
        raise OfaError(f"{weights} does not say how its images were prepared; give --preprocessing, one of {known}")
    if name not in NAMED_PREPROCESSING:
        raise OfaError(f"preprocessing {name!r}: one of {known}")
    return NAMED_PREPROCESSING[name]


def load_weights(
    path: Path, space: Space | None, preprocessing: str | None, n_classes: Callable[[], int] | None = None
) -> Checkpoint:
    """A checkpoint of this project, or a published supernet whose space and preprocessing are named.

    Args:
        path: the file.
        space: the space that is expected; a published file does not say it.
        preprocessing: name of it, for a published file.
        n_classes: outputs of a published file's classifier; None is the space's own.

    Raises:
        FormatError: for a file that is neither.
        OfaError: where something that the file does not say was not named.
        SpaceError: for a checkpoint of another space; another number of classes is none.
    """
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
    if space is None:
        raise OfaError(f"{path} is a published state dict; name its search space with --space")
    member = space if n_classes is None else space.with_classes(n_classes())
    net = Supernet(member)
    load_published(net, read_state_dict(path), str(path))
    return Checkpoint(net.eval(), member, None, how)


@dataclass(frozen=True)
class Opened:
    """What a sub-command works with.

    Attributes:
        checkpoint: its network on the process's device.
        config: with the checkpoint's own preprocessing.
        data: the images.
        evaluator: on the validation images.
        process: this process among all.
    """

    checkpoint: Checkpoint
    config: Config
    data: Data
    evaluator: Evaluator
    process: Process


def open_checkpoint(
    weights: Path,
    source: str,
    process: Process,
    *,
    space: Space | None,
    preprocessing: str | None,
    workers: int,
    base: Config | None = None,
    held_out: int | None = None,
    check_labels: bool = True,
) -> Opened:
    """A checkpoint and images to use it with.

    Args:
        weights: see `load_weights`, as are `space` and `preprocessing`.
        source: the images; a published classifier has as many outputs as they have classes.
        process: this process among all.
        space: see `load_weights`, as is `preprocessing`.
        preprocessing: name of it, for a published file.
        workers: processes that decode.
        base: other settings; None is what suits the images.
        held_out: training images to set aside; None is the number in the settings.
        check_labels: False for a command that takes no labels: a supernet's sub-net is calibrated on the images, which
            are compared where the file names its classes; a sub-net is taken as it is.

    Raises:
        OfaError: for images of other classes than the checkpoint's.
    """
    config = base or (embedded() if source == "digits" else Config(data=DataConfig(source)))
    changes = {} if held_out is None else {"held_out": held_out}
    config = replace(config, data=replace(config.data, source=source, workers=workers, **changes))
    data = cache(lambda: open_data(config))
    checkpoint = load_weights(weights, space, preprocessing, lambda: len(data().val.classes))
    calibrates = isinstance(checkpoint.net, Supernet) and checkpoint.classes is not None
    if check_labels or calibrates:
        check_classes(checkpoint, data().val.classes, weights, source)
    checkpoint.net.to(process.device)
    config = replace(config, preprocessing=checkpoint.preprocessing)
    return Opened(checkpoint, config, data(), data().evaluator(config, process), process)


def check_classes(checkpoint: Checkpoint, classes: tuple[str, ...], weights: Path, source: str) -> None:
    """Refuse images of other classes than a checkpoint's; by number alone where the file holds no names.

    Raises:
        OfaError: with the difference.
    """
    if checkpoint.classes is None and checkpoint.space.n_classes != len(classes):
        own = checkpoint.space.n_classes
        raise OfaError(f"{weights} has {own} classes, the images of {source} have {len(classes)}: name its images")
    if checkpoint.classes is not None and checkpoint.classes != classes:
        difference = class_difference(checkpoint.classes, classes)
        raise OfaError(f"{weights} was trained on other classes than those of {source}: {difference}; name its images")


def net_for(checkpoint: Checkpoint, arch: Arch | None, evaluator: Evaluator) -> tuple[SubNet, Arch]:
    """The sub-net to work with: the checkpoint's own, or one of its supernet, calibrated.

    Raises:
        OfaError: for a supernet without an architecture, or a sub-net with another one.
    """
    if isinstance(checkpoint.net, SubNet):
        assert checkpoint.arch is not None
        if arch is not None and arch != checkpoint.arch:
            raise OfaError(f"the checkpoint holds {checkpoint.arch}, not {arch}")
        return checkpoint.net, checkpoint.arch
    if arch is None:
        raise OfaError("the checkpoint is a supernet; name the sub-net with an arch.json")
    return evaluator.calibrated(checkpoint.net, arch), arch


def evaluate_standard(
    net: Supernet, evaluator: Evaluator, archs: dict[str, Arch] | None = None
) -> Iterator[tuple[str, Arch, Accuracy]]:
    """Accuracies of the usual sub-nets, or of the given ones, each calibrated first."""
    chosen = standard_archs(net.space) if archs is None else archs
    for name, arch in chosen.items():
        yield name, arch, evaluator.accuracy(net, arch)


def evaluate_static(
    net_config: Path,
    weights: Path,
    how: Preprocessing,
    source: Source,
    workers: int,
    process: Process,
    resolution_px: int | None = None,
) -> Accuracy:
    """Accuracy of a published specialised net on a source.

    Raises:
        OfaError: where the network has more classes than the images, and the images do not say which they are; where
            neither `resolution_px` nor the files name the input size.
    """
    net, config = read_specialised(net_config, weights, resolution_px)
    index: NDArray[np.int64] | None = getattr(source, "imagenet1k_index", None)
    if index is None and len(source.classes) != config.n_classes:
        raise OfaError(f"the network has {config.n_classes} classes, the images have {len(source.classes)}")
    px = config.resolution_px
    if px is None:
        raise OfaError(f"{net_config} comes without an image size (run.config); give one, as by --resolution PX")
    indices = np.arange(len(source.labels))
    loader = Loader(source, indices, 64, (px,), how, workers=workers, rank=process.rank, world=process.world)
    net.to(process.device)
    return evaluate(net, loader.batches(), process, index, loader.unreadable)


def table_rows(
    opened: Opened, out: Path, n_archs: int, seed: int, on_result: Callable[[Accuracy], object] = lambda _: None
) -> Iterator[tuple[int, int]]:
    """Write an accuracy table: `n_archs` random sub-nets on the held-out training images.

    Every process measures whole sub-nets of its share by itself, and gives each result to `on_result`.

    Yields:
        (done, wanted) of this process.
    """
    net, space, process = opened.checkpoint.net, opened.checkpoint.space, opened.process
    if not isinstance(net, Supernet):
        raise OfaError("an accuracy table needs a supernet, and the checkpoint is a sub-net")
    alone = Process(0, 1, process.device)
    evaluator = opened.data.evaluator(opened.config, alone, held_out=True)

    def top1_of(arch: Arch) -> tuple[float, int]:
        result = evaluator.accuracy(net, arch)
        on_result(result)
        return result.top1, result.n_images

    archs = planned_archs(space, n_archs, seed)
    yield from write_table(out, space, archs, top1_of, rank=process.rank, world=process.world)
