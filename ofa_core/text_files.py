"""Decode the text of a file, and say what it is instead: a cut zip file is the usual surprise."""

from __future__ import annotations

from ofa_core.errors import FormatError

__all__ = ["ANOTHER_COPY", "decoded"]

ZIP_START = b"PK\x03\x04"
ANOTHER_COPY = "copy or download it again"


def decoded(data: bytes, name: str, expected: str = "text in UTF-8") -> str:
    """Return the UTF-8 text of a file.

    Args:
        data: the content.
        name: the file, for errors.
        expected: what the file should be, for errors.

    Raises:
        FormatError: for bytes that are no text.
    """
    if data.startswith(ZIP_START):
        raise FormatError(
            f"{name}: not a text file but a zip file, cut off, damaged or of another kind; {ANOTHER_COPY}. {expected} "
            "is expected"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}: not a text file in UTF-8; {expected} is expected") from error
