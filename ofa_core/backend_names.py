"""Names of backends in files: a backend, a dtype and a delegate, and the one-word names of version 0.1.0.

Version 0.1.0 put all three into one word, such as `tflite-fp16` or `onnxruntime-cuda:1`. `OLD_NAMES` is the only table
that splits such a word, so that a table of that version and a new one of the same runtime have equal contexts. The same
words are short labels for people and file names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ofa_core.errors import FormatError

__all__ = ["DTYPES", "OLD_NAMES", "backend_label", "split_number", "with_new_names"]

DTYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
"""The `dtype` column of files by the value of `--dtype`."""

OLD_NAMES: dict[str, tuple[str, str, str]] = {
    "onnxruntime": ("onnxruntime", "float32", "cpu"),
    "onnxruntime-cuda": ("onnxruntime", "float32", "cuda"),
    "tflite": ("tflite", "float32", "xnnpack"),
    "tflite-fp16": ("tflite", "float16", "xnnpack"),
    "tflite-no-xnnpack": ("tflite", "float32", "none"),
    "tflite-runtime": ("tflite-runtime", "float32", "xnnpack"),
    "torch": ("torch", "float32", "cpu"),
    "torch-cuda": ("torch", "float32", "cuda"),
    "torch-cuda-eager": ("torch", "float32", "cuda-eager"),
    "torch-cuda-fp16": ("torch", "float16", "cuda"),
    "torch-cuda-fp16-eager": ("torch", "float16", "cuda-eager"),
    "torch-cuda-fp16-nhwc": ("torch", "float16", "cuda-nhwc"),
    "torch-cuda-fp16-nhwc-eager": ("torch", "float16", "cuda-nhwc-eager"),
    "torch-cuda-nhwc": ("torch", "float32", "cuda-nhwc"),
    "torch-cuda-nhwc-eager": ("torch", "float32", "cuda-nhwc-eager"),
}
"""(backend, dtype column, delegate) by the name of version 0.1.0, without the number of a GPU."""

_LABELS = {names: old for old, names in OLD_NAMES.items()}


def split_number(name: str) -> tuple[str, str]:
    """Split `cuda:1` into `cuda` and `:1`; the second part is empty where there is no number."""
    base, colon, number = name.partition(":")
    return base, colon + number


def with_new_names(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a context with the backend, dtype and delegate that an old backend name stands for.

    Args:
        context: fields by name; `delegate` is absent or empty in files of version 0.1.0. Others are returned unchanged.

    Raises:
        FormatError: the dtype contradicts the backend's name.
    """
    found = dict(context)
    backend = found.get("backend")
    if found.setdefault("delegate", "") or not isinstance(backend, str):
        return found
    base, number = split_number(backend)
    names = OLD_NAMES.get(base)
    if names is None or (number and not names[2].startswith("cuda")):
        return found
    dtype = found.get("dtype", names[1])
    if names[1] != "float32" and dtype != names[1]:
        raise FormatError(f"dtype is {str(dtype)[:40]!r}; backend {backend!r} computes in {names[1]}")
    return {**found, "backend": names[0], "dtype": dtype, "delegate": names[2] + number}


def backend_label(backend: str, dtype: str, delegate: str) -> str:
    """Return one word for a backend with its dtype and delegate: the old name where there is one.

    Args:
        backend: such as `tflite`.
        dtype: as in the `dtype` column, such as `float16`.
        delegate: such as `xnnpack` or `cuda:1`; empty where the backend offers no choice.
    """
    base, number = split_number(delegate)
    old = _LABELS.get((backend, dtype, base))
    if old is not None:
        return old + number
    short = {column: name for name, column in DTYPES.items()}.get(dtype, dtype)
    if _LABELS.get((backend, "float32", base)) == backend:
        delegate = number  # the backend's default delegate
    return "-".join(part for part in (backend, "" if short == "fp32" else short, delegate) if part)
