"""npz files: arrays of numbers and text within a limit, or one error."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ofa_core.errors import FormatError
from ofa_core.npz import read_npz


def saved(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def test_arrays_of_numbers_and_text(tmp_path: Path) -> None:
    data = saved(a=np.arange(6.0).reshape(2, 3), b=np.array("text"), c=np.array([], dtype=np.int8))
    (tmp_path / "x.npz").write_bytes(data)
    for source in (data, tmp_path / "x.npz"):
        arrays = read_npz(source, "x", 10_000)
        assert sorted(arrays) == ["a", "b", "c"]
        assert arrays["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert str(arrays["b"]) == "text"
        assert arrays["c"].dtype == np.int8


def test_too_much_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(FormatError, match=r"^x: unpacks to more than 1000 bytes or 1000 arrays$"):
        read_npz(saved(a=np.zeros(2**20)), "x", 1000)
    many = saved(**{f"a{i}": np.zeros(1) for i in range(1001)})
    with pytest.raises(FormatError, match="1000 arrays"):
        read_npz(many, "x", 10**9)


def test_objects_are_not_unpickled() -> None:
    with pytest.raises(FormatError, match="not an npz file of arrays, or damaged"):
        read_npz(saved(a=np.array([{}], dtype=object)), "x", 10**6)


@pytest.mark.parametrize("shape", ["(99999999,)", "(-1,)", "(2, 99999999999)", "'x'"])
def test_a_header_that_promises_more_than_there_is(shape: str) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    header = stream.getvalue().replace(b"(3,)", shape.encode())
    size = (len(header) - 24 - 10).to_bytes(2, "little")
    with zipfile.ZipFile(zipped := io.BytesIO(), "w") as archive:
        archive.writestr("a.npy", header[:8] + size + header[10:])
    with pytest.raises(FormatError, match="not an npz file of arrays, or damaged"):
        read_npz(zipped.getvalue(), "x", 10**6)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_files(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(saved(a=np.arange(50), b=np.zeros((3, 3))))
    for at in rng.integers(0, len(data), 10):
        data[at] = rng.integers(256)
    message = ""
    try:
        read_npz(bytes(data[: rng.integers(1, len(data) + 1)]), "x", 10_000)
    except FormatError as error:  # any other error fails the test
        message = str(error)
    assert "\n" not in message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"^absent: No such file or directory$"):
        read_npz(tmp_path / "absent", "absent", 100)
