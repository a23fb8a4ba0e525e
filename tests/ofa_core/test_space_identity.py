from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from ofa_core.spaces import get_space, tiny


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("mbv3-w1.0", "a37ac6aefe3a"),
        ("mbv3-w1.2", "ee7a9bc184e5"),
        ("proxyless-w1.3", "bef67b7c0f40"),
        ("tiny", "a3905e5d70eb"),
    ],
)
def test_digests_of_the_built_in_spaces_never_change(name, digest):
    assert get_space(name).digest == digest


def test_the_name_and_the_resolutions_are_not_part_of_the_digest():
    other = replace(tiny(), name="mine", resolutions=(32,))
    assert other == tiny()
    assert hash(other) == hash(tiny())
    assert other.digest == tiny().digest
    assert other.differences(tiny()) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"first_stride": 1}, "stem stride 1, not 2"),
        ({"first_c": 16}, "stem channels 16, not 8"),
        ({"base_shortcut": False}, "shortcut of the first block no, not yes"),
        ({"head_act": "relu"}, "head activation relu, not h_swish"),
        ({"feature_c": 0}, "channels after the pooling 0, not 128"),
        ({"kernels": (3, 5, 7)}, "kernel sizes 3/5/7, not 3/5"),
        ({"expands": (6,)}, "expand ratios 6, not 3/6"),
        ({"n_classes": 100}, "classes 100, not 10"),
        ({"stages": tiny().stages[:1]}, "1 stages, not 2"),
        ({"stages": (replace(tiny().stages[0], stride=1), tiny().stages[1])}, "stride of stage 1 1, not 2"),
        ({"stages": (tiny().stages[0], replace(tiny().stages[1], se=False))}, "se of stage 2 no, not yes"),
        ({"stages": (tiny().stages[0], replace(tiny().stages[1], depths=(2,)))}, "depths of stage 2 2, not 1/2"),
    ],
)
def test_everything_else_is(change, words):
    other = replace(tiny(), **change)
    assert other != tiny()
    assert other.digest != tiny().digest
    assert other.differences(tiny()) == (words,)


def test_every_field_counts():
    """A field that is added to the space must be told apart too."""
    values = asdict(tiny())
    assert set(values) - {"name", "resolutions"} == {
        "first_c", "first_act", "base_c", "base_act", "stages", "final_expand_c", "feature_c", "head_act", "kernels",
        "expands", "n_classes", "first_stride", "base_shortcut",
    }  # fmt: skip
