"""Run the main job from end to end on this machine's CPU, with the commands that a user types.

    python tools/demo.py --out demo

1. `ofa-profile` measures the building blocks of mbv3-w1.0 at three resolutions, and 24 whole networks.
2. `ofa-profile verify` measures 20 sub-nets that were not used for calibration, in new processes.
3. `ofa-search --measure local` searches at a limit in the middle of the device's range, measures the candidates near
   the limit, corrects the calibration, and stops when the winner's measured latency is within the limit.

The folder then holds the table, the winner (architecture and ONNX file) and `report.html`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from ofa_core.arch_json import write_arch
from ofa_core.spaces import get_space

UNSTABLE = 3  # exit code: measured, but not stable. The demo prints this and continues.


def run(command: list[str], *, may_be_unstable: bool = False, quiet: bool = False) -> str:
    """Print a command, run it with its progress on stderr, and return its stdout."""
    if not quiet:
        print(f"\n$ {shlex.join(command)}", flush=True)
    program = str(Path(sys.executable).with_name(command[0]))
    stderr = subprocess.DEVNULL if quiet else None
    done = subprocess.run([program, *command[1:]], stdout=subprocess.PIPE, stderr=stderr)
    text = done.stdout.decode()
    if not quiet:
        print(text, end="", flush=True)
    if done.returncode == UNSTABLE and may_be_unstable:
        print("(the machine was not quiet; the figures are less certain)", flush=True)
    elif done.returncode:
        raise SystemExit(done.returncode)
    return text


def feasible_ms(table: Path, folder: Path) -> tuple[float, float]:
    """Return the predicted latency of the smallest sub-net at 160 px, and of the largest at 224 px."""
    space = get_space("mbv3-w1.0")
    out = []
    for name, arch in (("smallest", space.smallest(160)), ("largest", space.largest(224))):
        path = folder / f"{name}.json"
        write_arch(path, arch, space)
        answer = json.loads(run(["ofa-predict", str(path), "--lut", str(table), "--json"], quiet=True))
        out.append(float(answer["predictions"][0]["latency_ms"]))
    return out[0], out[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for all results (default: %(default)s)")
    parser.add_argument("--profile-s", type=int, default=200, help="seconds for profiling (default: %(default)s)")
    parser.add_argument("--verify-s", type=int, default=70, help="seconds for verifying (default: %(default)s)")
    options = parser.parse_args()
    started = time.monotonic()
    folder = options.out
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "local-onnxruntime.csv"

    profile = ["ofa-profile", "--target", "local", "--resolutions", "160,192,224"]
    run([*profile, "--budget-s", str(options.profile_s), "--out", str(table)], may_be_unstable=True)
    run(["ofa-profile", "verify", "--lut", str(table), "--nets", "20", "--budget-s", str(options.verify_s)])
    low, high = feasible_ms(table, folder)
    limit = round((low * high) ** 0.5, 1)
    print(f"\nThis CPU runs the family in {low:.1f} to {high:.1f} ms; the limit for the search is {limit} ms.")
    search = ["ofa-search", "--lut", str(table), "--max-latency-ms", str(limit), "--measure", "local"]
    run([*search, "--out", str(folder)])
    print(f"\n{time.monotonic() - started:.0f} s in all. Open {folder / 'report.html'} in a browser.")


if __name__ == "__main__":
    main()
