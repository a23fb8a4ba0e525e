"""Whatever a user names with `--lut` or `--source`, as a latency predictor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ofa_core.atomic import is_visible
from ofa_core.errors import PredictorError
from ofa_core.measured_columns import LATENCY
from ofa_core.measured_files import MeasuredFile
from ofa_core.space import Space
from ofa_core.space_record import require_space
from predictors.estimator import as_space

if TYPE_CHECKING:
    from predictors.lut import LutPredictor
    from predictors.network import NetworkPredictor

__all__ = ["default_luts", "load_latency", "spaces_of"]


def default_luts() -> list[Path]:
    """The tables that are used where none is named: the files `./luts/*.csv`, but no hidden and no `.networks.csv`."""
    found = Path("luts").glob("*.csv")
    return sorted(
        path for path in found if is_visible(path) and path.is_file() and not path.name.endswith(".networks.csv")
    )


def load_latency(
    path: Path, space: Space | None = None, *, fill: bool = False, column: str | None = None
) -> LutPredictor | NetworkPredictor:
    """Read a latency predictor from a file.

    Args:
        path: a latency table (CSV, or YAML in any published dialect, a file or a folder); a `.predictor`; or a CSV of
            measured networks (`space, ks, e, d, r, latency_ms`, or another tool's: docs/formats.md), to which a
            `NetworkPredictor` is fitted.
        space: the space of the architectures; None is the file's own, or the only one that a table covers.
        fill: supply blocks that a table lacks by regression.
        column: of measured latencies, as `find_column` takes it; None is the one that its name shows.

    Returns:
        The fitted predictor.

    Raises:
        FormatError: for a file that is none of these.
        PredictorError: if the space is not given and not clear, or a predictor predicts accuracy.
        SpaceError: for a predictor of another space.
    """
    if path.suffix.lower() == ".predictor":
        from predictors.lut import LutPredictor
        from predictors.network import NetworkPredictor
        from predictors.persistence import load_predictor

        predictor = load_predictor(path)
        if not isinstance(predictor, LutPredictor | NetworkPredictor):
            raise PredictorError(f"{path}: a predictor of accuracy; one of latency is expected")
        if space is not None:
            require_space(as_space(predictor.space), space, path)
        return predictor
    file = MeasuredFile.find(path)
    if file is not None:
        from predictors.network import NetworkPredictor

        values = file.column(column, LATENCY)
        space = file.only_space() if space is None else space
        context = file.context()
        rows = file.select(space, values)
        name = path.stem if context is None else context.device
        return NetworkPredictor(space, device=name, context=context).fit(rows.genomes, rows.values)
    from predictors.lut import load_lut

    return load_lut(path, space, fill=fill)


def spaces_of(path: Path) -> tuple[Space, ...]:
    """The spaces that a latency file can answer for.

    Raises:
        FormatError: for a file that is no table, predictor or list of measured networks.
    """
    if path.suffix.lower() == ".predictor":
        return (as_space(load_latency(path).space),)
    file = MeasuredFile.find(path)
    if file is not None:
        return file.spaces()
    from ofa_core import measured_networks
    from predictors.lut import read_lut

    return measured_networks.spaces_of(*read_lut(path))
