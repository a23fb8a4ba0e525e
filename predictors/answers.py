"""Answers of `ofa-predict` for one network or a hundred thousand: counts, and latencies by each table.

Everything is computed in arrays for many networks at once; the dictionary of a network is made when it is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.context import Context
from ofa_core.dense import total_macs, total_params
from ofa_core.errors import MissingBlockError
from ofa_core.genomes import Genomes, padded_lists
from ofa_core.space import Space
from ofa_core.space_record import space_columns, space_fields
from predictors.estimator import Floats
from predictors.loading import LatencyFile
from predictors.lut import LutPredictor

__all__ = ["CSV_COLUMNS", "Answers", "TableAnswer", "answer_by", "answers_of"]

CHUNK = 8192
_LIST_COLUMNS = ("ks", "e", "d")
_NUMBERS = ("latency_ms", "low_ms", "high_ms")
_ENERGIES = ("energy_mj", "energy_low_mj", "energy_high_mj")
# The column is `predicted_ms`, so that a reader of measured networks does not take predictions for measurements.
CSV_COLUMNS = (
    "net", "space", "ks", "e", "d", "r", "mmacs", "params_m",
    "lut", "device", "predicted_ms", "low_ms", "high_ms", "calibrated", "n_filled", *_ENERGIES,
    "space_digest", "space_definition",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TableAnswer:
    """Predictions of n networks by one file of `--lut`.

    Attributes:
        lut: the file.
        device: name of its device.
        calibrated: True if whole networks calibrate it.
        note: method and error, in one sentence.
        latency_ms: (n,) milliseconds per batch.
        low_ms: (n,) lower end of the 90 % interval; NaN if unknown, as in the next arrays.
        high_ms: (n,) upper end.
        n_filled: (n,) number of layers with an estimated latency.
        energy_mj: (n,) millijoules per batch above idle.
        energy_margin: factor of the 90 % interval of the energy.
        table: the table; None if the file has whole networks only.
        context: device and settings of the measurements; None if unknown.
    """

    lut: str
    device: str
    calibrated: bool
    note: str
    latency_ms: Floats
    low_ms: Floats
    high_ms: Floats
    n_filled: NDArray[np.int64]
    energy_mj: Floats
    energy_margin: float
    table: LutPredictor | None
    context: Context | None

    @property
    def has_energy(self) -> bool:
        """True if energy can be predicted."""
        return not bool(np.isnan(self.energy_mj).all())

    def record(self, i: int) -> dict[str, Any]:
        """Return the answer for network i, as in `--json`."""
        energy = float(self.energy_mj[i])
        energies = (energy, energy / self.energy_margin, energy * self.energy_margin)
        return {
            "lut": self.lut,
            "device": self.device,
            **{name: _known(getattr(self, name)[i]) for name in _NUMBERS},
            "calibrated": self.calibrated,
            "n_filled": int(self.n_filled[i]),
            **dict(zip(_ENERGIES, map(_known, energies), strict=True)),
        }

    @property
    def dtype(self) -> str | None:
        """Type of weights and activations, as in tables; None if unknown."""
        return None if self.context is None else self.context.dtype


@dataclass(frozen=True, slots=True)
class Answers:
    """Counts and predictions of n networks.

    Attributes:
        space: space of the networks.
        genomes: (n, 1 + n_slots).
        mmacs: (n,) millions of multiply-accumulates.
        params_m: (n,) millions of parameters.
        tables: one answer for each table.
    """

    space: Space
    genomes: Genomes
    mmacs: Floats
    params_m: Floats
    tables: tuple[TableAnswer, ...]

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield a dictionary for each network, as in `--json`."""
        named = {name: value for name, value in space_fields(self.space).items() if name != "space"}
        for i, lists in enumerate(self._lists()):
            yield {
                "space": self.space.name,
                "arch": {"wid": None, **lists, "r": [int(self.genomes[i, 0])]},
                "mmacs": float(self.mmacs[i]),
                "params_m": float(self.params_m[i]),
                "predictions": [{**table.record(i), "dtype": table.dtype} for table in self.tables],
                **named,
            }

    def rows(self) -> Iterator[list[Any]]:
        """Yield the fields of `CSV_COLUMNS`: a row per network and table, or per network if there are no tables."""
        columns = space_columns(self.space)
        named = [columns["space_digest"], columns["space_definition"]]
        for i, lists in enumerate(self._lists()):
            texts = ["[" + ",".join(map(str, lists[name])) + "]" for name in _LIST_COLUMNS]
            counts = [repr(float(self.mmacs[i])), repr(float(self.params_m[i]))]
            network = [i + 1, self.space.name, *texts, int(self.genomes[i, 0]), *counts]
            for table in self.tables:
                yield [*network, *("" if v is None else v for v in table.record(i).values()), *named]
            if not self.tables:
                yield [*network, *[""] * (len(CSV_COLUMNS) - len(network) - len(named)), *named]

    def _lists(self) -> Iterator[dict[str, list[int]]]:
        for start in range(0, len(self.genomes), CHUNK):
            arrays = padded_lists(self.space, self.genomes[start : start + CHUNK])
            for lists in zip(*(array.tolist() for array in arrays), strict=True):
                yield dict(zip(_LIST_COLUMNS, lists, strict=True))


def answers_of(space: Space, genomes: Genomes, tables: list[TableAnswer]) -> Answers:
    """Combine the networks' MACs and parameters with the answers of the tables."""
    macs, params = total_macs(space, genomes), total_params(space, genomes)
    return Answers(space, genomes, macs / 1e6, params / 1e6, tuple(tables))


def answer_by(
    file: LatencyFile, space: Space, genomes: Genomes, *, fill: bool, column: str | None = None
) -> TableAnswer:
    """Predict networks with one file.

    Args:
        file: a table, predictor, or measured networks.
        space: space of the networks.
        genomes: (n, 1 + n_slots) networks.
        fill: True to estimate blocks that a table lacks.
        column: column of a file of measured networks, as in `find_column`.

    Raises:
        MissingBlockError: if the table lacks a block of a network.
    """
    predictor = file.predictor(space, fill=fill, column=column)
    chunks = [genomes[start : start + CHUNK] for start in range(0, len(genomes), CHUNK)]
    try:
        parts = [predictor.predict(chunk, return_interval=True) for chunk in chunks]
    except MissingBlockError as error:
        raise MissingBlockError(f"{file.path}: {error}; --fill estimates missing blocks") from error
    latency_ms, low_ms, high_ms = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    table, context = predictor.lut, predictor.context
    energy_mj, margin = np.full(len(genomes), np.nan), 1.0
    if table is not None and table.energy_ is not None:
        energy_mj = np.concatenate([table.energy_mj(chunk) for chunk in chunks])
        margin = table.energy_.margin()
    return TableAnswer(
        lut=str(file.path),
        device=predictor.label if context is None else context.device,
        calibrated=predictor.calibrated,
        note=predictor.note,
        latency_ms=latency_ms,
        low_ms=low_ms,
        high_ms=high_ms,
        n_filled=np.zeros(len(genomes), dtype=np.int64) if table is None else table.filled_counts(genomes),
        energy_mj=energy_mj,
        energy_margin=margin,
        table=table,
        context=context,
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
