"""Several processes, one per device, started by torchrun; a single process without it."""

from __future__ import annotations

import logging
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

__all__ = ["ALONE", "Process", "alone", "any_rank", "process_group", "sum_over_ranks", "wait_for_all", "wrapped"]


@dataclass(frozen=True)
class Process:
    """One of the processes of a run.

    Attributes:
        rank: its number.
        world: number of processes.
        device: `cpu` or `cuda:<n>`.
    """

    rank: int
    world: int
    device: str

    @property
    def is_root(self) -> bool:
        """True for the process that writes files and messages."""
        return self.rank == 0


ALONE = Process(0, 1, "cpu")


@contextmanager
def process_group(device: str = "auto") -> Iterator[Process]:
    """Join the processes that torchrun started, with nccl on GPUs and gloo on CPUs.

    All but the first process drop warnings, which would appear once per process.

    Args:
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.

    Yields:
        This process; a single one without torchrun.

    Raises:
        OfaError: for an unknown device, or a GPU that is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise OfaError(f"unknown device {device!r}; choose one of auto, cpu, cuda")
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise OfaError("device 'cuda': torch finds no GPU here; use cpu")
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
    process = Process(distributed.get_rank(), distributed.get_world_size(), name)
    if not process.is_root:
        logging.disable(logging.WARNING)
    try:
        yield process
    finally:
        logging.disable(logging.NOTSET)
        distributed.destroy_process_group()


def alone(path: Path, process: Process) -> AbstractContextManager[None]:
    """Return the lock of an output; the first process holds it for all."""
    return only_one(path) if process.is_root else nullcontext()


def wrapped(net: nn.Module, process: Process) -> nn.Module:
    """Return the network to call in training; with several processes it averages their gradients.

    Each sub-net leaves other parameters unused, so they are searched for in each step. Batch norm statistics are not
    exchanged, since every sub-net is calibrated before use.
    """
    if process.world == 1:
        return net
    return DistributedDataParallel(net, find_unused_parameters=True, broadcast_buffers=False)


def sum_over_ranks(values: Tensor, process: Process) -> Tensor:
    """Return the sum of a tensor over all processes, the same on each."""
    if process.world == 1:
        return values
    summed = values.to(process.device)
    distributed.all_reduce(summed)
    return summed.to(values.device)


def any_rank(flag: bool, process: Process) -> bool:
    """Return True on all processes if `flag` is True on any of them."""
    return bool(sum_over_ranks(torch.tensor(float(flag)), process))


def wait_for_all(process: Process) -> None:
    """Wait until every process is here."""
    any_rank(False, process)
