"""`LutPredictor`: the sum of a latency table, calibrated with whole networks.

A table has milliseconds per block. Whole networks that were measured beside it (`<stem>.networks.csv`, rows with role
`reference`) calibrate the sum and give its error (`ofa_core.calibration`). Without them the prediction is the plain
sum, with an unknown interval (NaN).

`LatencyEstimator` is the interface of all predictors of latency. It is here because some of them are built on a table.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.calibration import MIN_NETWORKS, Calibration
from ofa_core.dense import DenseTable
from ofa_core.energy_model import EnergyModel, fit_energy, giga_sizes
from ofa_core.errors import FormatError, PredictorError
from ofa_core.genomes import Genomes, decode, encode
from ofa_core.measured_networks import Network, calibration_of
from ofa_core.schema import Count, structured
from ofa_core.space import MAX_RESOLUTION_PX, Space
from ofa_core.table import Context, Entry, Key, LatencyTable
from predictors.estimator import Archs, Bounds, Estimator, Floats, Parts, as_space
from predictors.filling import FilledTable, all_resolutions, fill_blocks
from predictors.saved_arrays import MAX_LOG_ERROR, Arrays

__all__ = ["LatencyEstimator", "LutPredictor"]


class LatencyEstimator(Estimator):
    """A predictor of latency, in milliseconds per batch.

    Attributes:
        context: conditions of the measurements; None if unknown.
    """

    context: Context | None

    @property
    @abstractmethod
    def resolutions(self) -> tuple[int, ...]:
        """Resolutions at which every member of the space can be predicted, ascending."""

    @property
    @abstractmethod
    def calibrated(self) -> bool:
        """True if whole networks were measured for the prediction, so that its error is known."""

    @property
    def lut(self) -> LutPredictor | None:
        """The device's own table, if the prediction is built on one."""
        return None

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of a table's sums; None without one."""
        return None

    @property
    def n_filled(self) -> int:
        """Number of estimated blocks in the device's own table."""
        return 0 if self.lut is None else self.lut.n_filled


class LutPredictor(LatencyEstimator):
    """Latency by table: the sum of its blocks, calibrated with whole networks, with an interval.

        predictor = LutPredictor("mbv3-w1.0").fit(LatencyTable.read(path), read_networks(networks_path(path)))
        y, low, high = predictor.predict(archs, return_interval=True)

    Args:
        space: space of the architectures.
        fill: True to estimate blocks that the table lacks (`predictors.filling`).

    Attributes:
        table_: the table; estimated blocks have status `filled`.
        calibration_: fitted calibration; None without whole networks.
        energy_: fitted energy model; None if energy was measured for too few networks.
        n_filled_: number of estimated blocks.
        networks_: genomes of the networks of this space that calibrate the sum.
        resolutions_: resolutions at which every member of the space can be predicted.
        spread_ms_: half-width of the 90 % interval of each estimated block.
    """

    table_: LatencyTable
    calibration_: Calibration | None
    energy_: EnergyModel | None
    n_filled_: int
    networks_: Genomes
    resolutions_: tuple[int, ...]
    spread_ms_: dict[Key, float]

    def __init__(self, space: Space | str, *, fill: bool = False) -> None:
        self.space = space
        self.fill = fill

    def fit(self, table: LatencyTable, networks: Sequence[Network] = ()) -> Self:
        """Set the table, and calibrate its sum.

        Args:
            table: block latencies.
            networks: whole networks, measured in the table's context; `verify` rows are ignored. Networks of this space
                are used if there are at least five, otherwise all.

        Raises:
            PredictorError: if blocks cannot be estimated because too few were measured.
        """
        space = as_space(self.space)
        filled = fill_blocks(table, space, all_resolutions(table, space)) if self.fill else FilledTable(table, {})
        reference = [net for net in networks if net.role == "reference"]
        same = [net for net in reference if net.space == space]
        self.calibration_ = calibration_of(same if len(same) >= MIN_NETWORKS else reference, filled.table)
        self.energy_ = fit_energy(reference, filled.table)
        self.networks_ = encode(space, [net.arch for net in same if self.calibration_])
        self._set_table(filled, len(filled.spread_ms))
        return self

    def _set_table(self, filled: FilledTable, n_filled: int) -> None:
        space = as_space(self.space)
        self.table_, self.spread_ms_, self.n_filled_ = filled.table, dict(filled.spread_ms), n_filled
        self.resolutions_ = self.table_.resolutions(space)
        self._complete_ = np.zeros(MAX_RESOLUTION_PX + 1, dtype=bool)
        self._complete_[list(self.resolutions_)] = True
        self._dense_ = self._dense_of(filled, self.resolutions_)
        self._giga_ = None if self.energy_ is None else self._giga_of(self.energy_.batch_size, self.resolutions_)
        px = space.resolutions[:1]  # sizes do not depend on the resolution
        self._n_layers_ = DenseTable.build(space, px, lambda _block, _px: 1.0)
        self._mparams_ = DenseTable.build(space, px, lambda block, _px: block.params / 1e6)

    # ---- description -----------------------------------------------------------------------------------------------

    @property
    def table(self) -> LatencyTable:
        """The table that is summed."""
        return self.table_

    @property
    def lut(self) -> LutPredictor:
        """This predictor."""
        return self

    @property
    def context(self) -> Context:  # type: ignore[override]  # a table always has one
        """Conditions of the table's measurements."""
        return self.table_.context

    @property
    def calibrated(self) -> bool:
        """True if whole networks calibrate the sum."""
        return getattr(self, "calibration_", None) is not None

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of the table's sums; None without one."""
        return self.calibration_

    @property
    def n_filled(self) -> int:
        """Number of estimated blocks in the table."""
        return self.n_filled_

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Resolutions at which every member of the space can be predicted, ascending."""
        return self.resolutions_

    @property
    def label(self) -> str:
        """Device, backend and threads."""
        return self.table_.context.label

    @property
    def note(self) -> str:
        """Calibration and error."""
        filled = f"; {self.n_filled_} blocks estimated" if self.n_filled_ else ""
        c = self.calibration_
        if c is None:
            return f"sum of blocks, not calibrated with whole networks: error unknown{filled}"
        more = f" + {1e3 * c.per_block_ms:.1f} us per layer" if c.per_block_ms else ""
        more += f" + {1e3 * c.per_mparam_ms:.1f} us per million parameters" if c.per_mparam_ms else ""
        return (
            f"sum of blocks x {c.scale:.3f}{more}, calibrated on {c.n_networks} whole networks, "
            f"leave-one-out error {100 * c.loo_mape:.1f} %{filled}{'; ' if c.caution else ''}{c.caution}"
        )

    # ---- layers ----------------------------------------------------------------------------------------------------

    def filled_at(self, resolutions: Iterable[int]) -> FilledTable:
        """Return the table with its blocks at these resolutions; with `fill`, missing blocks are estimated."""
        extra = sorted(set(resolutions) - set(self.resolutions_)) if self.fill else []
        found = fill_blocks(self.table_, as_space(self.space), extra)
        return FilledTable(found.table, {**self.spread_ms_, **found.spread_ms})

    def layers(self, arch: Arch) -> list[tuple[BlockSpec, Entry]]:
        """Return the layers of an architecture with their entries.

        Raises:
            MissingBlockError: if the table lacks a layer and `fill` is off.
        """
        table = self.filled_at([arch.resolution_px]).table
        found = []
        for block in as_space(self.space).blocks(arch):
            entry = table.find(block, arch.resolution_px)
            found.append((block, entry or Entry(table.latency_ms(block, arch.resolution_px))))
        return found

    def block_ms(self, resolutions: Iterable[int]) -> Callable[[BlockSpec, int], float]:
        """Return a function that gives the latency of a block at one of these resolutions in ms."""
        return self.filled_at(resolutions).table.latency_ms

    def filled_counts(self, genomes: Genomes) -> NDArray[np.int64]:
        """Return the (n,) numbers of layers with an estimated latency, of (n, 1 + n_slots) genomes."""
        pixels = np.unique(genomes[:, 0]).tolist()
        table = self.filled_at(pixels).table
        if not any(entry.status == "filled" for entry in table.entries.values()):
            return np.zeros(len(genomes), dtype=np.int64)

        def is_filled(block: BlockSpec, px: int) -> float:
            entry = table.find(block, px)
            return float(entry is not None and entry.status == "filled")

        return DenseTable.build(as_space(self.space), pixels, is_filled).sum(genomes).astype(np.int64)

    def with_sums(self, networks: Sequence[Network]) -> list[Network]:
        """Return the networks; those of this space that have no sum get the table's, estimated blocks included."""
        return [
            replace(net, sum_ms=float(self.sum_ms(encode(net.space, [net.arch]))[0]))
            if net.sum_ms is None and net.space == as_space(self.space)
            else net
            for net in networks
        ]

    # ---- prediction ------------------------------------------------------------------------------------------------

    def sum_ms(self, genomes: Genomes) -> Floats:
        """Return the (n,) sums of (n, 1 + n_slots) genomes in ms, not calibrated."""
        return self._sum(genomes, 0)

    def energy_mj(self, archs: Archs) -> Floats:
        """Predict energy above idle (`ofa_core.energy_model`).

        Args:
            archs: n `Arch` objects, OFA dicts, or genomes.

        Returns:
            (n,) millijoules per batch.

        Raises:
            PredictorError: if energy was measured for too few networks.
        """
        genomes = self._genomes(archs)
        model = self.energy_
        if model is None:
            raise PredictorError(f"no energy was measured on {self.label}; measure it with ofa-profile --energy")
        tables = self._giga_
        if tables is None or not self._complete_[genomes[:, 0]].all():
            tables = self._giga_of(model.batch_size, np.unique(genomes[:, 0]).tolist())
        macs, elements = tables
        return model.predict(self.sum_ms(genomes), macs.sum(genomes), elements.sum(genomes))

    def _giga_of(self, batch_size: int, pixels: Sequence[int]) -> tuple[DenseTable, DenseTable]:
        space = as_space(self.space)
        macs = DenseTable.build(space, pixels, lambda block, _px: giga_sizes(block, batch_size)[0])
        return macs, DenseTable.build(space, pixels, lambda block, _px: giga_sizes(block, batch_size)[1])

    def _point(self, genomes: Genomes) -> Floats:
        total, c = self.sum_ms(genomes), self.calibration_
        if c is None:
            return total
        none = np.zeros(len(genomes))
        n_layers = _sum_anywhere(self._n_layers_, genomes) if c.per_block_ms else none
        mparams = _sum_anywhere(self._mparams_, genomes) if c.per_mparam_ms else none
        return c.predict(total, n_layers, mparams)

    def _bounds(self, genomes: Genomes, point: Floats, confidence: float) -> Bounds:
        if self.calibration_ is None:
            unknown = np.full(len(point), np.nan)
            return unknown, unknown.copy()
        margin = self.calibration_.margin(confidence)
        extra = self._sum(genomes, 1) * self.calibration_.scale
        return np.maximum(point / margin - extra, 0.0), point * margin + extra

    def _sum(self, genomes: Genomes, which: int) -> Floats:
        """Sum latencies (which = 0) or half-widths of estimated blocks (which = 1)."""
        complete = self._complete_[genomes[:, 0]]
        if complete.all():
            return _sum_of(self._dense_[which], genomes)
        if self.fill:
            pixels = np.unique(genomes[:, 0]).tolist()
            return _sum_of(self._dense_of(self.filled_at(pixels), pixels)[which], genomes)
        out = np.zeros(len(genomes))
        out[complete] = _sum_of(self._dense_[which], genomes[complete])
        if which == 0:
            space = as_space(self.space)
            out[~complete] = self.table_.sum_ms(space, decode(space, genomes[~complete]))
        return out

    def _dense_of(self, filled: FilledTable, pixels: Sequence[int]) -> tuple[DenseTable, DenseTable | None]:
        space, spread_ms = as_space(self.space), filled.spread_ms
        latency = DenseTable.build(space, pixels, filled.table.latency_ms)
        if not spread_ms:
            return latency, None
        return latency, DenseTable.build(space, pixels, lambda block, px: spread_ms.get((px, block), 0.0))

    # ---- files -----------------------------------------------------------------------------------------------------

    def to_parts(self) -> Parts:
        """Return the fitted predictor as parts of a file."""
        spread = [self.spread_ms_.get(key, 0.0) for key in self.table_.entries]
        return Parts(
            as_space(self.space),
            facts={
                "fill": self.fill,
                "calibration": None if self.calibration_ is None else asdict(self.calibration_),
                "energy": None if self.energy_ is None else asdict(self.energy_),
                "n_filled": self.n_filled_,
            },
            arrays={"spread_ms": np.array(spread), "networks": self.networks_},
            files={"table.csv": self.table_.to_csv().encode()},
        )

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Build a fitted predictor from the parts of a file."""
        facts, take = structured(parts.facts, _Facts, "facts"), Arrays(parts.arrays)
        try:
            table = LatencyTable.parse(parts.files["table.csv"].decode(), "table.csv")
        except (KeyError, UnicodeDecodeError) as error:
            raise FormatError("has no text file table.csv") from error
        for name, model in (("calibration", facts.calibration), ("energy", facts.energy)):
            if model is not None and not (model.loo_errors and max(map(abs, model.loo_errors)) <= MAX_LOG_ERROR):
                raise FormatError(f"facts: {name}.loo_errors is empty or out of range")
        spread = dict(zip(table.entries, take.floats("spread_ms", len(table), least=0).tolist(), strict=True))
        predictor = cls(parts.space, fill=facts.fill)
        predictor.calibration_, predictor.energy_ = facts.calibration, facts.energy
        predictor.networks_ = take.genomes("networks", parts.space)
        spread_ms = {key: value for key, value in spread.items() if value}
        predictor._set_table(FilledTable(table, spread_ms), facts.n_filled)
        return predictor


@dataclass(frozen=True)
class _Facts:
    fill: bool
    calibration: Calibration | None
    n_filled: Count
    energy: EnergyModel | None = None  # not in the first files of version 0.1.0


def _sum_of(dense: DenseTable | None, genomes: Genomes) -> Floats:
    return np.zeros(len(genomes)) if dense is None else dense.sum(genomes)


def _sum_anywhere(sizes: DenseTable, genomes: Genomes) -> Floats:
    """Return the (n,) sums of sizes that do not depend on the resolution."""
    at_px = genomes.copy()
    at_px[:, 0] = sizes.resolutions[0]
    return sizes.sum(at_px)
