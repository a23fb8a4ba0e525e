"""Replace the classifier of trained weights, to fine-tune them on images of other classes."""

from __future__ import annotations

from dataclasses import replace

from ofa_core.blocks import BlockSpec
from ofa_core.formats.checkpoint import Checkpoint
from ofa_core.nn.initial import initialise
from ofa_core.nn.mbconv import Classifier
from ofa_core.nn.supernet import Supernet

__all__ = ["with_new_classifier"]


def with_new_classifier(checkpoint: Checkpoint, classes: tuple[str, ...], seed: int = 0) -> Checkpoint:
    """Return a checkpoint whose classifier has initial weights and one output per class; its network is changed.

    Args:
        checkpoint: a supernet or a sub-net.
        classes: names of the outputs, in order.
        seed: seed of the initial weights.
    """
    net, space = checkpoint.net, checkpoint.space.with_classes(len(classes))
    if isinstance(net, Supernet):
        net.space = space
        spec: BlockSpec = space.blocks(space.largest())[-1]
    else:
        spec = replace(net.blocks[-1], out_c=len(classes))
        net.blocks = (*net.blocks[:-1], spec)
    classifier = Classifier(spec)
    initialise(classifier, seed)
    net.layers[-1] = classifier
    return Checkpoint(net.eval(), space, checkpoint.arch, checkpoint.preprocessing, classes)
