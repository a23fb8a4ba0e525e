"""State dicts as other trainers write them: inside wrappers, with prefixes, without counters.

A trainer puts the weights under a key of its own (`model`, `state_dict_ema`) beside an optimizer, and wrappers such as
DistributedDataParallel put a prefix (`module.`) before each name. The weights are found wherever they are; where there
are several sets of them, which one is meant is the caller's choice: `FILE#KEY` names it.
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
    """The file and the key of `FILE#KEY`; a file of the whole name wins."""
    name, mark, key = path.name.rpartition("#")
    return (path.with_name(name), key) if mark and name and key and not path.exists() else (path, None)


def find_states(content: object, depth: int = MAX_DEPTH, where: str = "") -> dict[str, Mapping[str, Any]]:
    """The sets of weights in a file's content, by the dotted key of each; the key is empty for a bare one."""
    if not isinstance(content, Mapping):
        return {}
    found: dict[str, Mapping[str, Any]] = {}
    for name, value in content.items() if depth else ():
        if isinstance(name, str) and "optim" not in name.lower():
            found |= find_states(value, depth - 1, f"{where}.{name}" if where else name)
    is_state = any(isinstance(v, Tensor) and str(k).endswith("weight") for k, v in content.items())
    return {where: content} if is_state and not found else found


def state_in(content: object, source: str, key: str | None = None) -> dict[str, Tensor]:
    """The one set of weights in a file's content.

    Args:
        content: of the file.
        source: how errors call it.
        key: of the set, where there are several.

    Raises:
        FormatError: if there is none, or several that differ and no key; or the set holds more than tensors.
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
    """The same weights without what a wrapper put before each name, such as `module.`.

    Raises:
        FormatError: for two networks in one state dict.
    """
    prefixes = [name.removesuffix(_STEM) for name in state if name.endswith(_STEM)]
    if len(prefixes) > 1:
        raise FormatError(f"{source}: several networks, whose names begin with {listed(prefixes)}; one is expected")
    prefix = prefixes[0] if prefixes else ""
    stripped = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    if len(stripped) < len(state):
        raise FormatError(f"{source}: names stand there twice, with {_shown(prefix)} and without")
    return stripped


def is_counter(name: str) -> bool:
    """Whether a tensor only counts the batches of a batch norm, which old versions of torch did not do."""
    return name.endswith(_COUNTER)


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names for an error: the first ones, without anything that a terminal would obey."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(_shown, names[:most])) + more


def _shown(name: object) -> str:
    text = str(name)
    text = text if text.isprintable() and text else repr(text)
    return text if len(text) <= 100 else f"{text[:100]}..."
