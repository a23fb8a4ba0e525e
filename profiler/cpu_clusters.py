"""Choose the cores to measure on. Clusters of a phone or a hybrid processor are found by their maximum clocks."""

from __future__ import annotations

import re

from devices.facts import DeviceFacts
from ofa_core.errors import OfaError

__all__ = ["choose_cpus", "cluster", "parse_cpus"]


def parse_cpus(text: str) -> tuple[int, ...]:
    """Read `0`, `0,2`, `4-7` or a mask such as `0xf0`.

    Raises:
        OfaError: the text has another form.
    """
    if re.fullmatch(r"0x[0-9a-fA-F]{1,64}", text) and int(text, 16):
        return tuple(i for i in range(256) if int(text, 16) >> i & 1)
    cpus: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise OfaError(f"--cpus {text!r}: expected cores such as 0, 4-7 or 0xf0, or big, little or all")
        cpus.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(cpus))


def cluster(facts: DeviceFacts, which: str) -> tuple[int, ...] | None:
    """Return the `big` or `little` cores: those with the highest or lowest maximum clock; None if all are equal.

    Raises:
        OfaError: the device does not report its cores' clocks.
    """
    clocks = facts.max_freq_mhz
    if clocks is None or len(clocks) != (facts.n_cores or len(clocks)):
        raise OfaError(
            f"{facts.name} does not report the maximum clock of each core: name the cores, such as --cpus 4-7"
        )
    wanted = max(clocks) if which == "big" else min(clocks)
    return tuple(i for i, mhz in enumerate(clocks) if mhz == wanted) if min(clocks) < max(clocks) else None


def choose_cpus(
    text: str | None, of_target: tuple[int, ...] | None, facts: DeviceFacts, *, is_phone: bool
) -> tuple[int, ...] | None:
    """Return the cores to pin to; None for no pinning.

    Args:
        text: value of `--cpus`: cores, `big`, `little`, `all`, or None.
        of_target: default of the target.
        facts: facts of the device.
        is_phone: True to pin to the big cores by default.

    Raises:
        OfaError: the text has another form, or the device does not report its clocks.
    """
    if text in ("big", "little"):
        return cluster(facts, text)
    if text is not None:
        return None if text == "all" else parse_cpus(text)
    if of_target is None and is_phone and facts.max_freq_mhz is not None:
        return cluster(facts, "big")
    return of_target
