"""One process per device, started by torchrun; alone without it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ofa_core.errors import OfaError
from ofa_core.lock import only_one

__all__ = ["ALONE", "Process", "alone", "any_rank", "process_group", "sum_over_ranks", "wrapped"]


@dataclass(frozen=True)
class Process:
    """This process among all.

    Attributes:
        rank: its number.
        world: how many there are.
        device: `cpu` or `cuda:<n>`.
    """

    rank: int
    world: int
    device: str

    @property
    def is_root(self) -> bool:
        """Whether it writes the files."""
        return self.rank == 0


ALONE = Process(0, 1, "cpu")


@contextmanager
def process_group(device: str = "auto") -> Iterator[Process]:
    """Join the processes that torchrun started, with nccl on GPUs and gloo on CPUs.

    Args:
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.

    Yields:
        This process; alone where torchrun did not start it.

    Raises:
        OfaError: for a GPU that is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise OfaError(f"device {device!r}: one of auto, cpu, cuda")
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise OfaError("device 'cuda': torch sees no GPU here; use cpu")
    use_cuda = cuda and device != "cpu"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    name = f"cuda:{local}" if use_cuda else "cpu"
    if world == 1:
        yield Process(0, 1, name)
        return
    if use_cuda:
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if use_cuda else "gloo")
    try:
        yield Process(distributed.get_rank(), distributed.get_world_size(), name)
    finally:
        distributed.destroy_process_group()


def alone(path: Path, process: Process) -> AbstractContextManager[None]:
    """The lock of what a command writes while it runs; the first of several processes holds it for all."""
    return only_one(path) if process.is_root else nullcontext()


def wrapped(net: nn.Module, process: Process) -> nn.Module:
    """The network as it is called in training: with gradients averaged over processes where there are several.

    Sub-nets leave parameters unused, other ones in each step, so those are searched for; batch norm statistics are not
    exchanged, since every sub-net is calibrated before use.
    """
    if process.world == 1:
        return net
    return DistributedDataParallel(net, find_unused_parameters=True, broadcast_buffers=False)


def sum_over_ranks(values: Tensor, process: Process) -> Tensor:
    """The sum of a tensor over all processes, on each of them."""
    if process.world == 1:
        return values
    summed = values.to(process.device)
    distributed.all_reduce(summed)
    return summed.to(values.device)


def any_rank(flag: bool, process: Process) -> bool:
    """Whether `flag` holds on any process; the same answer on all."""
    return bool(sum_over_ranks(torch.tensor(float(flag)), process))
