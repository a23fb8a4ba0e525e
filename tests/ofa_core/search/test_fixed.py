"""Fixed parts of a network."""

from __future__ import annotations

import numpy as np
import pytest

from ofa_core.errors import OfaError
from ofa_core.genomes import depths_of, padded_lists, sample_genomes
from ofa_core.search.fixed import allowed_by, fixed_resolution
from ofa_core.spaces import get_space

SPACE = get_space("mbv3-w1.0")


def within(allowed, genomes):
    return allowed[np.arange(SPACE.n_slots), genomes[:, 1:]].all(axis=1)


def test_what_is_fixed_is_what_remains():
    genomes = sample_genomes(SPACE, 20_000, np.random.default_rng(0))
    kernels, expands, depths = padded_lists(SPACE, genomes)
    fits = within(allowed_by(SPACE, ["d=2,3,*,*,*"]), genomes)
    assert 0 < fits.sum() < len(fits)
    assert (fits == ((depths[:, 0] == 2) & (depths[:, 1] == 3))).all()
    one = ",".join(["7", *["*"] * (SPACE.n_slots - 1)])
    assert (within(allowed_by(SPACE, [f"ks={one}"]), genomes) == (kernels[:, 0] == 7)).all()
    both = allowed_by(SPACE, [f"ks={one}", "d=2,*,*,*,*"])
    assert (within(both, genomes) == ((kernels[:, 0] == 7) & (depths[:, 0] == 2))).all()
    active = genomes[:, 1:] > 0
    same = within(allowed_by(SPACE, ["e=6"]), genomes)
    assert (same == ((expands == 6) | ~active).all(axis=1)).all()
    assert (depths_of(SPACE, genomes) == depths).all()


def test_no_fixed_part_gives_no_mask():
    assert allowed_by(SPACE, []) is None
    assert allowed_by(SPACE, ["r=192"]) is None
    assert fixed_resolution(["d=2"], (160, 192)) is None
    assert fixed_resolution(["r=*"], (160, 192)) is None
    assert fixed_resolution(["d=2", "r=192"], (160, 192)) == 192


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        (["depth=2"], "d=..., ks=..., e=... or r=... is expected"),
        (["d"], "is expected, such as d=2,3,4"),
        (["d=2,3"], "d has 2 values; 5 are expected, one for each stage"),
        (["d=2,3,4,5,*"], "5 in stage 4; choose one of 2, 3, 4"),
        (["d=2,x,4,*,*"], "'x'; whole numbers and \\* are expected"),
        (["d=-2"], "'-2'; whole numbers"),
        (["d="], "''; whole numbers"),
        (["ks=4"], "4 in slot 1; choose one of 3, 5, 7"),
        (["e=3,4"], "e has 2 values; 20 are expected, one for each slot"),
        (["d=2", "d=3"], "d is given twice"),
    ],
)
def test_what_cannot_be_fixed_is_one_line(fixed, message):
    with pytest.raises(OfaError, match=message):
        allowed_by(SPACE, fixed)


def test_a_resolution_that_cannot_be_had_is_one_line():
    with pytest.raises(OfaError, match="r=200: choose one of 160, 192"):
        fixed_resolution(["r=200"], (160, 192))
    with pytest.raises(OfaError, match="r has 2 values; 1 are expected"):
        fixed_resolution(["r=160,192"], (160, 192))
