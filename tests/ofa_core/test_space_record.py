from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from ofa_core.errors import FormatError, OfaError, SpaceError
from ofa_core.space_record import (
    labelled,
    require_space,
    space_columns,
    space_fields,
    space_from_dict,
    space_of,
    space_to_dict,
)
from ofa_core.spaces import get_space, tiny

CIFAR = labelled(replace(tiny(), first_stride=1))
SPACES = [
    get_space("mbv3-w1.0"),
    get_space("proxyless-w1.3").with_classes(7),
    tiny(),
    replace(tiny(), resolutions=(32,)),
    CIFAR,
]


@pytest.mark.parametrize("space", SPACES)
def test_a_space_comes_back_from_every_form(space):
    for again in (
        space_from_dict(json.loads(json.dumps(space_to_dict(space)))),
        space_of(json.loads(json.dumps(space_fields(space)))),
        space_of(space_columns(space)),
    ):
        assert asdict(again) == asdict(space)


def test_a_built_in_space_needs_no_definition():
    assert space_fields(tiny()) == {"space": "tiny", "space_digest": tiny().digest}
    assert space_columns(tiny())["space_definition"] == ""


def test_without_a_digest_the_name_means_the_built_in_space():
    assert space_of({"space": "tiny"}) == tiny()
    assert space_of({"space": "tiny", "space_digest": "", "space_definition": ""}) == tiny()


def test_a_space_that_takes_a_built_in_name_is_renamed():
    assert CIFAR.name == f"tiny-{CIFAR.digest[:6]}"
    assert space_from_dict({**space_to_dict(CIFAR), "name": "tiny"}).name == CIFAR.name
    assert labelled(tiny().with_classes(3)).name == "tiny"
    assert labelled(replace(CIFAR, name="mine")).name == "mine"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space": "tiny", "space_digest": CIFAR.digest}, "tiny has the digest .* the built-in tiny has"),
        ({**space_columns(CIFAR), "space_digest": tiny().digest}, "and its definition has"),
        ({**space_columns(CIFAR), "space_digest": ""}, "space_definition is given without space_digest"),
        ({**space_columns(CIFAR), "space_definition": "{"}, "not JSON"),
        ({**space_columns(CIFAR), "space_definition": "[1]"}, "not an object"),
        ({**space_columns(CIFAR), "space_definition": '{"name": "a"}'}, "not a search space"),
        ({"space": "mine", "space_digest": CIFAR.digest}, "unknown space 'mine'"),
        ({"space": None}, "must be text"),
        ({"space_digest": "x"}, "must be text"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(OfaError, match=message):
        space_of(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernels": [4]}, "odd"),
        ({"kernels": [5, 3]}, "ascending"),
        ({"kernels": []}, "one number or more"),
        ({"expands": [0, 3]}, "from 1 to 32"),
        ({"expands": [1, 3]}, "cannot be combined with others"),
        ({"resolutions": [30]}, "multiple of 4"),
        ({"n_classes": 0}, "n_classes is 0"),
        ({"first_stride": 3}, "first_stride is 3"),
        ({"stages": []}, "0 stages"),
        ({"first_act": "gelu"}, "first_act is 'gelu'"),
        ({"first_c": "8"}, "first_c is '8'"),
        ({"first_c": True}, "first_c is True"),
        ({"first_c": 8.0}, "first_c is 8.0"),
        ({"name": ""}, "name is ''"),
        ({"name": "a\nb"}, "printable"),
        ({"widths": 3}, "unknown key widths"),
    ],
)
def test_values_that_cannot_be_built_are_named(change, message):
    with pytest.raises(FormatError, match=message):
        space_from_dict({**json.loads(json.dumps(space_to_dict(tiny()))), **change})


def test_a_missing_value_is_named():
    values = space_to_dict(tiny())
    del values["first_c"]
    with pytest.raises(FormatError, match="first_c"):
        space_from_dict(values)


def test_another_space_is_refused_with_what_differs():
    require_space(replace(tiny(), name="other"), tiny(), "x")
    with pytest.raises(SpaceError, match=r"^a\.csv is of space tiny-\w{6}, not tiny: stem stride 1, not 2$"):
        require_space(CIFAR, tiny(), "a.csv")
    with pytest.raises(SpaceError, match=r"5 stages, not 2; .* and 4 more$"):
        require_space(get_space("mbv3-w1.0"), tiny(), "a.csv")
