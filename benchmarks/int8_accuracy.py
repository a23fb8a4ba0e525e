"""Quantise a real ImageNet network after training, and run it in torch, LiteRT and onnxruntime on real photos.

Prints the seconds of finding the ranges, the photos that each runtime classifies as their label, and how often two
runtimes choose the same class. The network and the photos are those of `OFA_REFERENCE_DATA` (docs/formats.md). The
ranges come from some of these photos, without their labels, since no training images are stored there.

    OMP_NUM_THREADS=1 python benchmarks/int8_accuracy.py [--ranges minmax] [--range-images 256] [--photos 3925]
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ofa_core.export.network_ranges import Ranges
from ofa_core.export.quantisation import Grid, input_grid
from ofa_core.nn.subnet import SubNet
from ofa_core.train.commands import Request
from ofa_core.train.distributed import ALONE
from ofa_core.train.int8 import RangeSettings, ranges_of
from ofa_core.train.integer import IntegerNet
from ofa_core.train.published import open_published
from ofa_core.train.ranges import METHODS
from ofa_core.train.writing import Finished, writer_of

NET, PHOTOS = "proxyless-w0.3-r176_imagenet", "imagenette224_val.npz"
Classify = Callable[[NDArray[np.float32]], NDArray[np.int64]]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranges", choices=METHODS, default="minmax")
    parser.add_argument("--range-images", type=int, default=256)
    parser.add_argument("--photos", type=int, default=3925)
    asked = parser.parse_args()
    folder = Path(os.environ["OFA_REFERENCE_DATA"])
    request = Request(folder / f"{NET}.pth", f"npz:{folder / PHOTOS},{folder / PHOTOS}", preprocessing="half")
    net, px, evaluator = open_published(folder / f"{NET}.json", request, ALONE)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    ranges = ranges_of(net, px, evaluator, RangeSettings(asked.ranges, asked.range_images))
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(
        f"{ranges.note}: {wall_s:.1f} s, {cpu_s:.1f} s of CPU time with decoding, {torch.get_num_threads()} thread(s)"
    )
    runtimes = runtimes_of(net, ranges)
    evaluator.indices = evaluator.indices[: asked.photos]
    chosen: dict[str, list[NDArray[np.int64]]] = {name: [] for name in runtimes}
    labels = []
    for batch in evaluator._loader(evaluator.images, evaluator.indices, px, None).batches():  # noqa: SLF001
        labels.append(evaluator.class_index[batch.labels.numpy()])
        for name, classify in runtimes.items():
            chosen[name].append(classify(batch.images.numpy()))
    report({name: np.concatenate(parts) for name, parts in chosen.items()}, np.concatenate(labels))


def report(chosen: dict[str, NDArray[np.int64]], labels: NDArray[np.int64]) -> None:
    """Print the right answers of each runtime, and the agreement of each two."""
    for name, classes in chosen.items():
        print(f"{name:<18}{int((classes == labels).sum()):5d} of {len(labels)}")
    for one, other in itertools.combinations(chosen, 2):
        print(f"{one} and {other}: the same class for {100 * np.mean(chosen[one] == chosen[other]):.2f} %")


def runtimes_of(net: SubNet, ranges: Ranges) -> dict[str, Classify]:
    """Return functions from normalised images to classes: float32 and int8 in torch, and the int8 files."""
    grid = input_grid(ranges.blocks[0])
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("net.tflite", "net.onnx")]
        for path in paths:
            writer_of(path, int8=True)(Finished(net, NET, ranges))
        litert, onnxruntime = litert_of(paths[0].read_bytes(), grid), onnxruntime_of(paths[1].read_bytes(), grid)
    in_torch = {"torch fp32": torch_of(net), "torch int8": torch_of(IntegerNet.of(net, ranges))}
    return {**in_torch, "LiteRT int8": litert, "onnxruntime int8": onnxruntime}


def torch_of(net: torch.nn.Module) -> Classify:
    """Return the classes that a torch network chooses."""

    @torch.no_grad()
    def classify(images: NDArray[np.float32]) -> NDArray[np.int64]:
        return net(torch.from_numpy(images)).argmax(1).numpy()

    return classify


def litert_of(file: bytes, grid: Grid) -> Classify:
    """Return the classes that LiteRT chooses, one image at a time."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=file, num_threads=1)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()

    def one(q: NDArray[np.int8]) -> int:
        interpreter.set_tensor(source["index"], q)
        interpreter.invoke()
        return int(interpreter.get_tensor(sink["index"])[0].argmax())

    def classify(images: NDArray[np.float32]) -> NDArray[np.int64]:
        q = np.ascontiguousarray(grid.quantise(images).transpose(0, 2, 3, 1))
        return np.array([one(q[i : i + 1]) for i in range(len(q))])

    return classify


def onnxruntime_of(file: bytes, grid: Grid) -> Classify:
    """Return the classes that onnxruntime chooses, by its default settings."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def classify(images: NDArray[np.float32]) -> NDArray[np.int64]:
        q = (grid.quantise(images).astype(np.int16) + 128).astype(np.uint8)
        return np.array([session.run(None, {"input": q[i : i + 1]})[0][0].argmax() for i in range(len(q))])

    return classify


if __name__ == "__main__":
    main()
