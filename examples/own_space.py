"""Plan, predict and search in a search space of your own.

    python examples/own_space.py examples/own_space.toml

The latencies are made up, so that no device is needed: 0.01 ms a block and 0.1 ms per million MACs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ofa_core.search.run import most_accurate, search
from ofa_core.space_files import read_space
from ofa_core.table import Context, Entry, LatencyTable
from predictors.accuracy import MacsProxy
from predictors.lut import LutPredictor
from profiler.plan import NetworkItem, make_plan, reference_archs


def main(space_file: Path) -> None:
    space = read_space(space_file)
    print(f"{space.name}: {space.size:,} networks")

    rng = np.random.default_rng(0)
    blocks = space.all_blocks(space.resolutions)
    networks = [NetworkItem(space, arch) for arch in reference_archs(space, space.resolutions, 8, rng)]
    plan = make_plan(blocks, networks, rng, memory_bytes=100_000_000)
    print(f"a profile measures {len(plan.items)} items: {len(blocks)} blocks and {len(networks)} networks")

    made_up = {(None, block): Entry(0.01 + block.macs / 1e7) for block in blocks}
    latency = LutPredictor(space).fit(LatencyTable(Context(device="made up"), made_up))
    arch = space.largest(48)
    print(f"largest network: {latency.predict([arch])[0]:.3f} ms")

    result = search(most_accurate(space, latency, MacsProxy(space), limit_ms=1.0))
    print(f"most MACs within 1 ms: {result.best.macs / 1e6:.1f} million, {result.best.latency_ms:.3f} ms")
    print(result.best.arch)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
