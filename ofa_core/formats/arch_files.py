"""Read architectures from all files that the commands accept: our own and public dialects, and `net.config`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_from_dict, read_arch_dict
from ofa_core.arch_lists import ArchList, read_arch_list
from ofa_core.csv_fields import read_text
from ofa_core.errors import FormatError
from ofa_core.formats.net_config import is_net_config, read_member
from ofa_core.genomes import encode
from ofa_core.space import Space

__all__ = ["read_arch", "read_archs"]


def read_archs(
    path: Path, named: Space | None, otherwise: Callable[[], Space], resolution_px: int | None = None
) -> ArchList:
    """Read the architectures of a file.

    Args:
        path: the file, the folder of a `net.config`, or `-` for standard input.
        named: the space that the user named, if any.
        otherwise: returns the space if neither the user nor the file names one.
        resolution_px: input size that replaces those of the file.

    Raises:
        FormatError: for a file without architectures, with two spaces, or with a non-member of its space.
        ArchError: for a `net.config` that is not a member of a space.
    """
    text = "" if path.is_dir() else read_text(path)
    if path.is_dir() or is_net_config(text):
        if str(path) == "-":
            raise FormatError("a net.config is read from its file, with the run.config beside it")
        space, arch = read_member(path, named, resolution_px)
        return ArchList(space, encode(space, [arch]), is_list=False)
    return read_arch_list(
        path,
        lambda said: named or said or otherwise(),
        named=named is not None,
        resolution_px=resolution_px,
        text=text,
    )


def read_arch(path: Path, space: Space, resolution_px: int | None = None) -> Arch:
    """Read the only architecture of a file as a member of `space`; the number of classes may differ.

    Raises:
        FormatError: for a file without an architecture.
        ArchError: for an architecture that is not a member of the space.
    """
    if path.is_dir() or is_net_config(read_text(path)):
        return read_member(path, space, resolution_px)[1]
    return arch_from_dict(read_arch_dict(path), space, resolution_px=resolution_px)
