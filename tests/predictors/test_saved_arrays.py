from __future__ import annotations

import numpy as np
import pytest

from ofa_core.errors import FormatError
from ofa_core.genomes import sample_genomes
from predictors.saved_arrays import Arrays


def test_numbers_of_the_expected_shape() -> None:
    arrays = Arrays({"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": np.float32(0.5), "c": np.array([])})
    assert arrays.floats("a", 2, 3).dtype == np.float64
    assert arrays.floats("a", None, 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays.number("b") == 0.5
    with pytest.raises(FormatError, match=r"^a is an array of \(2, 3\) int32; numbers are expected: 3 x n$"):
        arrays.floats("a", 3, None)
    with pytest.raises(FormatError, match=r"numbers are expected: one number$"):
        arrays.number("a")
    with pytest.raises(FormatError, match=r"^c is an array of \(0,\)"):
        arrays.floats("c", None)
    with pytest.raises(FormatError, match=r"^has no array d, only a, b, c$"):
        arrays.floats("d", None)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, -0.5])
def test_numbers_out_of_range(bad: float) -> None:
    with pytest.raises(FormatError, match=r"^x has values that are not finite or out of range$"):
        Arrays({"x": np.array([1.0, bad])}).floats("x", None, least=0)


@pytest.mark.parametrize("bad", [np.array(["1"]), np.array([True]), np.array([1j])])
def test_arrays_of_other_things(bad: np.ndarray) -> None:
    with pytest.raises(FormatError, match="numbers are expected"):
        Arrays({"x": bad}).floats("x", None)


def test_log_errors_have_a_limit() -> None:
    assert Arrays({"e": np.array([-50.0, 3.0])}).log_errors("e").tolist() == [-50, 3]
    with pytest.raises(FormatError, match=r"^e has values above 50\.0$"):
        Arrays({"e": np.array([-51.0])}).log_errors("e")


def test_a_ceiling_may_be_absent_or_infinite() -> None:
    assert Arrays({}).ceiling() == np.inf
    assert Arrays({"ceiling": np.array(np.inf)}).ceiling() == np.inf
    assert Arrays({"ceiling": np.array(80.0)}).ceiling() == 80.0
    for bad in (np.array(-np.inf), np.array(np.nan), np.array([np.inf])):
        with pytest.raises(FormatError):
            Arrays({"ceiling": bad}).ceiling()


def test_genomes_of_the_space(tiny_space) -> None:
    genomes = sample_genomes(tiny_space, 5, np.random.default_rng(0))
    assert Arrays({"g": genomes}).genomes("g", tiny_space) is genomes
    assert len(Arrays({"g": genomes[:0]}).genomes("g", tiny_space)) == 0
    for column, value, message in ((1, 99, "choices that tiny does not have"), (0, 30, "^g: ")):
        damaged = genomes.copy()
        damaged[2, column] = value
        with pytest.raises(FormatError, match=message):
            Arrays({"g": damaged}).genomes("g", tiny_space)
    for wrong in (genomes[:, :-1], genomes.astype(float), genomes[0]):
        with pytest.raises(FormatError, match="networks of tiny are expected"):
            Arrays({"g": wrong}).genomes("g", tiny_space)
