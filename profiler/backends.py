"""The backends: one table of runtimes, with the dtypes, delegates, packages and model files of each.

A row is a set of delegates that share all other columns, so a backend that has another package or fewer dtypes with one
of its delegates has a second row. To add a backend, write its agent module, list it there (`profiler.agent.backends`)
and add a row here; everything else asks this table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ofa_core.backend_names import DTYPES, OLD_NAMES, backend_label, split_number
from ofa_core.errors import OfaError

if TYPE_CHECKING:
    from ofa_core.context import Context

__all__ = [
    "BACKENDS",
    "BENCHMARK_MODEL",
    "BackendInfo",
    "Choice",
    "choice_of",
    "choose",
    "graph_forms",
    "info",
    "model_format",
    "runtime_packages",
]

BENCHMARK_MODEL = "benchmark-model"
CUDA = "cuda"
INTEGER_FORMS = ("integer", "fused")
FLOAT_FORMS = ("fused", "literal")
_LITERAL_FORMATS = (".onnx", ".ops.json", ".json")


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """One backend with some of its delegates.

        BackendInfo("npu-runtime", ".tflite", dtypes=("fp16",), packages=("npu-runtime>=2", "numpy"))

    Attributes:
        name: of the runtime.
        model_format: suffix of its model files, one of `profiler.model_files.WRITERS`.
        dtypes: values of `--dtype`; the first is the default.
        delegates: values of `--delegate`; the first of the backend's first row is the default. `("",)` is no choice.
        device_kind: processor that computes: `cpu`, `cuda` (an NVIDIA GPU) or `gpu` (the GPU of a phone or computer).
        default_batch: images per inference.
        packages: pip requirements, the runtime first; None where nothing can be installed by pip.
        native: True if the C agent runs it too, on devices without Python.
    """

    name: str
    model_format: str
    dtypes: tuple[str, ...] = ("fp32",)
    delegates: tuple[str, ...] = ("",)
    device_kind: str = "cpu"
    default_batch: int = 1
    packages: tuple[str, ...] | None = ()
    native: bool = False


_TORCH_MODES = ("cuda", "cuda-nhwc", "cuda-eager", "cuda-nhwc-eager")

BACKENDS: tuple[BackendInfo, ...] = (
    BackendInfo(
        "onnxruntime", ".onnx", dtypes=("fp32", "int8"), delegates=("cpu",), packages=("onnxruntime>=1.17", "numpy")
    ),
    BackendInfo(
        "onnxruntime", ".onnx", delegates=("cuda",), device_kind=CUDA, default_batch=64,
        packages=("onnxruntime-gpu>=1.17", "numpy", "nvidia-ml-py"),
    ),
    BackendInfo(
        "tflite", ".tflite", dtypes=("fp32", "fp16", "int8"), delegates=("xnnpack",), native=True,
        packages=("ai-edge-litert>=2.1", "numpy"),
    ),
    BackendInfo("tflite", ".tflite", delegates=("none",), packages=("ai-edge-litert>=2.1", "numpy")),
    BackendInfo(
        "litert-gpu", ".tflite", dtypes=("fp32", "fp16"), device_kind="gpu", native=True,
        packages=("ai-edge-litert>=2.3", "numpy"),
    ),
    BackendInfo(
        "tflite-runtime", ".tflite", delegates=("xnnpack", "none"), packages=("tflite-runtime==2.14.0", "numpy<2")
    ),
    BackendInfo("torch", ".ops.json", delegates=("cpu",), packages=("torch>=2.1", "numpy")),
    BackendInfo(
        "torch", ".ops.json", dtypes=("fp32", "fp16"), delegates=_TORCH_MODES, device_kind=CUDA, default_batch=64,
        packages=("torch>=2.1", "numpy", "nvidia-ml-py"),
    ),
    BackendInfo(BENCHMARK_MODEL, ".tflite", dtypes=("fp32", "int8"), packages=None),
    BackendInfo("sleep", ".json"),
)  # fmt: skip


class Choice(NamedTuple):
    """A backend with its dtype and delegate; `choose` makes valid ones.

    Attributes:
        backend: name of the runtime.
        dtype: as on the command line, such as `fp16`.
        delegate: such as `xnnpack` or `cuda:1`; empty where the backend offers no choice.
    """

    backend: str
    dtype: str = "fp32"
    delegate: str = ""

    @property
    def label(self) -> str:
        """One word for all three, as in file names: `tflite-fp16`, `torch-cuda:1`."""
        return backend_label(self.backend, DTYPES[self.dtype], self.delegate)


def choose(backend: str, dtype: str | None = None, delegate: str | None = None) -> Choice:
    """Check a backend, dtype and delegate that a user names, and supply the defaults.

    Args:
        backend: a name in `BACKENDS`, or a name of version 0.1.0 such as `tflite-fp16` or `torch-cuda:1`.
        dtype: such as `fp16`; None takes the first that the delegate has.
        delegate: such as `cuda:1`; None takes the first that has the dtype.

    Raises:
        OfaError: there is no such backend, or it has no such delegate or dtype; the message lists those that it has.
    """
    names = {row.name for row in BACKENDS}
    if backend not in names:
        backend, dtype, delegate = _from_old_name(backend, dtype, delegate)
    if backend not in names:
        raise OfaError(f"unknown backend {backend[:80]!r}; one of {', '.join(sorted(names))}")
    title, rows = backend, [row for row in BACKENDS if row.name == backend]
    if delegate:
        title, rows = f"{backend} with delegate {delegate}", [info(Choice(backend, delegate=delegate))]
    fitting = [row for row in rows if dtype is None or dtype in row.dtypes]
    if not fitting:
        dtypes = dict.fromkeys(known for row in rows for known in row.dtypes)
        raise OfaError(f"backend {title} has no dtype {str(dtype)[:80]!r}; it has {', '.join(dtypes)}")
    return Choice(backend, dtype or fitting[0].dtypes[0], delegate or fitting[0].delegates[0])


def choice_of(context: Context) -> Choice:
    """Return the backend, dtype and delegate that a table was measured with; raises as `choose` does."""
    short = {column: name for name, column in DTYPES.items()}
    return choose(context.backend, short.get(context.dtype, context.dtype), context.delegate)


def graph_forms(choice: Choice) -> tuple[str, ...]:
    """Return the forms in which models of a choice can be written; the first is the default."""
    if choice.dtype == "int8":
        return INTEGER_FORMS
    return FLOAT_FORMS if model_format(choice.backend) in _LITERAL_FORMATS else FLOAT_FORMS[:1]


def info(choice: Choice) -> BackendInfo:
    """Return the row of a choice.

    Raises:
        OfaError: the backend has no such delegate, or the delegate's number names no GPU.
    """
    base, number = split_number(choice.delegate)
    rows = [row for row in BACKENDS if row.name == choice.backend]
    row = next((row for row in rows if base in row.delegates), None)
    if row is None:
        known = ", ".join(name for row in rows for name in row.delegates if name) or "no choice of delegates"
        raise OfaError(f"backend {choice.backend} has no delegate {choice.delegate[:80]!r}; it has {known}")
    if number and not (row.device_kind == CUDA and re.fullmatch(":[0-9]{1,4}", number)):
        raise OfaError(f"delegate {choice.delegate[:80]!r}: a number names one of several NVIDIA GPUs, as in cuda:1")
    return row


def model_format(backend: str) -> str:
    """Return the suffix of a backend's model files; all rows of a backend share it."""
    return next(row.model_format for row in BACKENDS if row.name == backend)


def runtime_packages() -> tuple[str, ...]:
    """Return the names of the packages that contain the runtimes, without versions."""
    first = [row.packages[0] for row in BACKENDS if row.packages]
    return tuple(dict.fromkeys(requirement.partition("=")[0].rstrip("<>~!") for requirement in first))


def _from_old_name(name: str, dtype: str | None, delegate: str | None) -> tuple[str, str | None, str | None]:
    """Split a name of version 0.1.0, and check that the options say nothing else.

    Raises:
        OfaError: an option contradicts the name.
    """
    base, number = split_number(name)
    if base not in OLD_NAMES:
        return name, dtype, delegate
    backend, column, old_delegate = OLD_NAMES[base]
    meant = next(short for short, value in DTYPES.items() if value == column)
    for option, given, old in (("dtype", dtype, meant), ("delegate", delegate, old_delegate + number)):
        if given not in (None, old):
            raise OfaError(f"backend {name!r} means {option} {old}, not {given}: give --backend {backend} instead")
    return backend, meant, old_delegate + number
