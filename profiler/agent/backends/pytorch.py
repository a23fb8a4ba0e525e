"""torch: eager modules on the CPU, CUDA graphs or eager calls on an NVIDIA GPU.

A model file lists operations (`ofa_core/export/ops.py`). The modules are built here, with weights of ordinary size and
batch normalisation folded. The dtype `fp16` is half precision for weights, input and output; `fp32` is computed with
TF32 off. In a delegate's name, `nhwc` is torch's channels_last layout and `eager` calls the net instead of replaying a
graph.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from profiler.agent.backends import Choice
from profiler.agent.backends.nvml import gpu_state, open_nvml
from profiler.agent.cuda_timing import n_buffers, plan_inner, timed_replays

__all__ = [
    "CudaBackend",
    "CudaMemory",
    "CudaModel",
    "Net",
    "TorchBackend",
    "TorchModel",
    "check_kernels",
]

_SEED = 20200121  # any fixed number, so that each load of a model has the same weights and input
_WARMUPS = 30  # on a side stream, before capture, while cuDNN tries its algorithms


class Net(nn.Module):
    """A list of operations as a module.

    Args:
        spec: the parsed file.

    Raises:
        ValueError: the file has another format, or lists an unknown operation.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        if spec.get("format") != "ofa-ops" or spec.get("schema") != 1:
            raise ValueError("the torch backends read lists of operations (ofa-ops, schema 1), not this file")
        self.input_shape = [int(size) for size in spec["input"]]
        self._nodes: list[Any] = []
        self.layers = nn.ModuleList()
        for node in spec["nodes"]:
            self._nodes.append(self._node(node, bool(spec["literal"])))

    def _node(self, node: dict[str, Any], literal: bool) -> Any:
        op, x, y = node["op"], int(node["x"]), int(node.get("y", 0))
        if op == "add":
            return lambda values: values[x] + values[y]
        if op == "multiply":
            return lambda values: values[x] * values[y]
        if op == "pool" and literal:
            return lambda values: values[x].mean(3, keepdim=True).mean(2, keepdim=True)
        if op == "pool":
            return lambda values: values[x].mean((2, 3), keepdim=True)
        act = _activation(node["act"], literal)
        if op == "conv":
            k = int(node["kernel_px"])
            layer: nn.Module = nn.Conv2d(
                node["in_c"], node["out_c"], k, node["stride"], padding=k // 2, groups=node["groups"]
            )
            self.layers.append(layer)
            return lambda values: act(layer(values[x]))
        if op == "linear":
            layer = nn.Linear(node["in_c"], node["out_c"])
            self.layers.append(layer)
            return lambda values: act(layer(values[x].flatten(1)))
        raise ValueError(f"unknown operation {op!r}")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run all operations on `x`, of the shape `input_shape`."""
        values = [x]
        for node in self._nodes:
            values.append(node(values))
        return values[-1]


def _activation(name: str, literal: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    if name == "h_swish" and literal:
        return lambda x: x * functional.relu6(x + 3.0) / 6.0
    if name == "h_sigmoid" and literal:
        return lambda x: functional.relu6(x + 3.0) / 6.0
    known: dict[str, Callable[..., torch.Tensor]] = {
        "none": lambda x: x,
        "relu": functional.relu,
        "relu6": functional.relu6,
        "h_swish": functional.hardswish,
        "h_sigmoid": functional.hardsigmoid,
    }
    if name not in known:
        raise ValueError(f"unknown activation {name!r}, known are {', '.join(known)}")
    return known[name]


def _read(path: str) -> Net:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123  the agent spares the import of pathlib
        spec = json.load(file)
    torch.manual_seed(_SEED)
    net = Net(spec).eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net


class TorchModel:
    """A net on the CPU, called eagerly."""

    def __init__(self, path: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._threads = threads
        self._net = _read(path)
        generator = torch.Generator().manual_seed(_SEED)
        self._input = torch.rand(self._net.input_shape, generator=generator) * 2 - 1
        self.settings: dict[str, Any] = {
            "num_threads": threads,
            "mode": "eager",
            "mkldnn": bool(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
            "input": self._net.input_shape,
        }

    def run(self) -> None:
        """Call the net once."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            self._net(self._input)

    def close(self) -> None:
        """Drop the net and its input."""
        del self._net, self._input


class TorchBackend:
    """torch on the CPU."""

    def __init__(self, choice: Choice) -> None:
        """Accept the only choice; there is nothing to start."""

    def versions(self) -> dict[str, str]:
        """Return torch's version."""
        return {"torch": torch.__version__}

    def load(self, path: str, threads: int) -> TorchModel:
        """Build the net that the file at `path` lists.

        Raises:
            ValueError: the file is not a list of operations.
        """
        return TorchModel(path, threads)


class _TorchCuda:
    """`profiler.agent.cuda_timing.Cuda`, implemented with torch."""

    def record(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end))

    def synchronize(self) -> None:
        torch.cuda.synchronize()


class CudaMemory:
    """The GPU memory that all models of a process share: input values, and what graphs write.

    One model runs at a time and nobody reads its result, so 120 models need hardly more memory than the largest.

    Args:
        device: torch's name of the device.
        pool: torch's number of a graph memory pool.
    """

    def __init__(self, device: str, pool: Any = None) -> None:
        self.pool = pool
        self._device = device
        self._values = torch.empty(0)

    def inputs(self, shape: list[int], dtype: torch.dtype, layout: torch.memory_format, n: int) -> list[torch.Tensor]:
        """Return `n` inputs of one shape (batch, channels, height, width), one after the other in memory."""
        size = math.prod(shape)
        if self._values.numel() < n * size or self._values.dtype != dtype:
            generator = torch.Generator(device=self._device).manual_seed(_SEED)
            length = max(n * size, 2 * self._values.numel())
            values = torch.rand(length, generator=generator, device=self._device)
            self._values = (values * 2 - 1).to(dtype)
        flat = [self._values[i * size : (i + 1) * size] for i in range(n)]
        if layout == torch.channels_last:
            batch, channels, height, width = shape
            return [part.view(batch, height, width, channels).permute(0, 3, 1, 2) for part in flat]
        return [part.view(shape) for part in flat]


class CudaModel:
    """A net on a GPU. Its inferences are captured in a graph, or called one by one if `eager`.

    Raises:
        RuntimeError: the graph cannot be captured (an eager delegate can still time the net, in another table), or the
            GPU's memory is too small.
    """

    def __init__(
        self, path: str, memory: CudaMemory, *, half: bool, nhwc: bool, eager: bool, state: dict[str, Any]
    ) -> None:
        dtype = torch.float16 if half else torch.float32
        layout = torch.channels_last if nhwc else torch.contiguous_format
        net = _read(path).to(device="cuda", dtype=dtype).to(memory_format=layout)  # type: ignore[call-overload]
        shape = net.input_shape
        gpu = torch.cuda.current_device()
        self._l2_bytes = int(getattr(torch.cuda.get_device_properties(gpu), "L2_cache_size", 0)) or 6 * 2**20
        count = n_buffers(math.prod(shape) * dtype.itemsize, self._l2_bytes)
        buffers = memory.inputs(shape, dtype, layout, count)
        self._cuda = _TorchCuda()
        self._keep: list[Any] = [net, buffers]
        with torch.inference_mode():
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for i in range(_WARMUPS):
                    net(buffers[i % len(buffers)])
            torch.cuda.current_stream().wait_stream(side)
            self._inner = plan_inner(self._cuda, lambda: net(buffers[0]), len(buffers))
            torch.cuda.empty_cache()
            self._launch = self._eager(net, buffers) if eager else self._captured(net, buffers, memory.pool)
        self.settings: dict[str, Any] = {
            "gpu": torch.cuda.get_device_name(gpu),
            "mode": "eager" if eager else "graph",
            "inner": self._inner,
            "n_buffers": len(buffers),
            "dtype": str(dtype).replace("torch.", ""),
            "channels_last": nhwc,
            "tf32": False,
            "input": shape,
            "state": state,
        }

    def _captured(self, net: Net, buffers: Any, pool: Any) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        output = net(buffers[0])
        results: deque[Any] = deque(maxlen=n_buffers(output.numel() * output.element_size(), self._l2_bytes))
        del output
        try:
            with torch.cuda.graph(graph, pool=pool):
                for i in range(self._inner):
                    results.append(net(buffers[i % len(buffers)]))
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RuntimeError(
                f"no CUDA graph of this model ({error}); the delegates ending in -eager need none"
            ) from error
        self._keep.append(graph)
        replay: Callable[[], None] = graph.replay
        return replay

    def _eager(self, net: Net, buffers: Any) -> Callable[[], None]:
        def launch() -> None:
            with torch.inference_mode():
                for i in range(self._inner):
                    net(buffers[i % len(buffers)])

        return launch

    def timed(self, warmup: int, repeats: int) -> dict[str, Any]:
        """Time launches with events; see `profiler.agent.cuda_timing`."""
        return timed_replays(self._cuda, self._launch, self._inner, warmup, repeats)

    def run(self) -> None:
        """Launch once and wait for the result."""
        self._launch()
        self._cuda.synchronize()

    def close(self) -> None:
        """Drop the net and its graph."""
        self._keep.clear()
        del self._launch
        torch.cuda.empty_cache()


class CudaBackend:
    """torch on an NVIDIA GPU.

    Args:
        choice: dtype, the modes in the delegate's name, and the GPU.

    Raises:
        RuntimeError: there is no such GPU, this torch has no kernels for it, or other programs compute on it.
    """

    def __init__(self, choice: Choice) -> None:
        self._choice, self._gpu = choice, choice.gpu
        self._memory: CudaMemory | None = None
        if not torch.cuda.is_available():
            raise RuntimeError(f"torch {torch.__version__} sees no NVIDIA GPU (CUDA build: {torch.version.cuda})")
        n_gpus = torch.cuda.device_count()
        if self._gpu >= n_gpus:
            raise RuntimeError(f"there is no GPU {self._gpu}: torch sees {n_gpus}, numbered from 0")
        torch.cuda.set_device(self._gpu)
        self._title = torch.cuda.get_device_name(self._gpu)
        major, minor = torch.cuda.get_device_capability(self._gpu)
        check_kernels(f"sm_{major}{minor}", torch.cuda.get_arch_list(), self._title)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        self._state = gpu_state(open_nvml(), self._gpu)
        if self._state["foreign_processes"]:
            others = ", ".join(map(str, self._state["foreign_processes"]))
            raise RuntimeError(
                f"other programs compute on this GPU (processes {others}): end them, or take another GPU"
            )

    def versions(self) -> dict[str, str]:
        """Return the versions of torch, CUDA, cuDNN and the driver and the GPU's name in one text.

        Tables that differ in any of them are not comparable.
        """
        parts = [f"torch {torch.__version__}", f"CUDA {torch.version.cuda}", f"cuDNN {_cudnn()}"]
        parts += [f"driver {self._state['driver']}"] if self._state["driver"] else []
        return {self._choice.backend: ", ".join([*parts, self._title])}

    def load(self, path: str, threads: int) -> CudaModel:  # noqa: ARG002  the GPU has none
        """Build the net that the file at `path` lists, and capture it.

        Raises:
            ValueError: the file is not a list of operations.
            RuntimeError: the graph cannot be captured, or the GPU's memory is too small.
        """
        modes = self._choice.delegate.split("-")
        if self._memory is None:
            self._memory = CudaMemory("cuda", torch.cuda.graph_pool_handle())
        try:
            return CudaModel(
                path,
                self._memory,
                half=self._choice.dtype == "fp16",
                nhwc="nhwc" in modes,
                eager="eager" in modes,
                state=gpu_state(open_nvml(), self._gpu),
            )
        except torch.cuda.OutOfMemoryError as error:
            total_gib = torch.cuda.get_device_properties(self._gpu).total_memory / 2**30
            raise RuntimeError(
                f"the GPU's {total_gib:.0f} GiB are too small for this model: use a smaller --batch-size"
            ) from error


def _cudnn() -> Any:
    return torch.backends.cudnn.version()  # type: ignore[no-untyped-call]


def check_kernels(needed: str, present: list[str], gpu: str) -> None:
    """Check that this build of torch has kernels for a GPU.

    Binaries run on later minor versions of their major version.

    Raises:
        RuntimeError: there are none; the message names the build to install.
    """
    wanted = int(needed[3:])
    for arch in present:
        kind, _, digits = arch.rstrip("af").partition("_")
        number = int(digits) if digits.isdigit() else 0
        if number <= wanted and (kind == "compute" or number // 10 == wanted // 10):
            return
    raise RuntimeError(
        f"torch {torch.__version__} has no kernels for the {gpu} ({needed}), only {' '.join(present)}: "
        "`ofa-profile setup` picks a build that has (Pascal and Volta need the cu126 builds)"
    )
