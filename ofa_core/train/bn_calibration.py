"""Calibrate the batch norm statistics of a sub-net.

The statistics in a supernet are mixed from all sub-nets. A sub-net needs its own before it is used, and is near chance
without them (paper, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ofa_core.errors import OfaError
from ofa_core.nn.subnet import MBConv, SubNet

__all__ = ["calibrate"]


@torch.no_grad()
def calibrate(net: nn.Module, batches: Iterable[Tensor], *, all_ranks: bool = False) -> int:
    """Set the running statistics of every batch norm of `net` from images.

    As published: each batch is normalised with its own statistics, and the means and biased variances of all batches
    are averaged, weighted by batch size.

    Args:
        net: a sub-net; only its statistics change.
        batches: (n, 3, px, px) images in random order; sorted files would give batches of one class.
        all_ranks: average over all processes, each with its own share of the images.

    Returns:
        Number of images used, over all ranks.

    Raises:
        OfaError: without any image.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    saved = [(norm.momentum, norm.training) for norm in norms]
    sums = [torch.zeros(2, norm.num_features, dtype=torch.float64) for norm in norms]
    biased = [1.0] * len(norms)  # factors from torch's running variance to the biased one
    hooks = [norm.register_forward_pre_hook(partial(_record_factor, biased, i)) for i, norm in enumerate(norms)]
    was_training = net.training
    n_images = 0
    try:
        net.eval()  # dropout stays off
        for norm in norms:
            norm.train()
            norm.momentum = 1.0  # the running statistics become those of the last batch
        for images in batches:
            _forward(net, images)
            n_images += len(images)
            for total, norm, factor in zip(sums, norms, biased, strict=True):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                total += len(images) * torch.stack((norm.running_mean, norm.running_var * factor)).cpu()
    finally:
        for hook in hooks:
            hook.remove()
        for norm, (momentum, _) in zip(norms, saved, strict=True):
            norm.momentum = momentum
        net.train(was_training)
        for norm, (_, training) in zip(norms, saved, strict=True):
            norm.training = training
    return _apply(norms, sums, n_images, all_ranks=all_ranks)


def _record_factor(factors: list[float], index: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    n = inputs[0].numel() // inputs[0].shape[1]
    factors[index] = (n - 1) / n


def _forward(net: nn.Module, images: Tensor) -> None:
    """Run a network; a sub-net's expanding layers compute their statistics from the narrower input."""
    if not isinstance(net, SubNet):
        net(images)
        return
    x = images.contiguous(memory_format=torch.channels_last)
    n_normalised = 1 + max(i for i, spec in enumerate(net.blocks) if spec.op == "final_expand")
    for layer in net.layers[:n_normalised]:  # nothing after the last batch norm has statistics
        if isinstance(layer, MBConv) and layer.expand is not None and layer.expand_bn is not None:
            x = layer(x, _expanded(layer.expand, layer.expand_bn, x))
        else:
            x = layer(x)


def _expanded(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Return a 1x1 convolution normalised by its batch statistics, in one pass over its output.

    For y = W x the mean is W mean(x) and the variance diag(W cov(x) W^T), and x has a third to a sixth of the channels
    of y. So the statistics are computed from x, and the normalisation is folded into the weights.

    Args:
        conv: the convolution.
        norm: set to the batch's mean and biased variance.
        x: (n, in_c, px, px).

    Returns:
        (n, mid_c, px, px).
    """
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])  # (n * px * px, in_c)
    weight = conv.weight.flatten(1)  # (mid_c, in_c)
    mean = rows.mean(0)
    centred = rows - mean
    covariance = centred.t() @ centred / len(rows)
    mean, var = weight @ mean, ((weight @ covariance) * weight).sum(1).clamp_min(0)
    _set_statistics(norm, mean, var)
    scale = norm.weight * (var + norm.eps).rsqrt()
    return functional.conv2d(x, (weight * scale[:, None])[..., None, None], norm.bias - mean * scale)


def _apply(norms: list[nn.BatchNorm2d], sums: list[Tensor], n_images: int, *, all_ranks: bool) -> int:
    """Average the sums over all images (and ranks), and set the running statistics to the averages."""
    packed = torch.cat([torch.tensor([float(n_images)], dtype=torch.float64), *(s.flatten() for s in sums)])
    if all_ranks and torch.distributed.is_initialized():
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        packed = packed.to(device)
        torch.distributed.all_reduce(packed)
        packed = packed.cpu()
    total = packed[0].item()
    if not total:
        raise OfaError("batch norm calibration needs images, and got none")
    parts = torch.split(packed[1:], [s.numel() for s in sums])
    for norm, part in zip(norms, parts, strict=True):
        _set_statistics(norm, *(part / total).view(2, -1))
    return int(total)


def _set_statistics(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
