"""The identity of a space: the digest of its fields, and the fields in which two spaces differ (ADR 0007).

The functions take the fields of a space as a dictionary (`dataclasses.asdict`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["differences", "digest"]

DIGEST_LENGTH = 12
EXCLUDED = ("name", "resolutions")  # a label, and a choice that every architecture states itself

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


def digest(space: Mapping[str, Any]) -> str:
    """Return 12 hexadecimal digits over the fields of a space, its name and resolutions excluded."""
    described = {name: value for name, value in space.items() if name not in EXCLUDED}
    text = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def differences(space: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that differ, such as `stem stride 2, not 1`: the value of `space`, then that of `other`."""
    found = []
    for name, mine in space.items():
        theirs = other[name]
        if name in EXCLUDED or mine == theirs:
            continue
        if name != "stages":
            found.append(f"{_WORDS[name]} {_shown(mine)}, not {_shown(theirs)}")
        elif len(mine) != len(theirs):
            found.append(f"{len(mine)} stages, not {len(theirs)}")
        else:
            found += [
                f"{key} of stage {number} {_shown(a[key])}, not {_shown(b[key])}"
                for number, (a, b) in enumerate(zip(mine, theirs, strict=True), 1)
                for key in a
                if a[key] != b[key]
            ]
    return tuple(found)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "/".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
