"""The tree of errors."""

from __future__ import annotations

import re

from devices import errors
from devices.errors import DeviceError


def test_the_docstring_draws_the_tree() -> None:
    drawn: dict[str, str] = {}
    branch = ["DeviceError"]
    for indent, name in re.findall(r"^    ([│ ]*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(indent) // 4 + 1
        branch = [*branch[:depth], name]
        drawn[name] = branch[depth - 1]
    actual = {name: getattr(errors, name).__base__.__name__ for name in errors.__all__ if name != "DeviceError"}
    assert drawn == actual


def test_all_are_device_errors() -> None:
    assert all(issubclass(getattr(errors, name), DeviceError) for name in errors.__all__)
    assert errors.__all__ == sorted(errors.__all__)
