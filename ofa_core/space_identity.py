"""What makes two spaces the same one (docs/adr/0007-space-identity.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ofa_core.space import Space

__all__ = ["differences", "digest"]

DIGEST_LENGTH = 12
NO_PART = ("name", "resolutions")  # a label, and a choice that every architecture states for itself

_WORDS = {
    "first_c": "stem channels",
    "first_stride": "stem stride",
    "first_act": "stem activation",
    "base_c": "channels of the first block",
    "base_act": "activation of the first block",
    "base_shortcut": "shortcut of the first block",
    "final_expand_c": "channels before the pooling",
    "feature_c": "channels after the pooling",
    "head_act": "head activation",
    "kernels": "kernel sizes",
    "expands": "expand ratios",
    "n_classes": "classes",
}


def digest(space: Space) -> str:
    """12 hexadecimal digits of everything but the name and the resolutions."""
    described = {name: value for name, value in asdict(space).items() if name not in NO_PART}
    text = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def differences(space: Space, other: Space) -> tuple[str, ...]:
    """What is different in `other`, such as `stem stride 2, not 1`: the value of `space`, then that of `other`."""
    found = []
    for name in (field.name for field in fields(space)):
        mine, theirs = getattr(space, name), getattr(other, name)
        if name in NO_PART or mine == theirs:
            continue
        if name != "stages":
            found.append(f"{_WORDS[name]} {_shown(mine)}, not {_shown(theirs)}")
        elif len(mine) != len(theirs):
            found.append(f"{len(mine)} stages, not {len(theirs)}")
        else:
            found += [
                f"{key} of stage {number} {_shown(a[key])}, not {_shown(b[key])}"
                for number, (a, b) in enumerate(zip(map(asdict, mine), map(asdict, theirs), strict=True), 1)
                for key in a
                if a[key] != b[key]
            ]
    return tuple(found)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "/".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
