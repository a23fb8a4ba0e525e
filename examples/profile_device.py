"""Measure the blocks of the tiny space on this computer, and read the latency table.

    python examples/profile_device.py tiny.csv

Three rounds a process end in seconds. `Settings()` has the usual number.
"""

from __future__ import annotations

import sys
from pathlib import Path

from devices import open_device
from ofa_core.spaces import get_space
from predictors.loading import load_latency
from profiler.agent_runner import AgentRunner
from profiler.campaign import ProfileSpec, profile
from profiler.settings import Settings


def main(out: Path) -> None:
    space = get_space("tiny")
    settings = Settings(n_processes=3, budget_s=60, max_rounds=3)
    spec = ProfileSpec(
        space, resolutions=(28,), device="my computer", backend="onnxruntime", settings=settings, n_reference=6
    )
    with open_device("local") as device:
        result = profile(spec, AgentRunner(device, spec.backend), out)
    print(f"{len(result.table)} blocks and {len(result.networks)} networks in {out}")

    latency = load_latency(out, space)
    for arch in (space.smallest(28), space.largest(28)):
        print(f"{latency.predict([arch])[0]:.3f} ms  {arch}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
