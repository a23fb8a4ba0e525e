"""The journal of a measuring session: append-only JSON lines that survive a crash at any moment.

Line 1 is the header: what is measured, and in which context. Every other line is one event:

    {"pilot": {"repeats": [...], "n_rounds": n}}                what the pilot found out; measuring starts after it
    {"p": 0, "c": 0, "r": 3, "i": 17, "w": [...], "u": [...], "s": [...], "b": [w, u], "a": [w, u]}     one visit
    {"fail": 17, "error": "..."}                                a try of item 17 that went wrong
    {"redo": [p, c]}                                            the visits of that unit so far do not count
    {"void": [[p, c, r, i], ...]}                               these visits do not count: the device was throttled
    {"energy": 17, "source": "rapl", "energy_mj": x, "gross_mj": x, "idle_mj": x, "why": ""}     energy of a network

A visit: process, chunk, round, item; wall and CPU nanoseconds and involuntary context switches of each run in order,
the discarded first ones included; and the probe's wall and CPU nanoseconds before and after.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Any

from ofa_core.errors import ContextMismatchError, FormatError
from ofa_core.space_record import SPACE_FIELDS, described_differences, space_of

__all__ = ["EnergyRecord", "Journal", "VisitRecord", "read_journal"]

JOURNAL_SCHEMA = 1
N_TRIED = 5  # lines, to see how long one takes
LINE_BYTES = 400


@dataclass(frozen=True, slots=True)
class VisitRecord:
    """One visit of one item.

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
        inner: inferences of one timed run, of the item and of the probe; more than 1 where a CUDA graph holds several.
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
        """What no two visits share."""
        return self.process, self.chunk, self.round, self.item

    def to_json(self) -> dict[str, Any]:
        """The line of the file, as a dictionary."""
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
    def from_json(cls, line: Mapping[str, Any]) -> VisitRecord:
        """The inverse of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        wall, cpu, switches = (tuple(int(v) for v in line[name]) for name in "wus")
        if not len(wall) == len(cpu) == len(switches):
            raise ValueError("w, u and s differ in length")
        process, chunk, round_, item = (int(line[name]) for name in "pcri")
        before, after, inner = _pair(line["b"]), _pair(line["a"]), _pair(line.get("n", (1, 1)))
        return cls(process, chunk, round_, item, wall, cpu, switches, before, after, inner)


@dataclass(frozen=True, slots=True)
class EnergyRecord:
    """What one inference of a network takes, in millijoules per batch.

    Attributes:
        item: index into the plan's items.
        source: the meter.
        energy_mj: above idle; None where it is not known.
        gross_mj: all that the device took in that time; None where it could not be read.
        idle_mj: what it takes in as much time when idle.
        why: why the energy is not known, in one line; empty if it is.
    """

    item: int
    source: str
    energy_mj: float | None = None
    gross_mj: float | None = None
    idle_mj: float | None = None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """The line of the file, as a dictionary."""
        line = asdict(self)
        return {"energy": line.pop("item"), **line}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> EnergyRecord:
        """The inverse of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        net, gross, idle = (None if line[k] is None else float(line[k]) for k in ("energy_mj", "gross_mj", "idle_mj"))
        if not all(mj is None or (math.isfinite(mj) and mj >= 0) for mj in (net, gross, idle)):
            raise ValueError(f"{net}, {gross} and {idle} are not energies")
        return cls(int(line["energy"]), str(line["source"]), net, gross, idle, str(line["why"]))


@dataclass
class JournalState:
    """What a journal says.

    Attributes:
        header: its first line.
        pilot: what the pilot found out, None before it ended.
        visits: the visits that count, by key.
        failures: error messages of each item's failed tries.
        redone: the units that were measured again.
        energy: what came of measuring networks' energy, the last time for each.
    """

    header: dict[str, Any]
    pilot: dict[str, Any] | None = None
    visits: dict[tuple[int, int, int, int], VisitRecord] = field(default_factory=dict)
    failures: dict[int, list[str]] = field(default_factory=dict)
    redone: list[tuple[int, int]] = field(default_factory=list)
    energy: dict[int, EnergyRecord] = field(default_factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        """Take one event in; raises KeyError, TypeError or ValueError for a line that is none."""
        if "pilot" in line:
            self.pilot = dict(line["pilot"])
        elif "energy" in line:
            record = EnergyRecord.from_json(line)
            self.energy[record.item] = record
        elif "fail" in line:
            self.failures.setdefault(int(line["fail"]), []).append(str(line["error"]))
        elif "redo" in line:
            process, chunk = (int(v) for v in line["redo"])
            self.redone.append((process, chunk))
            self.visits = {k: v for k, v in self.visits.items() if k[:2] != (process, chunk)}
        elif "void" in line:
            for process, chunk, round_, item in line["void"]:
                self.visits.pop((int(process), int(chunk), int(round_), int(item)), None)
        else:
            visit = VisitRecord.from_json(line)
            self.visits.setdefault(visit.key, visit)


class Journal:
    """An open journal; every line is on the disk before `write` returns. A context manager.

    Args:
        path: the file.
        header: what line 1 says, or must say: measurements of another context are never mixed in.
        fresh: set an existing journal aside (`<name>.1`, `.2`, ...) instead of resuming it.

    Raises:
        ContextMismatchError: if the file holds measurements of something else.
        FormatError: if the file is no journal, or damaged before its last line.
    """

    def __init__(self, path: Path, header: dict[str, Any], *, fresh: bool = False) -> None:
        header = json.loads(json.dumps({"schema": JOURNAL_SCHEMA, **header}))
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if fresh and path.exists():
            path.rename(_unused(path))
        self.resumed = path.exists() and path.stat().st_size > 0
        if self.resumed:
            self.state, good_bytes = _parse(path)
            if good_bytes == 0:
                self.resumed = False
            elif differences := _differences(self.state.header, header):
                raise ContextMismatchError(
                    f"{path} holds measurements of something else ({'; '.join(differences[:3])}); "
                    "use --fresh to set it aside and start anew"
                )
            with path.open("r+b") as file:
                file.truncate(good_bytes)
        self._file: IO[bytes] = path.open("ab")
        if not self.resumed:
            self.state = JournalState(header)
            self._append(header)

    def write(self, event: dict[str, Any]) -> None:
        """Append one event and take it into `state`."""
        self._append(event)
        self.state.take(event)

    def line_s(self) -> float:
        """Seconds that it takes to get the line of a visit onto the disk: the median of a few, beside the journal."""
        seconds = []
        with tempfile.TemporaryFile(dir=self.path.parent) as file:
            for _ in range(N_TRIED):
                begin = time.perf_counter()
                file.write(b" " * LINE_BYTES)
                file.flush()
                os.fsync(file.fileno())
                seconds.append(time.perf_counter() - begin)
        return median(seconds)

    def _append(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read_journal(path: Path) -> JournalState:
    """Read a journal without opening it for writing.

    Raises:
        FormatError: if it is none, or damaged before its last line.
    """
    state, good_bytes = _parse(path)
    if not good_bytes:
        raise FormatError(f"{path}: no complete line; a journal starts with its context")
    return state


def _parse(path: Path) -> tuple[JournalState, int]:
    """The state, and the bytes up to the end of the last whole line: what follows was torn by a crash."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    good = data[: data.rfind(b"\n") + 1]
    state = JournalState({})
    for number, raw in enumerate(good.splitlines(), start=1):
        try:
            line = _object(raw)
            if number > 1:
                state.take(line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError(f"{path}, line {number}: not a line of a measuring journal ({error})") from error
        if number == 1:
            if line.get("schema") != JOURNAL_SCHEMA:
                raise FormatError(f"{path}: schema {line.get('schema')!r}; this version reads {JOURNAL_SCHEMA}")
            state.header = line
    return state, len(good)


def _pair(values: list[int]) -> tuple[int, int]:
    wall, cpu = values
    return int(wall), int(cpu)


def _object(raw: bytes) -> dict[str, Any]:
    line = json.loads(raw)
    if not isinstance(line, dict):
        raise TypeError("not a JSON object")
    return line


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    out = []
    if isinstance(old.get("space"), str) and isinstance(new.get("space"), str):
        before, now = space_of(old), space_of(new)
        if before != now:
            out.append(f"space {before.name}, now {now.name}: {described_differences(before, now)}")
        old, new = ({key: value for key, value in header.items() if key not in SPACE_FIELDS} for header in (old, new))
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if a != b:
            long = isinstance(a, list | dict) or isinstance(b, list | dict)
            out.append(f"another {name}" if long else f"{name} {a!r}, now {b!r}")
    return out


def _unused(path: Path) -> Path:
    n = 1
    while (other := path.with_name(f"{path.name}.{n}")).exists():
        n += 1
    return other
