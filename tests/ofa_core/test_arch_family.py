"""The family and width of an OFA dictionary."""

from __future__ import annotations

from typing import Any

import pytest

from ofa_core.arch_family import space_name_of
from ofa_core.arch_json import (
    arch_from_dict,
)
from ofa_core.errors import ArchError
from ofa_core.spaces import get_space, mobilenet_v3

RESNET = {"d": [2, 2, 2, 2, 2], "e": [0.35] * 18, "w": [2, 2, 2, 2, 2, 2], "image_size": 224}


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"space": "tiny"}, "tiny"),
        ({"space": "tiny", "arch": {"w": 1.2, "d": [4] * 5}}, "tiny"),
        ({"arch": {"space": "tiny"}}, "tiny"),
        ({"w": 1.2, "d": [4] * 5}, "mbv3-w1.2"),
        ({"w": 1, "d": [4] * 5}, "mbv3-w1.0"),
        ({"wid": [1.3], "d": [4, 4, 4, 4, 4, 1]}, "proxyless-w1.3"),
        ({"arch": {"w": 0.75, "d": (2,) * 5}}, "mbv3-w0.75"),
        ({"w": None, "d": [4] * 5}, None),
        ({"w": 1.2, "d": 4}, None),
        ({"w": 1.2, "d": [4, 4]}, None),
        ({}, None),
    ],
)
def test_the_space_of_a_record(record: dict[str, Any], name: str | None) -> None:
    found = space_name_of(record)
    assert (None if found is None else get_space(found).name) == name


@pytest.mark.parametrize(
    "record",
    [
        RESNET,
        {**RESNET, "w": None},
        {**RESNET, "e": 0.25, "w": 1.0},
        {"arch": RESNET},
        {"ks": 3, "e": 3, "d": 2, "r": 224, "w": [0, 1, 2]},
    ],
)
def test_an_architecture_of_a_resnet_is_named_as_such(record: dict[str, Any]) -> None:
    for read in (space_name_of, lambda data: arch_from_dict(data, mobilenet_v3())):
        with pytest.raises(ArchError, match=r"(e holds 0\.\d+|w holds \d widths): .*OFA-ResNet50.*not supported yet"):
            read(record)
