"""Detect that a device is throttled by heat, and wait for a limited time until it is cool."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from devices.device import Device
from devices.errors import DeviceError
from devices.facts import Conditions

__all__ = ["Cooling"]

_LOG = logging.getLogger(__name__)
MARGIN_C = 25.0  # rise of a phone's CPU since the start; before Android 10 phones do not report throttling
WARM_C = 60.0  # a phone below this is never hot
MAX_WAIT_S = 300.0
LOOK_EVERY_S = 5.0


@dataclass
class Cooling:
    """Watches the temperature and throttling of a device.

    Attributes:
        device: an open device.
        start: conditions at the start, when the device was cool.
        is_phone: True if a rise in temperature means throttling. A laptop's processor gets as hot without it.
        max_wait_s: longest single wait; measuring continues afterwards.
        clock: monotonic clock, in seconds.
        sleep: function that waits for some seconds.
        waited_s: seconds waited so far.
        temperature_c: highest temperature when it was last read; None if unknown.
    """

    device: Device
    start: Conditions
    is_phone: bool = False
    max_wait_s: float = MAX_WAIT_S
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    waited_s: float = field(default=0.0, init=False)
    temperature_c: float | None = field(default=None, init=False)
    _throttle_count: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._throttle_count = self.start.throttle_count

    @property
    def can_tell(self) -> bool:
        """True if the device reports throttling, or a temperature that shows it."""
        has_sensor = self.is_phone and self.start.temperatures_c is not None
        return self.start.thermal_status is not None or self.start.throttle_count is not None or has_sensor

    def stayed_cool(self) -> bool:
        """Return True if heat did not throttle the device since the last call, or if the device does not report it."""
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
                _LOG.warning("%s: %s: waiting for it to cool, at most %.0f s", self.device.name, hot, self.max_wait_s)
            if self.clock() - started >= self.max_wait_s:
                _LOG.warning(
                    "%s: still hot after %.0f s (%s): measuring anyway", self.device.name, self.max_wait_s, hot
                )
                break
            self.sleep(LOOK_EVERY_S)
        waited = self.clock() - started if why is not None else 0.0
        self.waited_s += waited
        return waited

    def _look(self) -> Conditions | None:
        try:
            conditions = self.device.conditions()
        except DeviceError:  # the next visit handles a lost connection
            return None
        self.temperature_c = _hottest(conditions)
        return conditions

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
