"""Several devices at once: side by side, and none stops the others."""

from __future__ import annotations

import threading

import pytest

from devices.errors import DeviceUnreachableError
from profiler.fleet import Interrupted, measure_all, stoppable
from profiler.settings import Progress


def test_devices_elsewhere_are_measured_side_by_side_and_this_machine_after_them() -> None:
    together = threading.Barrier(2, timeout=20)
    order: list[str] = []

    def measure(name: str, stop: threading.Event) -> int:
        if name != "local":
            together.wait()  # breaks unless both are here at once
        order.append(name)
        return 3 if name == "b" else 0

    codes = measure_all(["local", "a", "b"], measure, is_here="local".__eq__)
    assert codes == {"local": 0, "a": 0, "b": 3}
    assert order[-1] == "local"


def test_one_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def measure(name: str, stop: threading.Event) -> int:
        if name == "a":
            raise DeviceUnreachableError("a was unplugged")
        return 0

    codes = measure_all(["a", "b", "local"], measure, is_here="local".__eq__)
    assert codes == {"a": 1, "b": 0, "local": 0}
    assert caplog.messages == ["a: failed: a was unplugged"]


def test_a_bug_is_not_reported_as_a_device_error() -> None:
    def measure(name: str, stop: threading.Event) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure_all(["a", "b"], measure, is_here=lambda _: False)


def test_ctrl_c_ends_a_session_at_its_next_visit() -> None:
    stop, seen = threading.Event(), list[Progress]()
    call = stoppable(seen.append, stop)
    call(Progress())
    stop.set()
    with pytest.raises(Interrupted):
        call(Progress())
    assert len(seen) == 1
