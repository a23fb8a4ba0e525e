"""`LutPredictor`: the sum of a latency table, calibrated against whole networks.

The table gives milliseconds per block; the whole networks measured beside it (`<stem>.networks.csv`, rows with role
`reference`) correct the sum and tell its error (`ofa_core.calibration`). Without them the plain sum is all there is,
and its interval is unknown (NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.calibration import MIN_NETWORKS, Calibration
from ofa_core.dense import DenseTable
from ofa_core.energy_model import EnergyModel, fit_energy, giga_sizes
from ofa_core.errors import PredictorError
from ofa_core.formats.yaml_tables import read_table
from ofa_core.genomes import Genomes, decode, encode
from ofa_core.measured_networks import Network, calibration_of, networks_path, read_networks, spaces_of
from ofa_core.space import MAX_RESOLUTION_PX, Space
from ofa_core.table import Context, Entry, Key, LatencyTable
from predictors.estimator import Archs, Bounds, Estimator, Floats, as_space

__all__ = ["LutPredictor", "filled_table", "load_lut", "read_lut", "space_of_table"]

FILL_CONFIDENCE = 0.9


class LutPredictor(Estimator):
    """Latency by table: the sum of blocks, corrected by whole networks (`ofa_core.calibration`), with their interval.

    Args:
        space: the space of the architectures.
        fill: supply blocks that the table lacks by regression over those it has (`predictors.block_latency`).

    Attributes:
        table_: the table, supplied blocks included (status `filled`).
        calibration_: the fitted correction, None without whole networks.
        n_filled_: blocks that were supplied by regression.
        resolutions_: resolutions at which every member of the space can be predicted.
        spread_ms_: half-width of the 90 % interval of each supplied block.
        energy_: the fitted model of energy, None where too few networks' energy was measured.
        networks_: genomes of the space's networks that calibrate it.
    """

    table_: LatencyTable
    calibration_: Calibration | None
    n_filled_: int
    resolutions_: tuple[int, ...]
    spread_ms_: dict[Key, float]
    energy_: EnergyModel | None
    networks_: Genomes

    def __init__(self, space: Space | str, *, fill: bool = False) -> None:
        self.space = space
        self.fill = fill

    def fit(self, table: LatencyTable, networks: Sequence[Network] = ()) -> Self:
        """Take a table and the whole networks that calibrate it.

        Args:
            table: block latencies.
            networks: whole networks measured in the table's context; `verify` rows are ignored. Those of this space
                are used if there are at least five, otherwise all.

        Returns:
            The predictor.

        Raises:
            PredictorError: if no block of the space is in the table and nothing can be filled.
        """
        self.forget()
        space = as_space(self.space)
        self.table_, self.n_filled_ = table, 0
        self.spread_ms_ = {}
        self._dense_: dict[tuple[int, ...], tuple[DenseTable, DenseTable]] = {}
        self._sizes_: dict[int, DenseTable] = {}
        if self.fill:
            self._supply(table.missing(space, sorted({*space.resolutions, *table.input_sizes()})))
        self.resolutions_ = self.table_.resolutions(space)
        self._complete_ = np.zeros(MAX_RESOLUTION_PX + 1, dtype=bool)
        self._complete_[list(self.resolutions_)] = True
        reference = [net for net in networks if net.role == "reference"]
        same = [net for net in reference if net.space == space]
        chosen = same if len(same) >= MIN_NETWORKS else reference
        self.calibration_ = calibration_of(chosen, self.table_)
        self.energy_ = fit_energy(reference, self.table_)
        self._giga_: tuple[DenseTable, DenseTable] | None = None
        self.networks_ = encode(space, [net.arch for net in same if self.calibration_])
        return self

    def _supply(self, keys: Sequence[Key]) -> None:
        if not keys:
            return
        from predictors.block_latency import BlockPredictor

        if not hasattr(self, "_block_model_"):
            self._block_model_ = BlockPredictor().fit(self.table_)
        values, low, high = self._block_model_.predict_with_interval(keys, FILL_CONFIDENCE)
        more = {key: Entry(latency_ms=float(value), status="filled") for key, value in zip(keys, values, strict=True)}
        for key, spread in zip(keys, (high - low) / 2, strict=True):
            self.spread_ms_[key] = float(spread)
        self.table_ = self.table_.with_entries(more)
        self.n_filled_ += len(more)

    # ---- what is known ---------------------------------------------------------------------------------------------

    @property
    def table(self) -> LatencyTable:
        """The table that is summed."""
        return self.table_

    @property
    def lut(self) -> LutPredictor:
        """The device's table: this one itself."""
        return self

    @property
    def context(self) -> Context:
        """How the table was measured."""
        return self.table_.context

    @property
    def calibrated(self) -> bool:
        """Whether whole networks correct the sum."""
        return getattr(self, "calibration_", None) is not None

    @property
    def n_filled(self) -> int:
        """Blocks of the table that regression supplied."""
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
        """How far the figure can be trusted."""
        filled = f"; {self.n_filled_} blocks estimated" if self.n_filled_ else ""
        c = self.calibration_
        if c is None:
            return f"sum of blocks, not calibrated against whole networks: its error is unknown{filled}"
        more = f" + {1e3 * c.per_block_ms:.1f} us a layer" if c.per_block_ms else ""
        more += f" + {1e3 * c.per_mparam_ms:.1f} us a million parameters" if c.per_mparam_ms else ""
        return (
            f"sum of blocks x {c.scale:.3f}{more}, calibrated on {c.n_networks} whole networks, "
            f"leave-one-out error {100 * c.loo_mape:.1f} %{filled}{'; ' if c.caution else ''}{c.caution}"
        )

    def block_ms(self, arch: Arch) -> Callable[[BlockSpec, int], float]:
        """Milliseconds of each layer of `arch` by the table (estimated ones are supplied if need be), to ask for."""
        self.predict([arch])
        return self.table_.latency_ms

    def filled_counts(self, genomes: Genomes) -> NDArray[np.int64]:
        """(n,) layers of networks whose latency is an estimate (asks for them to be estimated if need be)."""
        self._point(genomes)
        if not any(entry.status == "filled" for entry in self.table_.entries.values()):
            return np.zeros(len(genomes), dtype=np.int64)

        def is_filled(block: BlockSpec, px: int) -> float:
            entry = self.table_.find(block, px)
            return float(entry is not None and entry.status == "filled")

        pixels = np.unique(genomes[:, 0]).tolist()
        return DenseTable.build(as_space(self.space), pixels, is_filled).sum(genomes).astype(np.int64)

    def sum_ms(self, genomes: Genomes) -> Floats:
        """The plain sums of (n, 1 + n_slots) genomes, not calibrated."""
        return self._total(genomes, 0)

    def with_sums(self, networks: Sequence[Network]) -> list[Network]:
        """Networks with the table's sum, estimated blocks included, where they have none and are of its space."""
        return [
            replace(net, sum_ms=float(self.sum_ms(encode(net.space, [net.arch]))[0]))
            if net.sum_ms is None and net.space == as_space(self.space)
            else net
            for net in networks
        ]

    def energy_mj(self, archs: Archs) -> Floats:
        """Energy above idle (`ofa_core.energy_model`).

        Args:
            archs: n `Arch` objects, OFA dicts, or genomes.

        Returns:
            (n,) millijoules per batch.

        Raises:
            PredictorError: too few networks' energy was measured on this device.
        """
        genomes = self._genomes(archs)
        model = self.energy_
        if model is None:
            raise PredictorError(
                f"no energy is known of {self.label}: ofa-profile --energy measures it and writes it beside the table"
            )
        pixels = set(np.unique(genomes[:, 0]).tolist())
        if self._giga_ is None or not pixels <= set(self._giga_[0].resolutions.tolist()):
            space, wanted = as_space(self.space), sorted({*pixels, *self.resolutions_})
            n = model.batch_size
            self._giga_ = (
                DenseTable.build(space, wanted, lambda block, _: giga_sizes(block, n)[0]),
                DenseTable.build(space, wanted, lambda block, _: giga_sizes(block, n)[1]),
            )
        macs, elements = self._giga_
        return model.predict(self._total(genomes, 0), macs.sum(genomes), elements.sum(genomes))

    # ---- prediction ------------------------------------------------------------------------------------------------

    def _point(self, genomes: Genomes) -> Floats:
        total = self._total(genomes, 0)
        if self.calibration_ is None:
            return total
        return self.calibration_.predict(total, self._size(genomes, 0), self._size(genomes, 1))

    def _bounds(self, genomes: Genomes, point: Floats, confidence: float) -> Bounds:
        if self.calibration_ is None:
            nothing = np.full(len(point), np.nan)
            return nothing, nothing.copy()
        margin = self.calibration_.margin(confidence)
        extra = self._total(genomes, 1) * self.calibration_.scale if self.spread_ms_ else np.zeros(len(point))
        return np.maximum(point / margin - extra, 0.0), point * margin + extra

    def _size(self, genomes: Genomes, which: int) -> Floats:
        """Layers (which = 0) or millions of parameters (which = 1); zeros where the calibration does not ask."""
        c = self.calibration_
        if c is None or not (c.per_block_ms, c.per_mparam_ms)[which]:
            return np.zeros(len(genomes))
        space = as_space(self.space)
        px = space.resolutions[0]  # neither depends on it
        if which not in self._sizes_:
            self._sizes_[which] = DenseTable.build(space, [px], lambda b, _: b.params / 1e6 if which else 1.0)
        here = genomes.copy()
        here[:, 0] = px
        return self._sizes_[which].sum(here)

    def _total(self, genomes: Genomes, which: int) -> Floats:
        """Sum latencies (which = 0) or half-widths of supplied blocks (which = 1)."""
        if not len(genomes):
            return np.zeros(0)
        complete = self._complete_[genomes[:, 0]]
        if complete.all():
            return self._dense(self.resolutions_)[which].sum(genomes)
        space = as_space(self.space)
        if self.fill:
            pixels = tuple(int(px) for px in np.unique(genomes[:, 0]))
            self._supply(self.table_.missing(space, [px for px in pixels if px not in self.resolutions_]))
            return self._dense(pixels)[which].sum(genomes)
        out = np.empty(len(genomes))
        out[complete] = self._total(genomes[complete], which)
        out[~complete] = self.table_.sum_ms(space, decode(space, genomes[~complete]))
        return out

    def _dense(self, pixels: tuple[int, ...]) -> tuple[DenseTable, DenseTable]:
        if pixels not in self._dense_:
            space = as_space(self.space)
            spread = DenseTable.build(space, pixels, lambda block, px: self.spread_ms_.get((px, block), 0.0))
            self._dense_[pixels] = (self.table_.dense(space, pixels), spread)
        return self._dense_[pixels]


def space_of_table(table: LatencyTable, networks: Sequence[Network] = ()) -> Space:
    """The only space that the table covers; else the only one that its whole networks are of.

    Raises:
        PredictorError: if there is no such space, or more than one.
    """
    spaces = spaces_of(table, networks)
    if len(spaces) == 1:
        return spaces[0]
    if spaces:
        raise PredictorError(f"the table covers {', '.join(space.name for space in spaces)}; say which with --space")
    raise PredictorError("the table covers no known space completely; name one with --space, and --fill what it lacks")


def load_lut(path: Path, space: Space | None = None, *, fill: bool = False) -> LutPredictor:
    """Read a table and the whole networks beside it.

    Args:
        path: a CSV table, or YAML in any published dialect (a file or a folder).
        space: None is the only space that the table covers.
        fill: supply what the table lacks by regression.

    Returns:
        The fitted predictor.

    Raises:
        FormatError: for a file that is none.
        PredictorError: if the space is not given and not clear.
        ContextMismatchError: if the networks were measured in another context.
    """
    table, networks = read_lut(path)
    return LutPredictor(space or space_of_table(table, networks), fill=fill).fit(table, networks)


def read_lut(path: Path) -> tuple[LatencyTable, list[Network]]:
    """Read a table and the whole networks beside it; errors are those of `load_lut`."""
    table = read_table(path)
    beside = networks_path(path)
    return table, read_networks(beside, table.context) if path.is_file() and beside.is_file() else []


def filled_table(table: LatencyTable, space: Space) -> LatencyTable:
    """The table with all blocks of `space` that it lacks, estimated from those it has (status `filled`)."""
    return LutPredictor(space, fill=True).fit(table).table
