"""Whatever a user names with `--lut` or `--source`, as a latency predictor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ofa_core.atomic import is_visible
from ofa_core.errors import PredictorError
from ofa_core.space import Space
from predictors.estimator import as_space

if TYPE_CHECKING:
    from predictors.lut import LutPredictor
    from predictors.network import NetworkPredictor

__all__ = ["default_luts", "is_table", "load_latency", "spaces_of"]


def default_luts() -> list[Path]:
    """The tables that are used where none is named: `./luts/*.csv`, but no hidden files and no `.networks.csv`."""
    found = Path("luts").glob("*.csv")
    return sorted(path for path in found if is_visible(path) and not path.name.endswith(".networks.csv"))


def load_latency(path: Path, space: Space | None = None, *, fill: bool = False) -> LutPredictor | NetworkPredictor:
    """Read a latency predictor from a file.

    Args:
        path: a latency table (CSV, or YAML in any published dialect, a file or a folder); a `.predictor`; or a CSV of
            measured networks (`space, ks, e, d, r, latency_ms`), to which a `NetworkPredictor` is fitted.
        space: the space of the architectures; None is the file's own, or the only one that a table covers.
        fill: supply blocks that a table lacks by regression.

    Returns:
        The fitted predictor.

    Raises:
        FormatError: for a file that is none of these.
        PredictorError: if the space is not given and not clear, or a predictor is of another one or predicts accuracy.
    """
    if path.suffix.lower() == ".predictor":
        from predictors.lut import LutPredictor
        from predictors.network import NetworkPredictor
        from predictors.persistence import load_predictor

        predictor = load_predictor(path)
        if not isinstance(predictor, LutPredictor | NetworkPredictor):
            raise PredictorError(f"{path}: a predictor of accuracy; one of latency is expected")
        found = as_space(predictor.space)
        if space is not None and found != space:
            classes = [f" with {s.n_classes} classes" if found.name == space.name else "" for s in (found, space)]
            mine, theirs = f"{found.name}{classes[0]}", f"{space.name}{classes[1]}"
            raise PredictorError(f"{path}: a predictor for {mine}; {theirs} is asked for")
        return predictor
    if path.is_file() and _is_measured(path):
        from predictors.measured import measured_arrays, measured_context, read_measured
        from predictors.network import NetworkPredictor

        if space is None:
            spaces = {row.space for row in read_measured(path, "latency_ms")}
            if len(spaces) != 1:
                names = ", ".join(sorted(s.name for s in spaces))
                raise PredictorError(f"{path}: networks of {names}; say which with --space")
            space = spaces.pop()
        context = measured_context(path)
        name = path.stem if context is None else context.device
        networks = measured_arrays(path, "latency_ms", space)
        return NetworkPredictor(space, device=name, context=context).fit(*networks)
    from predictors.lut import load_lut

    return load_lut(path, space, fill=fill)


def is_table(path: Path) -> bool:
    """Whether a path can only be that of a latency table: a folder, or a file that lists no networks.

    Raises:
        FormatError: if there is no such file.
    """
    from predictors.measured import header_of

    return path.is_dir() or not {"ks", "e", "d", "r"} <= set(header_of(path))


def spaces_of(path: Path) -> tuple[str, ...]:
    """Names of the spaces that a latency file can answer for.

    Raises:
        FormatError: for a file that is no table, predictor or list of measured networks.
    """
    if path.suffix.lower() == ".predictor":
        return (as_space(load_latency(path).space).name,)
    if path.is_file() and _is_measured(path):
        from predictors.measured import read_measured

        return tuple(sorted({row.space.name for row in read_measured(path, "latency_ms")}))
    from ofa_core import measured_networks
    from predictors.lut import read_lut

    return measured_networks.spaces_of(*read_lut(path))


def _is_measured(path: Path) -> bool:
    """Whether the first line is the header of a file of measured networks."""
    from predictors.measured import header_of

    return {"ks", "e", "d", "r", "latency_ms"} <= set(header_of(path))
