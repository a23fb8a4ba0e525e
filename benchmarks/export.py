"""How long files take to write, against torch's exporter, and how far the two formats are apart.

    python benchmarks/export.py [--resolutions 160,192,224]

Prints CPU milliseconds per block and per whole net for ONNX and TFLite, random weights and serialisation included,
the ratio to `torch.onnx.export` of one block where torch is installed, and the largest difference between outputs of
one block's ONNX file and its TFLite file, as a part of the largest output.
"""

from __future__ import annotations

import argparse
import io
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnxruntime

from ofa_core.blocks import BlockSpec
from ofa_core.export.onnx import arch_model, block_model
from ofa_core.export.tflite import arch_tflite, block_tflite
from ofa_core.genomes import sample_arch
from ofa_core.spaces import get_space

EXAMPLE = BlockSpec("mbconv", 28, 28, 40, 240, 40, 5, 1, "h_swish", True, True)


def cpu_ms(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def report(what: str, times: Sequence[float]) -> None:
    print(
        f"{what:<34} median {np.median(times):7.2f} ms   p90 {np.percentile(times, 90):7.2f} ms   "
        f"all {len(times)}: {sum(times) / 1e3:.2f} s"
    )


def onnx_bytes(block: BlockSpec) -> bytes:
    return bytes(block_model(block).SerializeToString(deterministic=True))


def difference(block: BlockSpec) -> float:
    """Largest difference of the two files' outputs over the largest output."""
    from ai_edge_litert.interpreter import Interpreter

    shape = (1, block.in_c, block.in_px, block.in_px)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    session = onnxruntime.InferenceSession(onnx_bytes(block), providers=["CPUExecutionProvider"])
    want = session.run(None, {"input": x})[0]
    interpreter = Interpreter(model_content=block_tflite(block), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    got = got.transpose(0, 3, 1, 2) if got.ndim == 4 else got
    return float(np.abs(got - want).max() / np.abs(want).max())


def torch_export(block: BlockSpec) -> Callable[[], object]:
    """What exporting one expanding block with squeeze-and-excite through torch takes."""
    import torch
    from torch import nn

    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reduce = nn.Conv2d(block.mid_c, block.se_c, 1)
            self.expand = nn.Conv2d(block.se_c, block.mid_c, 1)

        def forward(self, x: Any) -> Any:
            y = nn.functional.adaptive_avg_pool2d(x, 1)
            return x * nn.functional.hardsigmoid(self.expand(nn.functional.relu(self.reduce(y))))

    k = block.kernel_px
    body = nn.Sequential(
        *(nn.Conv2d(block.in_c, block.mid_c, 1, bias=False), nn.BatchNorm2d(block.mid_c), nn.Hardswish()),
        nn.Conv2d(block.mid_c, block.mid_c, k, block.stride, k // 2, groups=block.mid_c, bias=False),
        *(nn.BatchNorm2d(block.mid_c), nn.Hardswish(), Gate()),
        *(nn.Conv2d(block.mid_c, block.out_c, 1, bias=False), nn.BatchNorm2d(block.out_c)),
    ).eval()
    x = torch.randn(1, block.in_c, block.in_px, block.in_px)
    return lambda: torch.onnx.export(body, (x,), io.BytesIO(), dynamo=False, opset_version=17)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the writers of ONNX and TFLite files.")
    parser.add_argument("--resolutions", default="160,192,224")
    parser.add_argument("--nets", type=int, default=8)
    options = parser.parse_args()
    resolutions = [int(text) for text in options.resolutions.split(",")]
    space = get_space("mbv3-w1.0")
    blocks = space.all_blocks(resolutions)
    nets = [sample_arch(space, np.random.default_rng(i), resolutions) for i in range(options.nets)]
    has_tflite = find_spec("ai_edge_litert") is not None

    print(f"mbv3-w1.0 at {options.resolutions}: {len(blocks)} blocks, {len(nets)} random nets")
    onnx_bytes(EXAMPLE)
    report("ONNX, one block", [cpu_ms(lambda b=b: onnx_bytes(b)) for b in blocks])
    report(
        "ONNX, one net",
        [cpu_ms(lambda a=a: arch_model(space, a).SerializeToString(deterministic=True)) for a in nets],
    )
    if has_tflite:
        block_tflite(EXAMPLE)
        report("TFLite, one block", [cpu_ms(lambda b=b: block_tflite(b)) for b in blocks])
        report("TFLite, one net", [cpu_ms(lambda a=a: arch_tflite(space, a)) for a in nets])
        worst = max(blocks, key=difference)
        print(f"largest ONNX-TFLite difference     {difference(worst):.1e} of the output, {worst.label()}")
    else:
        print("TFLite: skipped, ai-edge-litert is not installed")
    if find_spec("torch"):
        export = torch_export(EXAMPLE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls this exporter deprecated; it is its faster one
            export()
            theirs = float(np.median([cpu_ms(export) for _ in range(5)]))
        ours = float(np.median([cpu_ms(lambda: onnx_bytes(EXAMPLE)) for _ in range(25)]))
        print(f"torch.onnx.export, {EXAMPLE.label()}: {theirs:.1f} ms; ours {ours:.2f} ms, ratio {theirs / ours:.0f}")
    else:
        print("ratio to torch.onnx.export: skipped, torch is not installed")


if __name__ == "__main__":
    main()
