"""Processes of the fake device, in virtual time."""

from __future__ import annotations

import pytest

from devices.errors import ChannelClosedError, DeviceTimeoutError, DeviceUnreachableError
from devices.fake_channel import FakeChannel
from devices.fake_state import FakeState


def test_without_an_agent_it_echoes() -> None:
    channel = FakeChannel(FakeState(), "cat")
    channel.write_line("a")
    assert channel.read_line(1) == "a"


def test_a_line_that_does_not_come_takes_virtual_time() -> None:
    state = FakeState()
    channel = FakeChannel(state, "cat")
    with pytest.raises(DeviceTimeoutError, match=r"^cat wrote no line within 5 s$"):
        channel.read_line(5)
    with pytest.raises(DeviceTimeoutError, match=r"^cat still runs after 2 s$"):
        channel.wait(2)
    assert state.clock() == 7


def test_an_ended_process_keeps_its_output_and_a_killed_one_loses_it() -> None:
    ended, killed = (FakeChannel(FakeState(), "cat") for _ in range(2))
    for channel in (ended, killed):
        channel.write_line("a")
    ended.end(3, "why")
    killed.kill()
    assert (ended.wait(0), ended.stderr_tail(), ended.read_line(0)) == (3, "why", "a")
    assert killed.wait(0) == -9
    for channel in (ended, killed):
        with pytest.raises(ChannelClosedError, match=r"^cat has ended its output$"):
            channel.read_line(0)
        with pytest.raises(ChannelClosedError, match=r"^cat takes no more input$"):
            channel.write_line("b")


def test_a_disconnected_device_raises_an_error() -> None:
    state = FakeState()
    channel = FakeChannel(state, "cat")
    state.is_connected = False
    for call in (lambda: channel.write_line("a"), lambda: channel.read_line(1)):
        with pytest.raises(DeviceUnreachableError, match=r"^the fake device is not connected$"):
            call()


def test_a_meter_ends_with_its_process() -> None:
    state = FakeState(watts=lambda _: 2.0)
    meter = FakeChannel(state, "sh")
    meter.start_meter()
    assert [meter.read_line(5) for _ in range(3)] == [
        "source rapl",
        "0.00 uj 0/1000000000",
        "1.00 uj 2000000/1000000000",
    ]
    meter.kill()
    state.advance(10.0)
    with pytest.raises(ChannelClosedError):
        meter.read_line(5)


def test_a_device_without_power_has_no_meter() -> None:
    meter = FakeChannel(FakeState(), "sh")
    meter.start_meter()
    assert meter.read_line(5) == "none it has no RAPL counters"
