"""Heat: notice that a device was slowed down by it, and wait, not for ever, until it is cool again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from devices.device import Device
from devices.errors import DeviceError
from devices.facts import Conditions

__all__ = ["Cooling"]

MARGIN_C = 25.0  # of the CPU of a phone above its start; before Android 10 none says that it is throttled
WARM_C = 60.0  # what no phone is called hot below
MAX_WAIT_S = 300.0
LOOK_EVERY_S = 5.0


@dataclass
class Cooling:
    """Watches a device's heat.

    Attributes:
        device: whose.
        start: its conditions at the start, when it was as it should be.
        say: is told in one line when there is something to wait for.
        is_phone: whether its temperature says something: a laptop's processor rises as much at once, and is not slowed.
        max_wait_s: longest wait at a time; measuring goes on afterwards, and what comes of it is said.
        clock: seconds, monotonic.
        sleep: waits.
        waited_s: seconds waited so far.
    """

    device: Device
    start: Conditions
    say: Callable[[str], None] = lambda _: None
    is_phone: bool = False
    max_wait_s: float = MAX_WAIT_S
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    waited_s: float = field(default=0.0, init=False)
    _throttle_count: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._throttle_count = self.start.throttle_count

    @property
    def can_tell(self) -> bool:
        """Whether this device says anything about its heat that would show it to be slowed down."""
        has_sensor = self.is_phone and self.start.temperatures_c is not None
        return self.start.thermal_status is not None or self.start.throttle_count is not None or has_sensor

    def stayed_cool(self) -> bool:
        """Whether the device was not slowed down by heat since the last look; True where it does not say."""
        conditions = self._look()
        if conditions is None:
            return True
        before, self._throttle_count = self._throttle_count, conditions.throttle_count
        was_cut = before is not None and conditions.throttle_count is not None and conditions.throttle_count > before
        return not was_cut and self._why_hot(conditions) is None

    def cool_down(self) -> float:
        """Wait until the device is cool, at most `max_wait_s`; return the seconds waited."""
        started = self.clock()
        why = None
        while (conditions := self._look()) is not None and (hot := self._why_hot(conditions)) is not None:
            if why is None:
                why = hot
                self.say(f"{self.device.name}: {hot}: waiting for it to cool, at most {self.max_wait_s:.0f} s")
            if self.clock() - started >= self.max_wait_s:
                self.say(f"{self.device.name}: still hot after {self.max_wait_s:.0f} s ({hot}): measuring all the same")
                break
            self.sleep(LOOK_EVERY_S)
        waited = self.clock() - started if why is not None else 0.0
        self.waited_s += waited
        return waited

    def _look(self) -> Conditions | None:
        try:
            return self.device.conditions()
        except DeviceError:  # a connection that broke shows, and is dealt with, at the next visit
            return None

    def _why_hot(self, now: Conditions) -> str | None:
        if now.throttled:
            return f"throttled by heat (status {now.thermal_status})"
        if now.throttled is None and self.is_phone:
            first, last = _hottest(self.start), _hottest(now)
            if first is not None and last is not None and last > max(first + MARGIN_C, WARM_C):
                return f"at {last:.0f} C, {last - first:.0f} more than at the start"
        return None


def _hottest(conditions: Conditions) -> float | None:
    return max((t for _, t in conditions.temperatures_c), default=None) if conditions.temperatures_c else None
