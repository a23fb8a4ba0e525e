"""Read plain tensors from a file of `torch.save`, without torch.

Small files such as an accuracy predictor hold names and float32 tensors only. Loading torch for them takes as long as
half a search. The pickle in such a file is a list of instructions. Those that build names, tuples and tensors are
followed here; nothing is called, so no code of the file can run. `plain_tensors` returns None for any other file, and
`ofa_core.formats.torch_files` reads it or says what is wrong.

Two containers exist (`torch/serialization.py`). The zip file of torch 1.6 and later holds `data.pkl`, and the values
of each storage as `data/KEY`. The older one is a sequence of pickles: a magic number, a version, facts about the
machine, the content, and the keys of the storages; then for each storage the number of values and the values.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ofa_core.npz import ZIP_DAMAGE

__all__ = ["plain_tensors"]

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
MOST_DIMENSIONS = 64  # of an array of numpy
DTYPES = {"torch FloatStorage": np.dtype("<f4")}
MAPPING, TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_PLAIN = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE")
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_SHORT_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# What reading a damaged or unknown file may raise, depending on where the damage is.
_DAMAGE = (*ZIP_DAMAGE, LookupError, AttributeError, OverflowError, MemoryError)


@dataclass(frozen=True, slots=True)
class _Name:
    """A class or function that the file names."""

    text: str


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Part of a storage, by the key of the storage."""

    key: str
    dtype: np.dtype[Any]
    n_stored: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return the array, given the values of its storage; arrays of one storage share their memory."""
        if len(self.shape) > MOST_DIMENSIONS:
            raise ValueError("too many dimensions")
        n = math.prod(self.shape)
        expected = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        if self.strides != expected or min(self.shape, default=0) < 0 or not 0 <= self.offset <= len(stored) - n:
            raise ValueError("not a whole row-major array")
        return stored[self.offset : self.offset + n].reshape(self.shape)


def plain_tensors(path: Path) -> dict[str, NDArray[np.float32]] | None:
    """Return the float32 tensors of a file by their names, read-only; None for a file that holds anything else.

    Raises:
        OSError: if the file cannot be read.
    """
    data = path.read_bytes()
    try:
        content, storages = (_zipped if zipfile.is_zipfile(path) else _in_sequence)(data)
        return {name: tensor.values(storages[tensor.key]) for name, tensor in content.items()}
    except _DAMAGE:
        return None


def _zipped(data: bytes) -> tuple[dict[str, _Tensor], dict[str, NDArray[Any]]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise ValueError("torch does not compress")
        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise ValueError("another byte order")
        content = _content(io.BytesIO(archive.read(members["data.pkl"])))
        storages: dict[str, NDArray[Any]] = {}
        for tensor in content.values():
            if tensor.key not in storages:
                storages[tensor.key] = np.frombuffer(archive.read(members[f"data/{tensor.key}"]), tensor.dtype)
            if len(storages[tensor.key]) != tensor.n_stored:
                raise ValueError("a storage of another size")
    return content, storages


def _in_sequence(data: bytes) -> tuple[dict[str, _Tensor], dict[str, NDArray[Any]]]:
    stream = io.BytesIO(data)
    if (_pickled(stream), _pickled(stream)) != (MAGIC, VERSION) or not _pickled(stream)["little_endian"]:
        raise ValueError("another file")
    content = _content(stream)
    known = {tensor.key: tensor for tensor in content.values()}
    storages = {}
    for key in _pickled(stream):
        tensor = known[key]
        if int.from_bytes(stream.read(8), "little", signed=True) != tensor.n_stored:
            raise ValueError("a storage of another size")
        storages[key] = np.frombuffer(stream.read(tensor.n_stored * tensor.dtype.itemsize), tensor.dtype)
    return content, storages


def _content(stream: BinaryIO) -> dict[str, _Tensor]:
    content = _pickled(stream)
    if not isinstance(content, dict) or not content:
        raise ValueError("not a mapping")
    if not all(isinstance(name, str) and isinstance(value, _Tensor) for name, value in content.items()):
        raise ValueError("not names and tensors")
    return content


def _pickled(stream: BinaryIO) -> Any:
    """Return what one pickle describes, if it holds plain values, mappings and tensors only."""
    machine = _Machine([], [], {})
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "STOP":
            break
        machine.step(opcode.name, argument)
    (whole,) = machine.stack
    return whole


@dataclass(frozen=True, slots=True)
class _Machine:
    """The stack machine of a pickle (`pickletools` describes its instructions), as far as tensors need it."""

    stack: list[Any]
    marks: list[int]
    memo: dict[int, Any]

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction.

        Raises:
            ValueError: for an instruction that plain tensors do not need.
        """
        stack = self.stack
        if name in _PLAIN:
            stack.append(argument)
        elif name in _VALUES:
            stack.append(_VALUES[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _SHORT_TUPLES:
            begin = len(stack) - _SHORT_TUPLES[name]
            stack[begin:] = [tuple(stack[begin:])]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            self._fill(name)
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name != "PROTO":
            self._make(name, argument)

    def _since_mark(self) -> list[Any]:
        begin = self.marks.pop()
        items = self.stack[begin:]
        del self.stack[begin:]
        return items

    def _fill(self, name: str) -> None:
        """Put what is on top of the stack into the list or mapping below it."""
        stack = self.stack
        if name.endswith("S"):
            items = self._since_mark()
        else:
            n = 1 if name == "APPEND" else 2
            items, stack[-n:] = stack[-n:], []
        if name.startswith("APPEND"):
            stack[-1].extend(items)
        else:
            stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _make(self, name: str, argument: Any) -> None:
        """Make a tensor, a storage or a mapping; nothing that the file names is called."""
        stack = self.stack
        if name == "GLOBAL":
            stack.append(_Name(argument))
        elif name == "BINPERSID":
            stack.append(_storage(*stack.pop()))
        elif name == "REDUCE":
            arguments, made = stack.pop(), stack.pop()
            stack.append(_made(made, arguments))
        elif name == "BUILD" and isinstance(stack[-2], dict):
            stack.pop()  # versions of the modules
        else:
            raise ValueError(name)


def _storage(kind: str, dtype: _Name, key: str, _location: str, n: int, view: None = None) -> tuple[str, Any, int]:
    if kind != "storage" or view is not None:
        raise ValueError(kind)
    return key, DTYPES[dtype.text], n


def _made(made: _Name, arguments: Sequence[Any]) -> Any:
    if made == _Name(MAPPING) and not arguments:
        return {}
    if made == _Name(TENSOR):
        (key, dtype, n_stored), offset, shape, strides, _requires_grad, _hooks, *metadata = arguments
        if not any(metadata):  # it can say that the values are to be negated
            return _Tensor(key, dtype, n_stored, offset, shape, strides)
    raise ValueError(made.text)
