"""Read npz files without running code and without unpacking more than a limit."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.errors import FormatError
from ofa_core.text_files import ANOTHER_COPY

__all__ = ["ZIP_DAMAGE", "read_npz"]

# Errors of the standard library and numpy for damaged zip files or arrays.
ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    NotImplementedError,
    RuntimeError,
)
MAX_ARRAYS = 1000


def read_npz(source: Path | bytes, where: str, max_bytes: int) -> dict[str, NDArray[Any]]:
    """Read all arrays of an npz file.

    Args:
        source: the file, or its content.
        where: name of the file, for errors.
        max_bytes: largest size of all arrays in memory.

    Raises:
        FormatError: for another format, content other than numbers and text, or arrays that are too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > max_bytes or len(members) > MAX_ARRAYS:
                raise FormatError(f"{where}: unpacks to more than {max_bytes} bytes or {MAX_ARRAYS} arrays")
            return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}
    except OSError as error:
        raise FormatError(f"{where}: {error.strerror or error}") from error
    except ZIP_DAMAGE as error:
        raise FormatError(
            f"{where}: not an npz file of arrays, or damaged: {str(error)[:150]}; {ANOTHER_COPY}"
        ) from error


def _array(data: bytes) -> NDArray[Any]:
    """Read a .npy file, after comparing the size in its header with the size of its content."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read_header(stream)
    if kind.hasobject or np.prod(shape, dtype=np.float64) * kind.itemsize > len(data):
        raise ValueError(f"an array of {shape} {kind} in {len(data)} bytes")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)
