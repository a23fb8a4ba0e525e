"""What a closed loop chose and measured, kept in a file, so that a search that was killed goes on where it was.

Line 1 says what is searched. A session of measurements has two lines: the networks before, their latencies after.

    {"round": 2, "confirms": false, "chosen": [{"arch": {...}, "latency_ms": x, "low_ms": x, "high_ms": x, "top1": x}]}
    {"round": 2, "confirms": false, "took": [{"arch": {...}, "latency_ms": x, "low_ms": x, "high_ms": x}]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofa_core.arch_json import arch_from_dict, arch_to_dict
from ofa_core.errors import FormatError, OfaError
from ofa_core.jsonlines import LinesFile, append_line, at_line
from ofa_core.schema import Positive, PositiveCount, structured
from ofa_core.search.problem import Candidate, MeasuredNet
from ofa_core.space import Space

__all__ = ["Rounds"]

Session = tuple[int, bool]  # number of the round, and whether it repeats earlier measurements


@dataclass(frozen=True)
class _Network:
    arch: dict[str, Any]
    latency_ms: Positive
    low_ms: float | None
    high_ms: Positive | None
    top1: float = 0.0


@dataclass(frozen=True)
class _Event:
    round: PositiveCount
    confirms: bool
    chosen: list[_Network] | None = None
    took: list[_Network] | None = None


class Rounds:
    """The sessions of a loop, in a file.

    Args:
        path: the file; sessions that it holds were those of an interrupted search for the same.
        space: of the networks.
        about: what is searched.

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
        """Sessions that it has come to."""
        return len(self._chosen)

    def chosen(self, session: Session) -> list[Candidate] | None:
        """The networks of a session; None if it has not come to it."""
        return self._chosen.get(session)

    def took(self, session: Session) -> list[MeasuredNet] | None:
        """What they took; None if that was not all measured."""
        return self._took.get(session)

    def keep_chosen(self, session: Session, candidates: Sequence[Candidate]) -> None:
        """Note which networks a session will measure."""
        rows = [{**self._network(c.arch, c.latency_ms, c.low_ms, c.high_ms), "top1": float(c.top1)} for c in candidates]
        append_line(self.path, {"round": session[0], "confirms": session[1], "chosen": rows})
        self._chosen[session] = list(candidates)

    def keep_took(self, session: Session, measured: Sequence[MeasuredNet]) -> None:
        """Note what they took."""
        rows = [self._network(net.arch, net.latency_ms, net.low_ms, net.high_ms) for net in measured]
        append_line(self.path, {"round": session[0], "confirms": session[1], "took": rows})
        self._took[session] = list(measured)

    def end(self) -> None:
        """Note that the search is over: the file gives way to another one."""
        append_line(self.path, {"done": True})

    def _network(self, arch: Any, ms: float, low_ms: float | None, high_ms: float | None) -> dict[str, Any]:
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
            raise FormatError(f"{strangers.pop()} was measured and not chosen before")

    def _candidate(self, net: _Network) -> Candidate:
        arch = arch_from_dict(net.arch, self.space)
        macs, params = self.space.macs(arch), self.space.params(arch)
        return Candidate(arch, net.latency_ms, net.low_ms, net.high_ms, net.top1, macs, params)

    def _measured(self, net: _Network) -> MeasuredNet:
        if net.low_ms is None or net.high_ms is None:
            raise FormatError("a measured network has no interval")
        return MeasuredNet(arch_from_dict(net.arch, self.space), net.latency_ms, net.low_ms, net.high_ms)
