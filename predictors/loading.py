"""Open predictors: the files that a user names with `--lut`, `--source` or `--accuracy`.

`LatencyFile.read` reads a file once; its methods return the spaces and a predictor.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ofa_core.atomic import is_visible
from ofa_core.context import Context
from ofa_core.errors import PredictorError
from ofa_core.formats.yaml_tables import read_table
from ofa_core.measured_columns import LATENCY, TOP1
from ofa_core.measured_files import MeasuredFile
from ofa_core.measured_networks import Network, networks_path, read_networks
from ofa_core.measured_networks import spaces_of as spaces_of_table
from ofa_core.space import Space
from ofa_core.space_record import described_differences, require_space
from ofa_core.spaces import get_space
from ofa_core.table import LatencyTable
from predictors.accuracy import AccuracyPredictor, MacsProxy
from predictors.builtin_accuracy import BUILTIN_SPACE, BuiltinAccuracy
from predictors.estimator import Estimator, as_space
from predictors.lut import LatencyEstimator, LutPredictor
from predictors.network import NetworkPredictor
from predictors.persistence import load_predictor

if TYPE_CHECKING:
    from ofa_core.formats.acc_predictor import PublishedAccuracyPredictor

__all__ = ["LatencyFile", "default_luts", "load_accuracy", "load_latency"]

_LOG = logging.getLogger(__name__)

LEAST_NETWORKS = 12  # for a model of whole networks in place of a table
GAIN = 0.8  # a model of whole networks replaces a sum if its error is below this fraction of the sum's


def default_luts() -> list[Path]:
    """Return the default tables: the files `./luts/*.csv`, except hidden ones and `.networks.csv`."""
    found = Path("luts").glob("*.csv")
    return sorted(
        path for path in found if is_visible(path) and path.is_file() and not path.name.endswith(".networks.csv")
    )


@dataclass(frozen=True)
class LatencyFile:
    """A file that latency can be predicted from, read once.

    Attributes:
        path: the file, or the folder of a published table.
        content: a fitted predictor; measured networks; or a table with the networks beside it.
    """

    path: Path
    content: LatencyEstimator | MeasuredFile | tuple[LatencyTable, list[Network]]

    @classmethod
    def read(cls, path: Path) -> LatencyFile:
        """Read a file.

        Args:
            path: a latency table (CSV, or YAML in any published dialect, a file or a folder); a `.predictor`; or a CSV
                of measured networks (`space, ks, e, d, r, latency_ms`, or another tool's: docs/formats.md).

        Raises:
            FormatError: for any other file, or a damaged one.
            PredictorError: for a predictor of accuracy.
            ContextMismatchError: if the networks beside a table were measured in another context.
        """
        if path.suffix.lower() == ".predictor":
            predictor = load_predictor(path)
            if not isinstance(predictor, LatencyEstimator):
                raise PredictorError(f"{path} predicts accuracy; a predictor of latency is expected")
            return cls(path, predictor)
        file = MeasuredFile.find(path)
        if file is not None:
            return cls(path, file)
        table, beside = read_table(path), networks_path(path)
        networks = read_networks(beside, table.context) if path.is_file() and beside.is_file() else []
        return cls(path, (table, networks))

    def spaces(self) -> tuple[Space, ...]:
        """Return the spaces that the file has latencies of."""
        match self.content:
            case LatencyEstimator() as predictor:
                return (as_space(predictor.space),)
            case MeasuredFile() as file:
                return file.spaces()
            case table, networks:
                return spaces_of_table(table, networks)

    def predictor(
        self, space: Space | None = None, *, fill: bool = False, column: str | None = None, warn: bool = True
    ) -> LatencyEstimator:
        """Return a fitted predictor: stored in the file, of its table, or fitted to its networks.

        Args:
            space: space of the architectures; None is the only space of the file.
            fill: True to estimate blocks that a table lacks.
            column: column of measured latencies, as in `find_column`; None finds it by its name.
            warn: True to warn where the sums of a table do not predict latencies.

        Raises:
            PredictorError: if `space` is None and the file has none or several.
            SpaceError: if a stored predictor is of another space.
        """
        match self.content:
            case LatencyEstimator() as predictor:
                if space is not None:
                    require_space(as_space(predictor.space), space, self.path)
                return predictor
            case MeasuredFile() as file:
                values = file.column(column, LATENCY)
                space = file.only_space() if space is None else space
                context = file.context()
                rows = file.select(space, values)
                name = self.path.stem if context is None else context.device
                return NetworkPredictor(space, device=name, context=context).fit(rows.genomes, rows.values)
            case table, networks:
                by_sum = LutPredictor(space or _only_space(table, networks), fill=fill).fit(table, networks)
                whole = _of_networks(by_sum, table.context, networks)
                if warn and whole is not None and by_sum.calibration is not None:
                    _LOG.warning(
                        "%s: the sum of blocks does not predict whole networks (leave-one-out error %.1f %%); using a "
                        "model %s", table.context.label, 100 * by_sum.calibration.loo_mape, whole.note,
                    )  # fmt: skip
                return whole or by_sum


def load_latency(
    path: Path, space: Space | None = None, *, fill: bool = False, column: str | None = None
) -> LatencyEstimator:
    """Read a file and return its predictor of latency; arguments and errors as in `LatencyFile`."""
    return LatencyFile.read(path).predictor(space, fill=fill, column=column)


def _of_networks(by_sum: LutPredictor, context: Context, networks: Sequence[Network]) -> NetworkPredictor | None:
    """Return a model of whole networks where the sums of a table do not give latencies; None where they do.

    The model of the reference networks has the table as a prior. It is used if its leave-one-out error is a fifth
    smaller, and if no energy was measured, because energy is attributed to blocks by their sum. Like the sum, it
    estimates blocks on demand only.
    """
    space, calibration = as_space(by_sum.space), by_sum.calibration
    pixels = {net.arch.resolution_px for net in networks} if by_sum.fill else set(by_sum.resolutions)
    known = [n for n in networks if n.role == "reference" and n.space == space and n.arch.resolution_px in pixels]
    if calibration is None or calibration.is_additive or by_sum.energy_ or len(known) < LEAST_NETWORKS:
        return None
    whole = NetworkPredictor(
        space, table=by_sum.table, boost="never", device=context.device, context=context, fill=by_sum.fill
    )
    try:
        whole.fit([net.arch for net in known], [net.latency_ms for net in known])
    except PredictorError:  # such as equal latencies; the note of the sum says that its correction cannot be trusted
        return None
    return whole if whole.errors_.mape <= GAIN * calibration.loo_mape else None


def _only_space(table: LatencyTable, networks: Sequence[Network]) -> Space:
    spaces = spaces_of_table(table, networks)
    if len(spaces) == 1:
        return spaces[0]
    if spaces:
        names = ", ".join(space.name for space in spaces)
        raise PredictorError(f"the table covers several spaces ({names}); choose one with --space")
    raise PredictorError("the table covers no known space completely; choose one with --space, and add --fill")


def load_accuracy(spec: str | None, space: Space, column: str | None = None) -> Estimator | PublishedAccuracyPredictor:
    """Return the accuracy predictor that `--accuracy` names.

    Args:
        spec: None for the built-in model; `proxy:macs`; a `.pth` or `.npz` of the published predictor; a `.predictor`;
            or a CSV of measured accuracies, to which an `AccuracyPredictor` is fitted.
        space: space of the architectures.
        column: column of the CSV, as in `find_column`; None finds it by its name.

    Raises:
        PredictorError: if no built-in model exists for the space, `spec` is unknown, or a predictor predicts latency.
        FormatError: if the file cannot be read.
        SpaceError: for a `.predictor` of another space.
    """
    if spec is None:
        return _builtin_accuracy(space)
    if spec == "proxy:macs":
        return MacsProxy(space)
    if spec.startswith("proxy:"):
        raise PredictorError(f"unknown proxy {spec!r}; the only one is proxy:macs")
    path = Path(spec)
    suffix = path.suffix.lower()
    if suffix in (".pth", ".pt", ".npz"):
        from ofa_core.formats.acc_predictor import read_acc_predictor

        return read_acc_predictor(path, space)
    if suffix == ".predictor":
        predictor = load_predictor(path)
        if predictor.quantity != TOP1:
            raise PredictorError(f"{path} predicts latency; a predictor of accuracy is expected")
        require_space(as_space(predictor.space), space, path)
        return predictor
    if suffix == ".csv":
        file = MeasuredFile.read(path)
        rows = file.select(space, file.column(column, TOP1))
        return AccuracyPredictor(space, dtype=file.accuracy_dtype()).fit(rows.genomes, rows.values)
    raise PredictorError(f"--accuracy {spec}: proxy:macs, a .pth, .npz, .predictor or .csv file is expected")


def _builtin_accuracy(space: Space) -> BuiltinAccuracy:
    builtin = get_space(BUILTIN_SPACE)
    if space == builtin:
        return BuiltinAccuracy(space)
    how = f"; {described_differences(space, builtin)}" if space.name.startswith(BUILTIN_SPACE) else ""
    raise PredictorError(
        f"no built-in accuracy model for {space.name} (only for {BUILTIN_SPACE}{how}); "
        "give a file with --accuracy, or rank by size with --accuracy proxy:macs"
    )
