"""Journal of a closed loop, so that a killed search continues from its last session.

Line 1 names the search. Each session of measurements has two lines: the networks chosen, before it, and their
latencies, after it.

    {"round": 2, "confirms": false, "chosen": [{"arch": {...}, "latency_ms": x, "low_ms": x, "high_ms": x, "top1": x}]}
    {"round": 2, "confirms": false, "took": [{"arch": {...}, "latency_ms": x, "low_ms": x, "high_ms": x}]}

A chosen network has further `values` (by the name of the quantity) if the search has other quantities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_from_dict, arch_to_dict
from ofa_core.errors import FormatError, OfaError
from ofa_core.jsonlines import LinesFile, append_line, at_line
from ofa_core.schema import Positive, PositiveCount, structured
from ofa_core.search.problem import Candidate, MeasuredNet
from ofa_core.space import Space

__all__ = ["Rounds"]

Session = tuple[int, bool]  # number of the round; True if it repeats earlier measurements


@dataclass(frozen=True)
class _Network:
    arch: dict[str, Any]
    latency_ms: Positive
    low_ms: float | None
    high_ms: Positive | None
    top1: float = 0.0
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Event:
    round: PositiveCount
    confirms: bool
    chosen: list[_Network] | None = None
    took: list[_Network] | None = None


class Rounds:
    """The journal of a loop's sessions.

    Args:
        path: the file; sessions in it are those of an interrupted run of the same search.
        space: space of the networks.
        about: what identifies the search.

    Raises:
        ContextMismatchError: if the file is of another search.
        FormatError: if it is damaged before its last line.
    """

    def __init__(self, path: Path, space: Space, about: Mapping[str, Any]) -> None:
        self.path, self.space = path, space
        self._chosen: dict[Session, list[Candidate]] = {}
        self._took: dict[Session, list[MeasuredNet]] = {}
        with LinesFile(path, about) as file:
            for number, event in file.events:
                with at_line(path, number):
                    self._take(event)

    @property
    def n_sessions(self) -> int:
        """Number of sessions started."""
        return len(self._chosen)

    def chosen(self, session: Session) -> list[Candidate] | None:
        """Return the networks of a session; None if it was not started."""
        return self._chosen.get(session)

    def took(self, session: Session) -> list[MeasuredNet] | None:
        """Return the measurements of a session; None if it was not completed."""
        return self._took.get(session)

    def keep_chosen(self, session: Session, candidates: Sequence[Candidate]) -> None:
        """Record the networks that a session will measure."""
        rows = [self._row(c) for c in candidates]
        append_line(self.path, {"round": session[0], "confirms": session[1], "chosen": rows})
        self._chosen[session] = list(candidates)

    def keep_took(self, session: Session, measured: Sequence[MeasuredNet]) -> None:
        """Record the measurements of a session."""
        rows = [self._network(net.arch, net.latency_ms, net.low_ms, net.high_ms) for net in measured]
        append_line(self.path, {"round": session[0], "confirms": session[1], "took": rows})
        self._took[session] = list(measured)

    def _row(self, candidate: Candidate) -> dict[str, Any]:
        row = self._network(candidate.arch, candidate.latency_ms, candidate.low_ms, candidate.high_ms)
        row["top1"] = float(candidate.values.get("top1", 0.0))
        further = {name: float(value) for name, value in candidate.values.items() if name not in row}
        return {**row, "values": further} if further else row

    def _network(self, arch: Arch, ms: float, low_ms: float | None, high_ms: float | None) -> dict[str, Any]:
        low, high = (None if bound is None else float(bound) for bound in (low_ms, high_ms))
        return {"arch": arch_to_dict(arch, self.space), "latency_ms": float(ms), "low_ms": low, "high_ms": high}

    def _take(self, line: Mapping[str, Any]) -> None:
        if "done" in line:
            return
        event = structured(line, _Event, "not a session of a search")
        session = (event.round, event.confirms)
        try:
            if event.chosen is not None:
                self._chosen[session] = [self._candidate(net) for net in event.chosen]
            elif event.took is not None:
                self._took[session] = [self._measured(net) for net in event.took]
        except OfaError as error:
            raise FormatError(str(error)) from error
        strangers = {net.arch for net in self._took.get(session, ())} - {c.arch for c in self._chosen.get(session, ())}
        if strangers:
            raise FormatError(f"{strangers.pop()} was measured but not chosen before")

    def _candidate(self, net: _Network) -> Candidate:
        arch = arch_from_dict(net.arch, self.space)
        values = {"latency_ms": net.latency_ms, "top1": net.top1, **net.values}
        intervals = {}
        if net.low_ms is not None and net.high_ms is not None:
            intervals["latency_ms"] = (net.low_ms, net.high_ms)
        return Candidate(arch, values, self.space.macs(arch), self.space.params(arch), intervals)

    def _measured(self, net: _Network) -> MeasuredNet:
        if net.low_ms is None or net.high_ms is None:
            raise FormatError("a measured network has no interval")
        return MeasuredNet(arch_from_dict(net.arch, self.space), net.latency_ms, net.low_ms, net.high_ms)
