"""How long `--help` of each command takes, against starting Python alone. Limit: half a second."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

LIMIT_S = 0.5
REPEATS = 7


def seconds(command: list[str]) -> float:
    """The median wall time of a command."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return sorted(times)[REPEATS // 2]


def main() -> None:
    bare = seconds([sys.executable, "-c", "pass"])
    print(f"{'python -c pass':12} {bare:.3f} s")
    for name in ("ofa-profile", "ofa-predict", "ofa-search", "ofa-train"):
        took = seconds([str(Path(sys.executable).with_name(name)), "--help"])
        print(f"{name:12} {took:.3f} s = {took / LIMIT_S:.2f} of the limit, {took / bare:.1f} x bare Python")


if __name__ == "__main__":
    main()
