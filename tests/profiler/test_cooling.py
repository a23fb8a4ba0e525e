"""Heat: it is noticed, waited for with a bound, and what was measured in it is measured again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import make_spec, steady

from devices.errors import DeviceUnreachableError
from devices.facts import Conditions
from devices.fake import FakeDevice
from profiler import cooling as cooling_module
from profiler import session
from profiler.agent_runner import AgentRunner
from profiler.campaign import journal_path, profile
from profiler.cooling import Cooling
from profiler.journal import read_journal
from profiler.settings import Progress

COOL = Conditions(thermal_status=0)
HOT = Conditions(thermal_status=2)


class Scripted:
    """A device that says these conditions one after the other, then the last for ever."""

    name = "phone"

    def __init__(self, *conditions: Conditions) -> None:
        self.said = list(conditions)
        self.now = 0.0

    def conditions(self) -> Conditions:
        return self.said.pop(0) if len(self.said) > 1 else self.said[0]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def cooling(self, start: Conditions = COOL, **options: object) -> Cooling:
        return Cooling(self, start, clock=lambda: self.now, sleep=self.sleep, **options)  # type: ignore[arg-type]


def test_a_cool_device_waits_for_nothing(caplog: pytest.LogCaptureFixture) -> None:
    cooling = Scripted(COOL).cooling()
    assert cooling.stayed_cool()
    assert cooling.cool_down() == 0
    assert caplog.messages == []


def test_a_throttled_device_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    cooling = Scripted(HOT, HOT, HOT, COOL).cooling()
    assert not cooling.stayed_cool()
    assert cooling.cool_down() == 10
    assert cooling.waited_s == 10
    assert caplog.messages == ["phone: throttled by heat (status 2): waiting for it to cool, at most 300 s"]


def test_waiting_has_an_end(caplog: pytest.LogCaptureFixture) -> None:
    cooling = Scripted(HOT).cooling(max_wait_s=30)
    assert cooling.cool_down() == 30
    assert caplog.messages[-1] == "phone: still hot after 30 s (throttled by heat (status 2)): measuring anyway"


def test_an_old_phone_is_judged_by_its_temperature(caplog: pytest.LogCaptureFixture) -> None:
    start = Conditions(battery_percent=80, temperatures_c=(("cpu", 38.0), ("skin", 30.0)))
    warm = replace(start, temperatures_c=(("cpu", 62.0),))
    hot = replace(start, temperatures_c=(("cpu", 64.0),))
    assert Scripted(warm).cooling(start, is_phone=True).stayed_cool()
    cooling = Scripted(hot, hot, start).cooling(start, is_phone=True)
    assert not cooling.stayed_cool()
    assert cooling.cool_down() == 5
    assert caplog.messages == ["phone: at 64 C, 26 more than at the start: waiting for it to cool, at most 300 s"]
    assert Scripted(hot).cooling(start).stayed_cool()  # a laptop may well be that warm
    cold = replace(start, temperatures_c=(("cpu", 20.0),))
    assert Scripted(replace(start, temperatures_c=(("cpu", 55.0),))).cooling(cold, is_phone=True).stayed_cool()


def test_a_processor_that_counts_its_throttling() -> None:
    device = Scripted(Conditions(throttle_count=5), Conditions(throttle_count=7))
    cooling = device.cooling(Conditions(throttle_count=5))
    assert [cooling.stayed_cool() for _ in range(3)] == [True, False, True]


def test_devices_that_report_heat() -> None:
    for start, can_tell in [(COOL, True), (Conditions(throttle_count=0), True), (Conditions(load_1min=1.0), False)]:
        assert Scripted(start).cooling(start).can_tell == can_tell


def test_a_lost_connection_is_not_reported_as_throttling() -> None:
    class Gone(Scripted):
        def conditions(self) -> Conditions:
            raise DeviceUnreachableError("gone")

    cooling = Gone(COOL).cooling()
    assert cooling.stayed_cool()
    assert cooling.cool_down() == 0


def thermal(status: int) -> str:
    return f"@@ thermalservice\nThermal Status: {status}\n"


class Warm(FakeDevice):
    """A fake device that is throttled for the next `hot_looks` looks at it."""

    hot_looks = 0

    def conditions(self) -> Conditions:
        self.state.conditions_text = thermal(3 if self.hot_looks else 0)
        self.hot_looks = max(0, self.hot_looks - 1)
        return super().conditions()


@pytest.mark.parametrize("n_hot", [1, 99])
def test_what_was_measured_in_heat_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, n_hot: int
) -> None:
    """Heat comes after 20 visits; with `n_hot` 99 it comes after each one, and the session ends all the same."""
    monkeypatch.setattr(session, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(cooling_module, "LOOK_EVERY_S", 0.0)
    device, seen = Warm(steady), {"visits": 0, "hot": 0}

    def warm_up(progress: Progress) -> None:
        if progress.phase != "measure":
            return
        seen["visits"] += 1
        if seen["visits"] >= 20 and seen["hot"] < n_hot:
            seen["hot"] += 1
            device.hot_looks = 2

    out = tmp_path / "t.csv"
    spec = make_spec()
    with closing(AgentRunner(device, "sleep", timeout_s=5)) as runner:
        result = profile(spec, runner, out, progress=warm_up)
    state = read_journal(journal_path(out))
    assert state.pilot is not None
    assert len(state.visits) == state.pilot["n_rounds"] * 3 * (len(result.table) + len(result.networks))
    n_voids = journal_path(out).read_text().count('{"void"')
    assert n_voids == (1 if n_hot == 1 else session.MAX_VOIDS)
    assert caplog.messages[0] == "fake: throttled by heat (status 3): waiting for it to cool, at most 300 s"
    assert not state.failures
