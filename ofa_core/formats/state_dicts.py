"""Find the weights in files of other trainers: inside wrappers, with prefixes, without counters.

A trainer puts the weights under a key of its own (`model`, `state_dict_ema`) beside an optimizer, and wrappers such as
DistributedDataParallel put a prefix (`module.`) before each name. All of these are found. If a file
has several sets of weights, the caller chooses one with `FILE#KEY`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ofa_core.errors import FormatError

__all__ = ["find_states", "is_counter", "key_of", "listed", "state_in", "without_prefix"]

MAX_DEPTH = 3  # of wrappers
_COUNTER = "num_batches_tracked"
_STEM = "first_conv.conv.weight"  # every network of the family has it


def key_of(path: Path) -> tuple[Path, str | None]:
    """Return the file and the key of `FILE#KEY`; an existing file of the whole name has priority."""
    name, mark, key = path.name.rpartition("#")
    return (path.with_name(name), key) if mark and name and key and not path.exists() else (path, None)


def find_states(content: object, depth: int = MAX_DEPTH, where: str = "") -> dict[str, Mapping[str, Any]]:
    """Return the sets of weights in a file's content by dotted key; the key of an unwrapped set is empty."""
    if not isinstance(content, Mapping):
        return {}
    found: dict[str, Mapping[str, Any]] = {}
    for name, value in content.items() if depth else ():
        if isinstance(name, str) and "optim" not in name.lower():
            found |= find_states(value, depth - 1, f"{where}.{name}" if where else name)
    is_state = any(isinstance(v, Tensor) and str(k).endswith("weight") for k, v in content.items())
    return {where: content} if is_state and not found else found


def state_in(content: object, source: str, key: str | None = None) -> dict[str, Tensor]:
    """Return the set of weights in a file's content.

    Args:
        content: content of the file.
        source: name of the file, for errors.
        key: key of the set, if there are several.

    Raises:
        FormatError: for no set, several different ones without a key, or a set with other values than tensors.
    """
    states = find_states(content)
    if key is not None:
        if key not in states:
            raise FormatError(f"{source}: no weights under {_shown(key)}; there are {listed(states) or 'none'}")
        states = {key: states[key]}
    if not states:
        raise FormatError(f"{source}: no state dict; it needs names and tensors, or those under 'state_dict'")
    first = next(iter(states.values()))
    if not all(_equal(first, other) for other in states.values()):
        raise FormatError(
            f"{source}: several sets of weights, under {listed(states)}; choose one as FILE#KEY, such as "
            f"{Path(source).name}#{next(iter(states))}"
        )
    strange = [name for name, value in first.items() if not isinstance(value, Tensor)]
    if strange:
        held = type(first[strange[0]]).__name__
        raise FormatError(f"{source}: {_shown(strange[0])} holds a {held} among the weights; a tensor is expected")
    return {str(name): tensor for name, tensor in first.items()}


def _equal(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a is b or (
        a.keys() == b.keys()
        and all(isinstance(v, Tensor) and isinstance(b[k], Tensor) and torch.equal(v, b[k]) for k, v in a.items())
    )


def without_prefix(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the weights without a prefix that a wrapper added to all names, such as `module.`.

    Raises:
        FormatError: for two networks in one state dict.
    """
    prefixes = [name.removesuffix(_STEM) for name in state if name.endswith(_STEM)]
    if len(prefixes) > 1:
        raise FormatError(f"{source}: several networks, whose names begin with {listed(prefixes)}; one is expected")
    prefix = prefixes[0] if prefixes else ""
    stripped = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    if len(stripped) < len(state):
        raise FormatError(f"{source}: names occur twice, with {_shown(prefix)} and without")
    return stripped


def is_counter(name: str) -> bool:
    """Return True for the batch counter of a batch norm, which old versions of torch lack."""
    return name.endswith(_COUNTER)


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return the first names for an error message, without control characters."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(_shown, names[:most])) + more


def _shown(name: object) -> str:
    text = str(name)
    text = text if text.isprintable() and text else repr(text)
    return text if len(text) <= 100 else f"{text[:100]}..."
