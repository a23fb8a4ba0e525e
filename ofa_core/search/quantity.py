"""`Quantity`: a number that every network of a space has, such as latency, accuracy, MACs or memory.

Limits, objectives, candidates, the files of a search and its report all take quantities, so a new objective or limit
is one `Quantity` and nothing else:

    n_layers = Quantity("n_layers", lambda genomes: np.count_nonzero(genomes[:, 1:], axis=1) * 1.0, label="layers")
    search(replace(problem, objective=n_layers))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ofa_core.blocks import BlockSpec
from ofa_core.dense import DenseTable
from ofa_core.genomes import Genomes
from ofa_core.quadratic import QuadraticScore
from ofa_core.search.protocols import AccuracyPredictor, LatencyPredictor
from ofa_core.space import Space

__all__ = [
    "ENERGY_MJ",
    "LATENCY_MS",
    "MMACS",
    "PARAMS_M",
    "SCORE",
    "TOP1",
    "Description",
    "Direction",
    "Quantity",
    "accuracy_quantity",
    "block_sum",
    "latency_quantity",
]

Floats = NDArray[np.float64]
Values = Callable[[Genomes], Floats]
Interval = Callable[[Genomes, float], tuple[Floats, Floats]]
Direction = Literal["min", "max"]
TOLERANCE_TOP1 = 0.1  # percentage points


@dataclass(frozen=True)
class Description:
    """Name, words and direction of a quantity: the part of it that files hold.

    Attributes:
        name: column and key in files, with its unit, such as `latency_ms`.
        label: name for people, such as `latency`.
        unit: unit for people, such as `ms`; empty for a plain number.
        direction: `min` if smaller is better, `max` if larger is better.
    """

    name: str
    label: str
    unit: str
    direction: Direction = "min"

    def shown(self, value: float) -> str:
        """Return a value with its unit."""
        return f"{value:.4g} {self.unit}".strip()

    @property
    def title(self) -> str:
        """Label and unit, as the title of an axis."""
        return f"{self.label[:1].upper()}{self.label[1:]}{f' ({self.unit})' if self.unit else ''}"


LATENCY_MS = Description("latency_ms", "predicted latency", "ms per batch")
TOP1 = Description("top1", "predicted top-1", "%", "max")
SCORE = Description("top1", "score", "", "max")
MMACS = Description("mmacs", "MACs", "M")
PARAMS_M = Description("params_m", "parameters", "M")
ENERGY_MJ = Description("energy_mj", "energy above idle", "mJ")


@dataclass(frozen=True)
class Quantity:
    """A number of each network, computed for many genomes at once.

    Attributes:
        name: column and key in files, with its unit, such as `memory_mb`.
        values: function from (n, 1 + n_slots) genomes to (n,) values; it is called often, so it must be fast.
        label: name for people; the default is `name`.
        unit: unit for people; empty for a plain number.
        direction: `min` if smaller is better (a limit is an upper bound), `max` if larger is better (a lower bound).
        tolerance: differences up to this size do not matter.
        table: the values as sums over layers, where they are such sums; exact methods use it.
        interval: function from genomes and a probability to (n,) lower and (n,) upper bounds of a measurement; None
            if the error is unknown.
        by_code: function from genomes to (n, n_slots, 1 + n_codes) estimates of the value with another code in one
            slot; only differences within a slot count. None if there is no cheap estimate.
        quadratic: function from a resolution to the values in closed form, from which bounds can be proved; its result
            is None where there is no such form.
    """

    name: str
    values: Values
    label: str = ""
    unit: str = ""
    direction: Direction = "min"
    tolerance: float = 0.0
    table: DenseTable | None = None
    interval: Interval | None = None
    by_code: Callable[[Genomes], NDArray[np.floating[Any]]] | None = None
    quadratic: Callable[[int], QuadraticScore | None] | None = None

    @classmethod
    def of(cls, description: Description, values: Values) -> Quantity:
        """Return a quantity that is described already."""
        return cls(description.name, values, description.label, description.unit, description.direction)

    @property
    def description(self) -> Description:
        """Return the record of the quantity for files."""
        return Description(self.name, self.label or self.name, self.unit, self.direction)

    @property
    def sign(self) -> int:
        """1 if larger is better, -1 if smaller is better."""
        return 1 if self.direction == "max" else -1

    def scores(self, genomes: Genomes) -> Floats:
        """Return (n,) values with the sign that makes larger ones better."""
        values = np.asarray(self.values(genomes), dtype=np.float64)
        return values if self.direction == "max" else -values

    def scaled(self, factor: float) -> Quantity:
        """Return this quantity times a factor."""
        table, interval, by_code = self.table, self.interval, self.by_code

        def bounds(genomes: Genomes, confidence: float) -> tuple[Floats, Floats]:
            assert interval is not None
            low, high = interval(genomes, confidence)
            return factor * low, factor * high

        return replace(
            self,
            values=lambda genomes: factor * self.values(genomes),
            table=table and DenseTable(table.resolutions, factor * table.fixed, factor * table.slots),
            interval=interval and bounds,
            by_code=by_code and (lambda genomes: factor * by_code(genomes)),
            quadratic=None,
        )


def latency_quantity(latency: LatencyPredictor) -> Quantity:
    """Return the latency that a predictor predicts, in ms per batch."""
    quantity = Quantity.of(LATENCY_MS, latency.predict)
    return replace(quantity, interval=latency.predict_interval) if latency.calibrated else quantity


def accuracy_quantity(accuracy: AccuracyPredictor) -> Quantity:
    """Return the top-1 accuracy that a predictor predicts, in percent, or the score that stands in for it."""
    description = SCORE if accuracy.label.startswith("proxy") else TOP1
    quantity = Quantity.of(description, accuracy.predict)
    by_code, quadratic = (getattr(accuracy, name, None) for name in ("scores", "quadratic"))
    return replace(quantity, tolerance=TOLERANCE_TOP1, by_code=by_code, quadratic=quadratic)


def block_sum(
    description: Description, space: Space, resolutions: Sequence[int], value: Callable[[BlockSpec], float]
) -> Quantity:
    """Return a quantity that is the sum of one number per block, such as MACs or parameters.

    Args:
        description: its name and words.
        space: space of the genomes.
        resolutions: input sizes in pixels that occur.
        value: the number of one block.
    """
    table = DenseTable.build(space, resolutions, lambda block, _: value(block))
    return replace(Quantity.of(description, table.sum), table=table)
