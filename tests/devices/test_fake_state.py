"""The state that the parts of the fake device share."""

from __future__ import annotations

from collections import deque

import pytest

from devices.errors import DeviceUnreachableError
from devices.fake_state import FakeMeter, FakeRun, FakeState, Fault, by_content


def test_a_fault_waits_and_ends() -> None:
    state = FakeState()
    state.plan([Fault("crash", after=1, times=2), Fault("hang", times=None)])
    assert [state.due_fault("run", None) for _ in range(4)] == ["hang", "crash", "crash", "hang"]


def test_a_fault_strikes_its_operation_and_model_only() -> None:
    state = FakeState()
    state.plan([Fault("error", on="load", model=b"a", times=None)])
    assert state.due_fault("run", b"a") is None
    assert state.due_fault("load", b"b") is None
    assert state.due_fault("load", b"a") == "error"


def test_a_disconnected_device_stays_so() -> None:
    state = FakeState()
    state.check_connection()
    state.plan([Fault("disconnect", on="push")])
    with pytest.raises(DeviceUnreachableError, match=r"^the fake device was disconnected$"):
        state.due_fault("push", None)
    with pytest.raises(DeviceUnreachableError, match=r"^the fake device is not connected$"):
        state.check_connection()


def test_energy_is_power_over_virtual_time() -> None:
    state = FakeState(watts=lambda model: 1.0 if model is None else 3.0)
    meter = FakeMeter(0.0, deque())
    state.meters.append(meter)
    state.advance(1.0)
    state.advance(1.5, b"model")
    assert state.clock() == 2.5
    assert list(meter.lines) == [
        "0.00 uj 0/1000000000",
        "1.00 uj 1000000/1000000000",
        "2.00 uj 4000000/1000000000",
    ]


def test_the_counter_of_a_meter_restarts() -> None:
    meter = FakeMeter(0.0, deque())
    meter.record(0.0, 0.5, 1_000_000_007, 1.0)
    assert list(meter.lines) == ["0.00 uj 7/1000000000"]


def test_latency_by_content() -> None:
    assert by_content(FakeRun(b'{"ms": 2.5}', 0, 0, 0, 1)) == 2.5
    assert 0.1 <= by_content(FakeRun(b"any", 0, 0, 0, 1)) < 1.1
    assert by_content(FakeRun(b"any", 0, 0, 0, 1)) == by_content(FakeRun(b"any", 3, 2, 1, 4))
