"""Published specialised networks: `net.config` and weights, with images to evaluate and calibrate on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_core.errors import OfaError
from ofa_core.formats.published_weights import read_specialised
from ofa_core.nn.subnet import SubNet
from ofa_core.train.commands import Request, named_preprocessing
from ofa_core.train.distributed import Process
from ofa_core.train.evaluation import Evaluator
from ofa_core.train.sources import open_sources

__all__ = ["open_published"]

BATCH_SIZE = 64


def open_published(
    net_config: Path, request: Request, process: Process, resolution_px: int | None = None
) -> tuple[SubNet, int, Evaluator]:
    """Open a published specialised net and images.

    Args:
        net_config: its net.config, or the folder that holds it.
        request: weights, images, preprocessing and workers.
        process: this process among all.
        resolution_px: input size; None takes that of the files.

    Returns:
        The network in evaluation mode on the process's device, its input size, and an evaluator on the validation
        images, with the training images for calibration.

    Raises:
        OfaError: if the numbers of classes differ and the images hold no ImageNet indices, or if the input size is
            unknown.
    """
    how = named_preprocessing(request.preprocessing, request.weights)
    train, images = open_sources(request.images)
    net, config = read_specialised(net_config, request.weights, resolution_px)
    index: NDArray[np.int64] | None = getattr(images, "imagenet1k_index", None)
    if index is None and len(images.classes) != config.n_classes:
        raise OfaError(f"the network has {config.n_classes} classes, and the images have {len(images.classes)}")
    if index is not None and index.max(initial=0) >= config.n_classes:
        raise OfaError(f"imagenet1k_index goes to {index.max()}, and the network has {config.n_classes} classes")
    px = config.resolution_px
    if px is None:
        raise OfaError(f"{net_config} comes without an image size (run.config); give --resolution PX")
    evaluator = Evaluator(
        images,
        np.arange(len(images.labels)),
        train,
        np.arange(len(train.labels)),
        how,
        batch_size=BATCH_SIZE,
        workers=request.workers,
        process=process,
        class_index=index,
    )
    net.to(process.device)
    return net, px, evaluator
