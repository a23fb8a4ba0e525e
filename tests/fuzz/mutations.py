"""Damage to files, from a seed: bytes, tokens, CSV cells, lines, JSON and TOML trees, zip members and torch values."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import re
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Mutation = Callable[[bytes, np.random.Generator], bytes]

NASTY_TOKENS = (
    "", "-1", "0", "nan", "NaN", "inf", "-inf", "1e999", "1e-999", "1e308", "9" * 400, "9" * 5000, "0x10", "1_000",
    "true", "null", "None", "~", "[]", "{}", "[[[[[[", '"', "'", ",", ":", "- ", "? ", "& ", "*a", "&a a", "=1+1",
    "!!python/object:a.b x", "!!int", "%YAML 9", "---", "...", "\x00", "\x1b[2J", "\x85", "\u2028", "\ufeff", "é",
    "火" * 100, "٣", "²", "\ud7ff", "expand:0", "kernel:0", "stride:0",
    "x" * 100_000, "\n", "\r", "\t", "\\", "../../etc/passwd", "{mean: 1}",
)  # fmt: skip
NASTY_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**62, 2**63, 10**400, 1e308, -1e308, 1e-320, float("nan"), float("inf"), "",
    "3", "relu", "火\n火", "\x00", "\x1b[2J", "\ud800", "=1+1", "../../x", "x" * 10_000, [], {}, [[]], [None],
    [1, 2, 3], [-1], {"name": "ZeroLayer"}, {"a": {"b": {"c": []}}}, [3] * 300,
)  # fmt: skip


def bytes_of(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut, repeat and insert bytes."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, len(out) + 1))
        match int(rng.integers(0, 7)):
            case 0 if out:
                out[at % len(out)] ^= 1 << int(rng.integers(8))
            case 1:
                del out[at:]
            case 2:
                del out[at : at + int(rng.integers(1, 60))]
            case 3:
                out[at:at] = out[at : at + int(rng.integers(1, 200))] * int(rng.integers(1, 4))
            case 4:
                out[at:at] = rng.integers(0, 256, size=int(rng.integers(1, 9)), dtype=np.uint8).tobytes()
            case 5:
                out[at:at] = b"[{("[int(rng.integers(3)) :][:1] * int(rng.choice([3, 300, 30_000]))
            case _:
                other = int(rng.integers(0, len(out) + 1))
                out[at:at] = out[other : other + 40]
    return bytes(out)


def tokens_of(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace, insert and exchange words."""
    tokens = re.split(r"([\s,:\[\]{}\"x-])", data.decode())
    for _ in range(rng.integers(1, 4)):
        i = int(rng.integers(len(tokens)))
        match int(rng.integers(4)):
            case 0:
                j = int(rng.integers(len(tokens)))
                tokens[i], tokens[j] = tokens[j], tokens[i]
            case 1:
                tokens.insert(i, _token(rng))
            case _:
                tokens[i] = _token(rng)
    return "".join(tokens).encode(errors="surrogatepass")


def cells_of(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace cells of a CSV file, whole columns, rows and column names; the result is a CSV file again."""
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    for _ in range(rng.integers(1, 4)):
        row, column = int(rng.integers(1, len(rows))), int(rng.integers(len(rows[0])))
        match int(rng.integers(8)):
            case 0:
                token = _token(rng)
                rows[1:] = [[*r[:column], token, *r[column + 1 :]] for r in rows[1:]]
            case 1:
                rows.insert(row, list(rows[int(rng.integers(1, len(rows)))]))
            case 2 if len(rows) > 2:
                del rows[row]
            case 3:
                rows[0][column] = _token(rng)[:200]
            case 4:
                rows = [[*r[:column], *r[column + 1 :]] for r in rows]
            case _:
                rows[row][column] = _token(rng)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode(errors="surrogatepass")


def tree_of(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a JSON document and write it again."""
    return json.dumps(_changed(json.loads(data), rng)).encode()


def lines_of(data: bytes, rng: np.random.Generator) -> bytes:
    """Change, drop, repeat and exchange lines that are JSON documents."""
    lines = data.splitlines()
    for _ in range(rng.integers(1, 3)):
        i, j = (int(rng.integers(len(lines))) for _ in range(2))
        match int(rng.integers(6)):
            case 0 if len(lines) > 1:
                del lines[i]
            case 1:
                lines.insert(i, lines[j])
            case 2:
                lines[i], lines[j] = lines[j], lines[i]
            case _:
                lines[i] = tree_of(lines[i], rng)
    return b"\n".join(lines) + b"\n" * int(rng.integers(2))


def toml_of(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a TOML document and write it again."""
    tree = _changed(tomllib.loads(data.decode()), rng, (5, 50))
    text = "\n".join(f"{_toml(str(k))} = {_toml(v)}" for k, v in tree.items()) if isinstance(tree, dict) else "x"
    return text.encode(errors="surrogatepass")


def zip_of(data: bytes, rng: np.random.Generator) -> bytes:
    """Change one member of a zip file by its kind, or drop, rename or repeat it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    i = int(rng.integers(len(members)))
    name, content = members[i]
    match int(rng.integers(10)):
        case 0:
            del members[i]
        case 1:
            members[i] = ("../../" + name, content)
        case 2:
            members.append((name, bytes_of(content, rng)))
        case 3:
            members[i] = (name, b"\0" * 3_000_000 + content)
        case _:
            members[i] = (name, _member(name, content, rng))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name that is there twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def arrays_of(data: bytes, rng: np.random.Generator) -> bytes:
    """Change an npz file's arrays: values, shapes, types and names."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        arrays: dict[str, Any] = {name: stored[name] for name in stored.files}
    if not arrays:
        return bytes_of(data, rng)
    for _ in range(rng.integers(1, 3)):
        name = sorted(arrays)[int(rng.integers(len(arrays)))]
        array = arrays[name]
        match int(rng.integers(12)):
            case 0 if len(arrays) > 1:
                del arrays[name]
            case 1:
                arrays[name] = array.reshape(-1)
            case 2:
                arrays[name] = array[..., None]
            case 3:
                arrays[name] = np.array([{"a": 1}, None], dtype=object)
            case 4:
                arrays[name] = array.astype(str)
            case 5:
                arrays[name] = np.zeros((0, *array.shape[1:]), array.dtype)
            case 6:
                arrays[name] = np.zeros(3_000_000)
            case 7:
                arrays[name] = array.astype(np.complex128) if array.dtype.kind in "fiu" else array.reshape(-1)[:0]
            case 8:
                arrays[name + "x"] = arrays.pop(name)
            case _:
                arrays[name] = _array(array, rng)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def torch_of(data: bytes, rng: np.random.Generator) -> bytes:
    """Change one value of a torch file and write it again."""
    import torch

    tree = torch.load(io.BytesIO(data), weights_only=True)
    every = [at for at in _places(tree) if at]
    at = every[int(rng.integers(len(every)))] if rng.random() < 0.5 else _shallow(every, rng)
    parent = tree
    for step in at[:-1]:
        parent = parent[step]
    value = parent[at[-1]]
    if isinstance(parent, tuple):
        return bytes_of(data, rng)
    match int(rng.integers(6)):
        case 0:
            del parent[at[-1]]
        case 1 if isinstance(value, torch.Tensor):
            others = [value[..., None], value.double() * math.nan, value.to(torch.int64), value.reshape(-1)[:0]]
            parent[at[-1]] = others[int(rng.integers(4))]
        case 2 if isinstance(parent, dict):
            parent[(None, 3, "x\ny", -1.5)[int(rng.integers(4))]] = value
        case _:
            parent[at[-1]] = torch.zeros(2, 3) if rng.random() < 0.2 else _value(rng)
    out = io.BytesIO()
    try:
        torch.save(tree, out)
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError):
        return bytes_of(data, rng)
    return out.getvalue()


def code_of(data: bytes, rng: np.random.Generator) -> bytes:
    """A pickle that runs a program when it is read as one."""
    import pickle

    return pickle.dumps(_Program())


class _Program:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch executed",)


# ---- parts -----------------------------------------------------------------------------------------------------------


def _token(rng: np.random.Generator) -> str:
    return NASTY_TOKENS[int(rng.integers(len(NASTY_TOKENS)))]


def _value(rng: np.random.Generator) -> Any:
    value = copy.deepcopy(NASTY_VALUES[int(rng.integers(len(NASTY_VALUES)))])
    return tuple(value) if isinstance(value, list) and rng.random() < 0.1 else value


def _shallow(every: list[tuple[Any, ...]], rng: np.random.Generator) -> tuple[Any, ...]:
    depth = int(rng.integers(1, 1 + max(map(len, every))))
    few = [at for at in every if len(at) == depth]
    return few[int(rng.integers(len(few)))]


def _member(name: str, content: bytes, rng: np.random.Generator) -> bytes:
    if rng.random() < 0.15:
        return bytes_of(content, rng)
    if name.endswith(".json"):
        return tree_of(content, rng)
    if name.endswith(".csv"):
        return cells_of(content, rng)
    return arrays_of(content, rng) if name.endswith(".npz") else bytes_of(content, rng)


def _array(array: Any, rng: np.random.Generator) -> Any:
    """Some values replaced, or all."""
    if array.dtype.kind not in "fiu" or not array.size:
        return array[:-1] if array.ndim else np.array("x")
    kinds = (math.nan, math.inf, -math.inf, 1e308, -1.0, 0.0) if array.dtype.kind == "f" else (-1, 0, 2**15, 127)
    out = array.copy()
    try:
        with np.errstate(over="ignore"):
            value = np.array(kinds[int(rng.integers(len(kinds)))]).astype(array.dtype)
    except (OverflowError, ValueError):
        return array[:-1] if array.ndim else np.array("x")
    if rng.random() < 0.5:
        out[...] = value
    else:
        out.reshape(-1)[int(rng.integers(out.size))] = value
    return out


def _places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from _places(value, (*at, key))


def _changed(tree: Any, rng: np.random.Generator, nested: tuple[int, ...] = (5, 50, 600)) -> Any:
    for _ in range(rng.integers(1, 3)):
        every = list(_places(tree))
        at = every[int(rng.integers(len(every)))]
        value = copy.deepcopy(NASTY_VALUES[int(rng.integers(len(NASTY_VALUES)))])
        if rng.random() < 0.1:
            for _ in range(int(rng.choice(nested))):
                value = [value] if rng.random() < 0.5 else {"arch": value}
        if not at:
            if rng.random() < 0.8:
                continue
            return value
        parent = tree
        for step in at[:-1]:
            parent = parent[step]
        match int(rng.integers(8)):
            case 0:
                del parent[at[-1]]
            case 1 if isinstance(parent, list):
                parent.append(parent[at[-1]])
            case 2 if isinstance(parent, dict):
                parent[f"{at[-1]}x"] = value
            case _:
                parent[at[-1]] = value
    return tree


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value) if isinstance(value, int) else json.dumps(str(value))
