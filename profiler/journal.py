"""The journal of a measuring session: append-only JSON lines that survive a crash at any moment.

Line 1 is the header: plan and context. Every other line is one event:

    {"pilot": {"repeats": [...], "n_rounds": n}}                schedule of the session, fixed by the pilot
    {"p": 0, "c": 0, "r": 3, "i": 17, "w": [...], "u": [...], "s": [...], "b": [w, u], "a": [w, u]}     one visit
    {"fail": 17, "error": "..."}                                a failed try of item 17
    {"redo": [p, c]}                                            discard the visits of that unit so far
    {"void": [[p, c, r, i], ...]}                               discard these visits: the device was throttled
    {"done": true}                                              the session is complete; its results are being written
    {"energy": 17, "source": "rapl", "energy_mj": x, "gross_mj": x, "idle_mj": x, "why": ""}     energy of a network

A visit holds process, chunk, round and item; wall nanoseconds, CPU nanoseconds and involuntary context switches of
each run in order, the discarded first runs included; and wall and CPU nanoseconds of the probe before and after it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

from ofa_core.atomic import naming
from ofa_core.errors import FormatError
from ofa_core.jsonlines import LinesFile, append_line, at_line, read_lines
from ofa_core.schema import Count, NonNegative, Range, structured
from profiler.replies import MAX_RUN_NS

__all__ = ["EnergyRecord", "Journal", "VisitRecord", "fail_event", "mark_done", "read_journal"]

MAX_REPEATS = 100_000  # of a visit, and rounds of a session
MAX_ERROR_CHARS = 2000
N_TRIED = 5  # lines written to measure the time of one
LINE_BYTES = 400

WallNs = Annotated[int, Range(0, MAX_RUN_NS)]
CpuNs = Annotated[int, Range(0, 1024 * MAX_RUN_NS)]  # up to 1024 cores
Inner = Annotated[int, Range(1, 1_000_000)]
Repeats = Annotated[int, Range(1, MAX_REPEATS)]


@dataclass(frozen=True, slots=True)
class VisitRecord:
    """A visit of one item.

    Attributes:
        process: number of the fresh process.
        chunk: number of the chunk.
        round: number of the round within both.
        item: index into the plan's items.
        wall_ns: wall time of each run, in order.
        cpu_ns: CPU time of each run.
        switches: involuntary context switches of each run.
        before: the probe's (wall, CPU) nanoseconds before the visit.
        after: the same after it.
        inner: inferences of one timed run of the item and of the probe; more than 1 if a CUDA graph holds several.
    """

    process: int
    chunk: int
    round: int
    item: int
    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    switches: tuple[int, ...]
    before: tuple[int, int]
    after: tuple[int, int]
    inner: tuple[int, int] = (1, 1)

    def timed_s(self, n_probe_runs: int) -> float:
        """Return the seconds of timed inference: of the item, and of `n_probe_runs` runs of the probe after it."""
        return (sum(self.wall_ns) * self.inner[0] + n_probe_runs * self.after[0] * self.inner[1]) / 1e9

    @property
    def key(self) -> tuple[int, int, int, int]:
        """Process, chunk, round and item, which identify the visit."""
        return self.process, self.chunk, self.round, self.item

    def to_json(self) -> dict[str, Any]:
        """Return the line of the file as a dictionary."""
        line = {
            "p": self.process,
            "c": self.chunk,
            "r": self.round,
            "i": self.item,
            "w": self.wall_ns,
            "u": self.cpu_ns,
            "s": self.switches,
            "b": self.before,
            "a": self.after,
        }
        return line if self.inner == (1, 1) else {**line, "n": self.inner}

    @classmethod
    def from_json(cls, line: Mapping[str, Any], where: str = "a visit") -> VisitRecord:
        """Read the line that `to_json` returns; raise FormatError for anything else."""
        v = structured(line, _VisitLine, where)
        if not len(v.w) == len(v.u) == len(v.s):
            raise FormatError(f"{where}: w, u and s differ in length")
        return cls(v.p, v.c, v.r, v.i, v.w, v.u, v.s, v.b, v.a, v.n)


@dataclass(frozen=True, slots=True)
class EnergyRecord:
    """Energy of one inference of a network, in millijoules per batch.

    Attributes:
        item: index into the plan's items.
        source: name of the meter.
        energy_mj: energy above idle; None if unknown.
        gross_mj: energy of the device in that time; None if it could not be read.
        idle_mj: energy of the idle device in the same time.
        why: reason in one line if the energy is unknown, else empty.
    """

    item: int
    source: str
    energy_mj: float | None = None
    gross_mj: float | None = None
    idle_mj: float | None = None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the line of the file as a dictionary."""
        line = asdict(self)
        return {"energy": line.pop("item"), **line}

    @classmethod
    def from_json(cls, line: Mapping[str, Any], where: str = "an energy") -> EnergyRecord:
        """Read the line that `to_json` returns; raise FormatError for anything else."""
        e = structured(line, _EnergyLine, where)
        return cls(e.energy, e.source, e.energy_mj, e.gross_mj, e.idle_mj, e.why)


@dataclass(frozen=True)
class _VisitLine:
    p: Count
    c: Count
    r: Count
    i: Count
    w: tuple[WallNs, ...]
    u: tuple[CpuNs, ...]
    s: tuple[Count, ...]
    b: tuple[WallNs, CpuNs]
    a: tuple[WallNs, CpuNs]
    n: tuple[Inner, Inner] = (1, 1)


@dataclass(frozen=True)
class _EnergyLine:
    energy: Count
    source: str
    energy_mj: NonNegative | None
    gross_mj: NonNegative | None
    idle_mj: NonNegative | None
    why: str


@dataclass(frozen=True)
class _Pilot:
    repeats: list[Repeats]
    n_rounds: Repeats


@dataclass(frozen=True)
class _PilotLine:
    pilot: _Pilot


@dataclass(frozen=True)
class _FailLine:
    fail: Count
    error: str


@dataclass(frozen=True)
class _RedoLine:
    redo: tuple[Count, Count]


@dataclass(frozen=True)
class _VoidLine:
    void: list[tuple[Count, Count, Count, Count]]


@dataclass
class JournalState:
    """Content of a journal.

    Attributes:
        header: the first line.
        pilot: schedule of the session; None before the pilot ended.
        visits: valid visits by key.
        failures: error messages of each item's failed tries.
        redone: units that were measured again.
        energy: latest energy record of each network.
        done: True if the session is complete.
    """

    header: dict[str, Any]
    pilot: dict[str, Any] | None = None
    visits: dict[tuple[int, int, int, int], VisitRecord] = field(default_factory=dict)
    failures: dict[int, list[str]] = field(default_factory=dict)
    redone: list[tuple[int, int]] = field(default_factory=list)
    energy: dict[int, EnergyRecord] = field(default_factory=dict)
    done: bool = False

    def take(self, line: dict[str, Any], where: str = "an event") -> None:
        """Apply one event; raise FormatError for a line that is not one."""
        if "done" in line:
            self.done = True
        elif "pilot" in line:
            pilot = structured(line, _PilotLine, where).pilot
            if self.n_items is not None and len(pilot.repeats) != self.n_items:
                raise FormatError(f"{where}: the pilot has {len(pilot.repeats)} items, the plan has {self.n_items}")
            self.pilot = dict(line["pilot"])
        elif "energy" in line:
            record = EnergyRecord.from_json(line, where)
            self.energy[self._known(record.item, where)] = record
        elif "fail" in line:
            failed = structured(line, _FailLine, where)
            self.failures.setdefault(self._known(failed.fail, where), []).append(failed.error)
        elif "redo" in line:
            unit = structured(line, _RedoLine, where).redo
            self.redone.append(unit)
            self.visits = {k: v for k, v in self.visits.items() if k[:2] != unit}
        elif "void" in line:
            for key in structured(line, _VoidLine, where).void:
                self.visits.pop(key, None)
        else:
            visit = VisitRecord.from_json(line, where)
            self._known(visit.item, where)
            self.visits.setdefault(visit.key, visit)

    @property
    def n_items(self) -> int | None:
        """Number of items of the plan; None if the header does not list them."""
        items = self.header.get("items")
        return len(items) if isinstance(items, list) else None

    def _known(self, item: int, where: str) -> int:
        if self.n_items is not None and item >= self.n_items:
            raise FormatError(f"{where}: there is no item {item} in a plan of {self.n_items}")
        return item


class Journal:
    """An open journal; a context manager. Every line is on the disk before `write` returns.

    Args:
        path: the file.
        header: line 1 of a new file; an existing file must have the same.

    Raises:
        ContextMismatchError: if the file has another header.
        FormatError: if the file is not a journal, or is damaged before its last line.
        OutputError: if it cannot be written.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self._file = LinesFile(path, header)
        self.resumed = self._file.resumed
        try:
            self.state = _state_of(path, self._file.header, self._file.events)
        except FormatError:
            self._file.close()
            raise

    def write(self, event: dict[str, Any]) -> None:
        """Append one event and apply it to `state`."""
        self._file.append(event)
        self.state.take(event)

    def line_s(self) -> float:
        """Return the median time of writing a visit's line to the disk, in seconds, measured beside the journal."""
        seconds = []
        with naming(self.path), tempfile.TemporaryFile(dir=self.path.parent) as file:
            for _ in range(N_TRIED):
                begin = time.perf_counter()
                file.write(b" " * LINE_BYTES)
                file.flush()
                os.fsync(file.fileno())
                seconds.append(time.perf_counter() - begin)
        return median(seconds)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def fail_event(item: int, error: str) -> dict[str, Any]:
    """Return the event of a failed try, with a message that is valid text of limited length."""
    return {"fail": item, "error": error.encode("utf-8", "replace").decode()[:MAX_ERROR_CHARS]}


def mark_done(path: Path) -> None:
    """Mark a closed journal as complete."""
    append_line(path, {"done": True})


def read_journal(path: Path) -> JournalState:
    """Read a journal without opening it for writing.

    Raises:
        FormatError: if it is not a journal, or is damaged before its last line.
    """
    return _state_of(path, *read_lines(path))


def _state_of(path: Path, header: dict[str, Any], events: list[tuple[int, dict[str, Any]]]) -> JournalState:
    state = JournalState(header)
    for number, line in events:
        with at_line(path, number):
            state.take(line, "not a line of a measuring journal")
    return state
