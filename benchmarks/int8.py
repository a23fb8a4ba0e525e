"""int8 models: what their files cost and lose, and how well tables of them predict.

    python benchmarks/int8.py files [--spaces mbv3-w1.0,...] [--px 160]
    python benchmarks/int8.py tables FLOAT.csv INT8.csv

`files` writes every block of the spaces for both runtimes. It prints how many are wholly integer, the largest error
against the float block (mean squared error over the variance of the output, ranges from data) with and without dead
channels, and the CPU time of the writers. `tables` compares two tables of one runtime with whole networks beside them:
the plain sum's bias, the leave-one-out error, speed-up, ranks, the error of blocks that are estimated from a quarter of
them (`--plan active`), and what a search with the float table loses in int8.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.calibration import spearman
from ofa_core.export.layers import BlockWeights, LayerWeights
from ofa_core.export.onnx import block_model as float_model
from ofa_core.export.onnx_int8 import arch_model, block_model
from ofa_core.export.quantisation import Grid, input_grid
from ofa_core.export.tflite_int8 import arch_tflite, block_tflite
from ofa_core.export.weights import random_weights
from ofa_core.genomes import sample_arch, sample_genomes
from ofa_core.measured_networks import calibration_of, networks_path, read_networks
from ofa_core.search.run import most_accurate, search
from ofa_core.search.steps import LatencySource
from ofa_core.spaces import get_space
from ofa_core.table import LatencyTable
from ofa_core.train.ranges import find_ranges
from predictors.block_latency import MIN_BLOCKS, BlockPredictor
from predictors.block_order import active_order
from predictors.loading import load_accuracy, load_latency
from profiler.agent.backends.integer import float_operators, outside_delegate

SHARE = 0.25
N_RANKED = 200
N_FLOAT_LIMITS = 40
RUNTIMES = ("LiteRT", "onnxruntime")


def session(data: bytes, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def nmse(got: np.ndarray, want: np.ndarray) -> float:
    return float(((got - want) ** 2).mean() / max(float(want.var()), 1e-12))


def output_grid(data: bytes) -> tuple[Interpreter, Grid]:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    scale, zero = interpreter.get_output_details()[0]["quantization"]
    return interpreter, Grid(float(scale), int(zero))


def errors(block: BlockSpec, weights: BlockWeights, x: np.ndarray) -> list[float]:
    """Errors of the `RUNTIMES`."""
    (ranges,) = find_ranges([block], [weights], [torch.from_numpy(x)]).blocks
    want = session(float_model(block, weights=weights).SerializeToString()).run(None, {"input": x})[0]
    q = input_grid(ranges).quantise(x)
    interpreter, grid = output_grid(block_tflite(block, weights=weights, ranges=ranges))
    q_nhwc = np.ascontiguousarray(q.transpose(0, 2, 3, 1))
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], q_nhwc)
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    of_tflite = nmse(grid.dequantise(y.transpose(0, 3, 1, 2) if y.ndim == 4 else y), want)
    data = block_model(block, weights=weights, ranges=ranges).SerializeToString()
    y = session(data).run(None, {"input": (q.astype(np.int16) + 128).astype(np.uint8)})[0]
    return [of_tflite, nmse(grid.dequantise((y.astype(np.int16) - 128).astype(np.int8)), want)]


def with_dead_channels(weights: BlockWeights) -> BlockWeights:
    """Every third channel of each layer before the last has tiny weights and a bias, as batch norm can leave it."""
    layers = []
    for layer in weights.layers[:-1]:
        weight, bias = layer.weight.copy(), layer.bias.copy()
        weight[::3] *= 1e-9
        bias[::3] = np.linspace(-1, 1, len(bias[::3]))
        layers.append(LayerWeights(weight, bias))
    return replace(weights, layers=(*layers, *weights.layers[-1:]))


def cpu_ms(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def is_whole(block: BlockSpec, folder: Path) -> tuple[bool, bool]:
    """True if XNNPACK, and onnxruntime, compute all of a block in integers."""
    interpreter, _ = output_grid(block_tflite(block))
    path = folder / "optimised.onnx"
    session(block_model(block).SerializeToString(), path)
    return not outside_delegate(interpreter), not float_operators(path.read_bytes())


def files(names: Sequence[str], px: int) -> Iterator[str]:
    for name in names:
        space = get_space(name)
        blocks = space.all_blocks((px,))
        with tempfile.TemporaryDirectory() as folder:
            whole = np.array([is_whole(block, Path(folder)) for block in blocks])
        yield (
            f"{name}, {px} px: wholly integer {whole[:, 0].sum()} of {len(blocks)} blocks on LiteRT, "
            f"{whole[:, 1].sum()} on onnxruntime"
        )
        for what, change in (("all channels", lambda weights: weights), ("dead channels", with_dead_channels)):
            found = []
            for i, block in enumerate(blocks):
                shape = (1, block.in_c, block.in_px, block.in_px)
                x = np.random.default_rng(i).standard_normal(shape, dtype=np.float32)
                found.append(errors(block, change(random_weights(block)), x))
            worst, median = np.max(found, axis=0), np.median(found, axis=0)
            text = (f"{runtime} {a:.5f} ({b:.5f})" for runtime, a, b in zip(RUNTIMES, worst, median, strict=True))
            yield f"  {what}, largest error (median): {', '.join(text)}"
    yield from writers(names[0])


def writers(name: str) -> Iterator[str]:
    space = get_space(name)
    blocks = space.all_blocks((160, 224))
    nets = [sample_arch(space, np.random.default_rng(i), [224]) for i in range(8)]
    block_tflite(blocks[0])  # imports the schema
    for what, of_block, of_net in (
        ("TFLite", block_tflite, lambda arch: arch_tflite(space, arch)),
        ("ONNX", lambda b: block_model(b).SerializeToString(), lambda a: arch_model(space, a).SerializeToString()),
    ):
        ms = [cpu_ms(lambda b=b, of_block=of_block: of_block(b)) for b in blocks]
        net_ms = [cpu_ms(lambda a=a, of_net=of_net: of_net(a)) for a in nets]
        yield (
            f"{what} writer, CPU time: a block {np.mean(ms):.1f} ms on average, a net {np.median(net_ms):.0f} ms "
            f"(largest {np.max(net_ms):.0f}); {len(blocks)} blocks, {len(nets)} nets at 224 px"
        )


def tables(float_path: Path, int8_path: Path) -> Iterator[str]:
    found = [LatencyTable.read(path) for path in (float_path, int8_path)]
    for path, table in zip((float_path, int8_path), found, strict=True):
        networks = read_networks(networks_path(path), table.context) if networks_path(path).exists() else []
        fit = calibration_of([net for net in networks if net.role == "reference"], table)
        if fit is not None:
            bias, error = 100 * fit.raw_bias, 100 * fit.loo_mape
            yield f"{path.stem}: sum off by {bias:+.1f} % (raw), leave-one-out error {error:.2f} %"
        yield f"{path.stem}: {active_text(table)}"
    by_block = [{block: entry.latency_ms for (_, block), entry in table.entries.items()} for table in found]
    yield from speed_ups(*by_block)
    yield from searches(float_path, int8_path)
    space = get_space("mbv3-w1.0")
    predictors = [load_latency(path, space) for path in (float_path, int8_path)]
    for px in sorted(set(predictors[0].resolutions) & set(predictors[1].resolutions)):
        nets = sample_genomes(space, N_RANKED, np.random.default_rng(px), [px])
        first, second = (predictor.predict(nets) for predictor in predictors)
        yield (
            f"{px} px, {N_RANKED} random nets: int8 {np.mean(first / second):.2f} times as fast "
            f"({np.min(first / second):.2f} to {np.max(first / second):.2f}), rank correlation "
            f"{spearman(first, second):.3f}"
        )


def searches(float_path: Path, int8_path: Path) -> Iterator[str]:
    """At equal int8 latency, the winners of a search with either table; at an equal limit, float against int8."""
    space = get_space("mbv3-w1.0")
    by_float, by_int8 = load_latency(float_path, space), load_latency(int8_path, space)
    accuracy = load_accuracy(None, space)
    sizes = sorted(set(by_float.resolutions) & set(by_int8.resolutions))

    def winner(latency: LatencySource, limit_ms: float) -> Arch:
        return search(most_accurate(space, latency, accuracy, limit_ms, resolutions=sizes)).best.arch

    def ends(latency: LatencySource) -> tuple[float, float]:
        low, high = latency.predict([space.smallest(sizes[0]), space.largest(sizes[-1])])
        return float(low), float(high)

    float_nets = [winner(by_float, limit) for limit in np.geomspace(*ends(by_float), N_FLOAT_LIMITS + 2)[1:]]
    float_ms, int8_ms = by_float.predict(float_nets), by_int8.predict(float_nets)
    top1 = accuracy.predict(float_nets)
    for limit in np.geomspace(*ends(by_int8), 7)[1:-2]:
        best = float(accuracy.predict([winner(by_int8, limit)])[0])
        lost = best - max(top1[int8_ms <= limit], default=math.nan)
        same = max(top1[float_ms <= limit], default=math.nan)
        yield (
            f"at most {limit:.2f} ms: predicted top-1 of int8 {best:.2f} by its own table, {lost:+.2f} points against "
            f"winners of the float table; of float {same:.2f} (int8's own loss is not predicted)"
        )


def active_text(table: LatencyTable) -> str:
    """Errors of blocks and of sums of blocks when a quarter of the blocks estimates the others."""
    ms = {block: entry.latency_ms for (_, block), entry in table.entries.items() if entry.latency_ms}
    order = active_order(list(ms))
    n = max(MIN_BLOCKS, math.ceil(SHARE * len(order)))
    model = BlockPredictor().fit_blocks(order[:n], [ms[block] for block in order[:n]])
    truth = np.array([ms[block] for block in order[n:]])
    error = np.abs(model.predict(order[n:]) / truth - 1).mean()
    return f"{n} of {len(order)} blocks estimate the others to {100 * error:.1f} % (expected {100 * model.mape_:.1f} %)"


def speed_ups(first: dict[BlockSpec, float | None], second: dict[BlockSpec, float | None]) -> Iterator[str]:
    groups: dict[str, list[float]] = {}
    for block in first.keys() & second.keys():
        kind = f"{block.act}{' se' if block.se else ''} k{block.kernel_px}" if block.op == "mbconv" else block.op
        if first[block] and second[block]:
            groups.setdefault(kind, []).append((first[block] or 0) / (second[block] or 1))
    for kind, ratios in sorted(groups.items()):
        yield f"  {kind:<16} int8 {np.median(ratios):.2f} times as fast ({len(ratios)} blocks)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    of_files = commands.add_parser("files")
    of_files.add_argument("--spaces", default="mbv3-w1.0,mbv3-w1.2,proxyless-w1.3")
    of_files.add_argument("--px", type=int, default=160)
    of_tables = commands.add_parser("tables")
    of_tables.add_argument("float_table", type=Path)
    of_tables.add_argument("int8_table", type=Path)
    options = parser.parse_args()
    if options.command == "files":
        lines = files(options.spaces.split(","), options.px)
    else:
        lines = tables(options.float_table, options.int8_table)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
