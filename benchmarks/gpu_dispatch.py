"""Compare a timer of the dispatch alone with ours, which waits for the result, on LiteRT's GPU accelerator.

    python benchmarks/gpu_dispatch.py

For networks of increasing size the script prints three medians: `litert-benchmark` of the installed ai-edge-litert,
which times the call that queues the work; the backend `litert-gpu`; and the CPU backend `tflite`, one thread. A timer
that measures inference grows with the multiply-accumulates, so the last lines give the rank correlations with them.

The GPU is the one that Vulkan finds. For the software GPU of Debian's chromium package:

    VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json python benchmarks/gpu_dispatch.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np

from devices.local import LocalDevice
from ofa_core.arch import Arch
from ofa_core.calibration import spearman
from ofa_core.export.tflite import arch_tflite
from ofa_core.space import Space
from ofa_core.spaces import get_space
from profiler.agent_runner import AgentRunner
from profiler.runner import Visit

RUNS, WARMUP = 8, 2


def networks() -> list[tuple[Space, Arch]]:
    """Return networks from small to large."""
    tiny, mobile = get_space("tiny"), get_space("mbv3-w1.0")
    small = [(tiny, tiny.smallest(24)), (tiny, tiny.largest(24)), (tiny, tiny.largest(32))]
    return [*small, (mobile, mobile.smallest(128)), (mobile, mobile.smallest(160)), (mobile, mobile.smallest(192))]


def claimed_ms(model: Path) -> float:
    """Return the median that litert-benchmark prints."""
    out = model.with_suffix(".json")
    command = ["-m", "ai_edge_litert.tools.benchmark_litert_model", f"--model={model}", "--use_gpu", "--no_cpu"]
    options = ["--require_full_delegation", f"--num_runs={RUNS}", f"--warmup_runs={WARMUP}", f"--result_json={out}"]
    subprocess.run([sys.executable, *command, *options], check=True, capture_output=True)
    return float(json.loads(out.read_text())["latency"]["median_ms"])


def measured_ms(runner: AgentRunner, model: Path) -> float:
    """Return the median of an agent's runs."""
    handle = runner.load(model, threads=1, cpus=None)
    [result] = runner.run([Visit(handle, WARMUP, RUNS)])
    runner.unload(handle)
    return float(np.median(result.wall_ns)) / 1e6


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, LocalDevice() as device:
        gpu, cpu = AgentRunner(device, "litert-gpu"), AgentRunner(device, "tflite")
        with closing(gpu), closing(cpu):
            print(f"GPU: {gpu.open().backend_version}; CPU: {cpu.open().backend_version}")
            print("network            M MACs  litert-benchmark ms  litert-gpu ms  ratio  tflite ms")
            rows = []
            for i, (space, arch) in enumerate(networks()):
                model = Path(folder, f"{i}.tflite")
                model.write_bytes(arch_tflite(space, arch))
                row = (space.macs(arch) / 1e6, claimed_ms(model), measured_ms(gpu, model), measured_ms(cpu, model))
                rows.append(row)
                name = f"{space.name} {arch.resolution_px} px"
                print(
                    f"{name:17} {row[0]:7.1f} {row[1]:20.3f} {row[2]:14.1f} {row[2] / row[1]:6.0f} {row[3]:10.2f}",
                    flush=True,
                )
    macs, claims, ours, _ = (np.array(column) for column in zip(*rows, strict=True))
    print(f"rank correlation with MACs: litert-benchmark {spearman(macs, claims):.2f}, ours {spearman(macs, ours):.2f}")


if __name__ == "__main__":
    main()
