"""The words of `ofa-search` that name devices: `--lut FILE=LIMIT` and `--measure FILE=TARGET`.

One device needs no `=`: its limit is `--max-latency-ms`, and its target stands alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from ofa_core.cli_options import table_file

__all__ = [
    "LutWord",
    "check_column",
    "check_options",
    "device_name",
    "limits_of",
    "lut_word",
    "paired_limits",
    "targets_of",
]


ALGORITHMS = ("anneal", "evolution", "random")


def device_name(path: Path) -> str:
    """Return the name of a device in files: its latency file's without its suffixes."""
    return path.name.split(".")[0]


@dataclass(frozen=True)
class LutWord:
    """A latency file, with its limit in ms per batch if one stands behind it."""

    path: Path
    limit_ms: float | None = None

    @property
    def name(self) -> str:
        """Name of the device in files."""
        return device_name(self.path)


def lut_word(text: str | LutWord) -> LutWord:
    """Parse `FILE` or `FILE=LIMIT`; a file whose own name ends like that goes first."""
    if isinstance(text, LutWord):
        return text
    name, equals, limit = text.rpartition("=")
    if not (equals and name) or Path(text).exists():
        return LutWord(table_file(text))
    try:
        limit_ms = float(limit)
    except ValueError:
        if limit and not Path(name).exists():
            return LutWord(table_file(text))
        raise typer.BadParameter(f"{text!r}: a limit in ms is expected behind =, such as {name}=20") from None
    return LutWord(table_file(name), limit_ms)


def limits_of(luts: Sequence[LutWord], max_latency_ms: float | None) -> list[float | None]:
    """Return the limit of each device; None if there is none.

    Raises:
        typer.BadParameter: for two limits of one device, a device without a limit among several, or two equal names.
    """
    names = [lut.name for lut in luts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise typer.BadParameter(f"two files are named {twice}; rename one", param_hint="--lut")
    if max_latency_ms is not None and any(lut.limit_ms is not None for lut in luts):
        raise typer.BadParameter("give the limit there or as FILE=LIMIT, not both", param_hint="--max-latency-ms")
    limits = [max_latency_ms if lut.limit_ms is None else lut.limit_ms for lut in luts]
    if len(luts) > 1 and None in limits:
        lacking = luts[limits.index(None)]
        raise typer.BadParameter(f"{lacking.path} has no limit; give {lacking.path}=LIMIT", param_hint="--lut")
    wrong = [ms for lut in luts if (ms := lut.limit_ms) is not None and not (math.isfinite(ms) and ms > 0)]
    if wrong:
        raise typer.BadParameter(f"limit {wrong[0]:g} ms: a finite number > 0 is expected", param_hint="--lut")
    return limits


def targets_of(measure: Sequence[str], luts: Sequence[LutWord]) -> dict[str, str]:
    """Return the target of each device by its name; empty without --measure.

    Raises:
        typer.BadParameter: for a file that is none of --lut, a device without a target, or two targets of one device.
    """
    if not measure:
        return {}
    if len(luts) == 1 and len(measure) == 1 and "=" not in measure[0]:
        return {luts[0].name: measure[0]}
    targets: dict[str, str] = {}
    for word in measure:
        file, _, target = word.partition("=")
        name = next((lut.name for lut in luts if file in (str(lut.path), lut.path.name, lut.name)), None)
        if name is None or not target or name in targets:
            reason = "two targets" if name in targets else "FILE=TARGET with a file of --lut is expected"
            raise typer.BadParameter(f"{word!r}: {reason}", param_hint="--measure")
        targets[name] = target
    lacking = [lut.name for lut in luts if lut.name not in targets]
    if lacking:
        raise typer.BadParameter(f"{lacking[0]} has no target; give one to each device or none", param_hint="--measure")
    return targets


def paired_limits(luts: Sequence[Path], limits_ms: Sequence[float]) -> list[tuple[Path, float]]:
    """Pair the tables of a comparison with their limits, or with the one limit of all."""
    if bool(luts) != bool(limits_ms) or len(limits_ms) not in (0, 1, len(luts)):
        raise typer.BadParameter(
            f"give one limit, or one for each of {len(luts)} tables of --lut", param_hint="--max-latency-ms"
        )
    return list(zip(luts, list(limits_ms) * len(luts) if len(limits_ms) == 1 else limits_ms, strict=True))


def check_options(
    limits_ms: list[float | None], pareto: int | None, per_device: bool, measured: bool, algorithm: str
) -> None:
    """Refuse options that do not go together.

    Raises:
        typer.BadParameter: naming one of them, and what to do.
    """
    if measured and pareto is not None:
        raise typer.BadParameter("a front is predicted only; leave one of them out", param_hint="--pareto --measure")
    if len(limits_ms) > 1 and pareto is not None:
        raise typer.BadParameter("a front is for one device; give one --lut", param_hint="--pareto")
    if len(limits_ms) == 1 and per_device:
        raise typer.BadParameter("needs several --lut", param_hint="--per-device")
    if algorithm not in ALGORITHMS:
        raise typer.BadParameter(f"{algorithm!r}; one of {', '.join(ALGORITHMS)} is expected", param_hint="--algorithm")
    if measured and algorithm != "anneal":
        raise typer.BadParameter("a comparison is predicted only; leave --measure out", param_hint="--algorithm")


def check_column(column: str | None, accuracy: str | None) -> None:
    """Refuse --column without a CSV file."""
    if column is not None and not (accuracy or "").lower().endswith(".csv"):
        raise typer.BadParameter("needs a CSV file for --accuracy", param_hint="--column")
