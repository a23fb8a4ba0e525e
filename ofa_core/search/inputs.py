"""Load what the options of `ofa-search` name: latency predictors of one or more devices, and a supernet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ofa_core.atomic import check_file, check_folder
from ofa_core.errors import OfaError, OutputError
from ofa_core.search.device_words import device_name

if TYPE_CHECKING:
    from ofa_core.search.device_words import LutWord
    from ofa_core.search.fleet import Member
    from ofa_core.search.steps import LatencySource
    from ofa_core.search.trained import Trained
    from ofa_core.space import Space

__all__ = ["check_out", "load_beside", "load_latency_of", "load_others", "load_trained"]

_log = logging.getLogger(__name__)


def check_out(out: Path, inputs: Sequence[Path | str | None]) -> None:
    """Check that a search can write all its files into a folder, and that they replace no input.

    Raises:
        typer.BadParameter: for an input that the search would replace or remove, or a folder where a file is written.
    """
    from ofa_core.search.result_folder import ANSWERS, REPLACED

    try:
        check_folder(out / ANSWERS)
        replaced = {check_file(out / name) for name in REPLACED}
    except OutputError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error
    for file in (file for file in inputs if file is not None):
        if Path(file).resolve() in replaced:
            raise typer.BadParameter(
                f"{file} is an input, and would be replaced; name another folder", param_hint="--out"
            )


def load_others(luts: list[LutWord], limits_ms: list[float | None], space: Space, fill: bool) -> list[Member]:
    """Load the devices after the first one."""
    from ofa_core.search.fleet import Member

    members = []
    for word, limit_ms in zip(luts[1:], limits_ms[1:], strict=True):
        latency, _ = load_latency_of(word.path, space, fill)
        members.append(Member(word.name, word.path, latency, limit_ms))
    return members


def load_beside(files: Sequence[Path] | None, known: Sequence[str], space: Space, fill: bool) -> list[Member]:
    """Load the files of --beside; `known` are the names of the other devices.

    Raises:
        typer.BadParameter: for a name that two devices would have.
    """
    from ofa_core.search.fleet import Member

    members: list[Member] = []
    for path in files or ():
        name = device_name(path)
        if name in (*known, *(member.name for member in members)):
            raise typer.BadParameter(f"another file is named {name} too; rename one", param_hint="--beside")
        latency, _ = load_latency_of(path, space, fill)
        members.append(Member(name, path, latency))
    return members


def load_latency_of(lut: Path, space: str | Space | None, fill: bool) -> tuple[LatencySource, Space]:
    """Load the latency predictor and its space."""
    from ofa_core.space_files import space_from
    from predictors.estimator import as_space
    from predictors.loading import load_latency

    latency = load_latency(lut, space_from(space) if isinstance(space, str) else space, fill=fill)
    found = as_space(latency.space)
    if not latency.resolutions:
        advice = "" if fill else "; add --fill to estimate them"
        raise OfaError(f"{lut} lacks blocks of {found.name} at every resolution{advice}")
    if not latency.calibrated:
        _log.warning("%s has no whole networks beside it: latencies are plain sums, and their error is unknown", lut)
    return latency, found


def load_trained(weights: Path | None, data: str | None, preprocessing: str | None, space: Space) -> Trained | None:
    """Load the supernet of --weights."""
    if weights is None:
        if data or preprocessing:
            raise typer.BadParameter("needs --weights", param_hint="--data" if data else "--preprocessing")
        return None
    from ofa_core.search.trained import Trained

    if data is None:
        raise typer.BadParameter("--weights needs images for batch norm calibration", param_hint="--data")
    return Trained(weights, data, preprocessing, space)
