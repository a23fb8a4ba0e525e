"""Plan a session: blocks and whole networks as items, in chunks that fit the device's memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.errors import OfaError
from ofa_core.genomes import sample_arch
from ofa_core.space import Space

__all__ = [
    "N_ANCHORS",
    "PROBE",
    "PROBE_RUNS",
    "BlockItem",
    "Item",
    "NetworkItem",
    "Plan",
    "make_plan",
    "reference_archs",
]

# The speed probe (docs/adr/0003): an ordinary block, run before and after every visit.
PROBE = BlockSpec("mbconv", 10, 10, 80, 320, 80, 5, 1, "h_swish", se=False, shortcut=True)
PROBE_RUNS = (3, 3)  # discarded runs (a whole network before it leaves the caches cold), and timed runs

N_ANCHORS = 4  # whole networks that are in every chunk, if there are several chunks
_ITEM_BYTES = 1_000_000  # of a loaded model without its tensors


@dataclass(frozen=True, slots=True)
class BlockItem:
    """One building block to measure."""

    block: BlockSpec

    @property
    def id(self) -> str:
        """Name in a journal: all properties of the block, so that it is the same in every plan."""
        b = self.block
        flags = f"{'se' if b.se else ''}{'+' if b.shortcut else ''}"
        return f"{b.op}/{b.in_px}-{b.out_px}/{b.in_c}-{b.mid_c}-{b.out_c}/k{b.kernel_px}s{b.stride}/{b.act}/{flags}"

    @property
    def label(self) -> str:
        """Name in messages."""
        return self.block.label()

    @property
    def memory_bytes(self) -> int:
        """Rough upper bound of the loaded model's memory."""
        return _memory_bytes([self.block])


@dataclass(frozen=True, slots=True)
class NetworkItem:
    """One whole network to measure."""

    space: Space
    arch: Arch

    @property
    def id(self) -> str:
        """Name in a journal."""
        return f"net/{self.space.name}/{self.arch}"

    @property
    def label(self) -> str:
        """Name in messages."""
        return f"network {self.arch}"

    @property
    def memory_bytes(self) -> int:
        """Rough upper bound of the loaded model's memory."""
        return _memory_bytes(self.space.blocks(self.arch))


Item = BlockItem | NetworkItem


@dataclass(frozen=True, slots=True)
class Plan:
    """Items in order, and the chunks that are loaded together.

    Attributes:
        items: all items to measure, each once.
        chunks: indices into `items`; every chunk holds the anchors.
        anchors: indices of the networks in every chunk; all networks if there is one chunk.
    """

    items: tuple[Item, ...]
    chunks: tuple[tuple[int, ...], ...]
    anchors: tuple[int, ...]


def make_plan(
    blocks: Iterable[BlockSpec],
    networks: Sequence[NetworkItem],
    rng: np.random.Generator,
    *,
    memory_bytes: int = 2_000_000_000,
) -> Plan:
    """Order the items and divide them into chunks.

    Blocks are spread over the chunks at random, so that a disturbance of one chunk affects all kinds of blocks equally.

    Args:
        blocks: blocks to measure; repetitions are dropped.
        networks: whole networks to measure with them.
        rng: source of randomness.
        memory_bytes: upper bound of the estimated memory of models loaded together.

    Raises:
        OfaError: if there is nothing to measure.
    """
    items: list[Item] = [*(BlockItem(b) for b in dict.fromkeys(blocks)), *dict.fromkeys(networks)]
    if not items:
        raise OfaError("nothing to measure: no blocks and no networks")
    n_networks = sum(isinstance(item, NetworkItem) for item in items)
    first_network = len(items) - n_networks
    total = sum(item.memory_bytes for item in items)
    if total <= memory_bytes:
        return Plan(tuple(items), (tuple(range(len(items))),), tuple(range(first_network, len(items))))

    anchors = tuple(range(first_network, min(first_network + N_ANCHORS, len(items))))
    anchor_bytes = sum(items[i].memory_bytes for i in anchors)
    room = max(memory_bytes - anchor_bytes, 1)
    rest = [i for i in range(len(items)) if i not in anchors]
    n_chunks = max(1, -(-(total - anchor_bytes) // room))
    bins: list[list[int]] = [[] for _ in range(n_chunks)]
    filled = [0] * n_chunks
    for i in rng.permutation(rest).tolist():
        emptiest = filled.index(min(filled))
        bins[emptiest].append(i)
        filled[emptiest] += items[i].memory_bytes
    return Plan(tuple(items), tuple(tuple(sorted(chunk)) + anchors for chunk in bins if chunk), anchors)


def reference_archs(
    space: Space, resolutions: Sequence[int], n: int, rng: np.random.Generator, avoid: Iterable[Arch] = ()
) -> list[Arch]:
    """Draw different sub-nets at random, evenly over the resolutions.

    Args:
        space: space of the sub-nets.
        resolutions: input sizes in pixels, used in turn.
        n: number of sub-nets.
        rng: source of randomness.
        avoid: sub-nets to leave out, at any resolution.

    Raises:
        OfaError: if the space has fewer sub-nets.
    """
    taken = {arch.at(0) for arch in avoid}
    n_left = space.n_subnets - len(taken)
    if n > n_left:
        remedy = f"ask for at most {n_left} with --nets" if n_left else "all are in the table's networks file"
        raise OfaError(f"only {n_left} distinct sub-nets of {space.name} are left ({n} requested): {remedy}")
    out: list[Arch] = []

    def add(arch: Arch) -> None:
        if arch.at(0) not in taken:
            taken.add(arch.at(0))
            out.append(arch)

    for _ in range(100 * n):
        if len(out) == n:
            break
        add(sample_arch(space, rng, [resolutions[len(out) % len(resolutions)]]))
    if len(out) < n:  # the space is small, or the draws would have found enough
        every = list(_all_archs(space))
        for i in rng.permutation(len(every)):
            if len(out) < n:
                add(every[i].at(resolutions[len(out) % len(resolutions)]))
    return out


def _all_archs(space: Space) -> Iterator[Arch]:
    """Yield each sub-net of a small space once, at its smallest resolution."""
    for depths in product(*(stage.depths for stage in space.stages)):
        for pairs in product(space.choices, repeat=sum(depths)):
            yield Arch(depths, tuple(k for k, _ in pairs), tuple(e for _, e in pairs), space.resolutions[0])


def _memory_bytes(blocks: Sequence[BlockSpec]) -> int:
    weights = 4 * sum(block.params for block in blocks)
    # Runtimes keep a repacked copy of the weights; feature maps reuse their memory within a network.
    return _ITEM_BYTES + 2 * weights + 4 * max(block.activation_elements for block in blocks)
