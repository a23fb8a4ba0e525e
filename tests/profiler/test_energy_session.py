"""Energy of whole networks: on the fake device to the last file, and on this machine over a made-up battery."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from synthetic import make_spec

from devices.errors import DeviceUnreachableError
from devices.fake import FakeDevice, FakeRun, Fault
from devices.local import LocalDevice
from devices.power_meter import Meter, MeterError, meter_command
from ofa_core.errors import FormatError
from ofa_core.measured_networks import networks_path, read_networks
from ofa_core.table import LatencyTable
from profiler import energy_session as energy_module
from profiler.agent_runner import AgentRunner
from profiler.backends import choose
from profiler.campaign import ProfileResult, journal_path, profile
from profiler.console import show_profile
from profiler.energy_session import N_NETWORKS, EnergyOptions, measure_energy, open_meter
from profiler.journal import EnergyRecord, JournalState, read_journal
from profiler.settings import Settings

IDLE_W = 2.0
Watts = Callable[[bytes | None], float]


def latency(run: FakeRun) -> float:
    return 20 * float(json.loads(run.model)["ms"])


def flat(above_w: float) -> Watts:
    return lambda model: IDLE_W + (above_w if model is not None else 0.0)


def run(device: FakeDevice, out: Path, energy: bool = True) -> ProfileResult:
    spec = make_spec(n_reference=14, settings=Settings(n_processes=3, min_rounds=1, max_rounds=1))
    options = EnergyOptions(clock=device.clock) if energy else None
    return profile(spec, AgentRunner(device, "sleep", timeout_s=5), out, energy=options)


def test_energy_from_the_meter_to_the_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "t.csv"
    device = FakeDevice(latency, watts=flat(3.0))
    with caplog.at_level(logging.INFO, "profiler.campaign"):
        result = run(device, out)
    assert caplog.messages == [
        (
            "fake: energy is read from rapl; after the table, 12 networks run for 30 s each with equal rests: "
            "15 more minutes"
        )
    ]
    assert 12 * 70 < device.clock() < 13 * 75
    networks = read_networks(networks_path(out))
    assert networks == result.networks
    with_energy = [net for net in networks if net.energy_source]
    assert len(with_energy) == N_NETWORKS == len(networks) - 2
    for net in with_energy:
        assert net.energy_source == "rapl"
        assert net.energy_mj == pytest.approx(3.0 * net.latency_ms, rel=5e-3)
        assert net.idle_mj == pytest.approx(IDLE_W * net.latency_ms, rel=5e-3)
        assert net.gross_mj == pytest.approx(net.energy_mj + net.idle_mj)
    header = networks_path(out).read_text().splitlines()[0]
    assert ",n_processes,energy_mj,gross_mj,idle_mj,energy_source," in header
    table = LatencyTable.read(out)
    assert table.entries == result.table.entries
    for entry in table.entries.values():
        assert entry.energy_mj == pytest.approx(3.0 * (entry.latency_ms or 0), rel=1e-2)
    text = "\n".join(show_profile(result, 1.0))
    assert "energy from rapl: 12 networks take " in text
    assert "energy of blocks is derived, not measured: 3 W while running; leave-one-out error 0." in text


def test_a_second_run_measures_no_energy_again_and_keeps_it(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    run(FakeDevice(latency, watts=flat(3.0)), out)
    files = [out.read_bytes(), networks_path(out).read_bytes()]
    device = FakeDevice(latency, watts=flat(7.0))
    run(device, out)
    assert device.clock() < 60
    assert [out.read_bytes(), networks_path(out).read_bytes()] == files
    run(FakeDevice(latency), out, energy=False)
    assert [out.read_bytes(), networks_path(out).read_bytes()] == files


def test_a_device_without_a_meter_gets_its_table_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "t.csv"
    run(FakeDevice(latency), out)
    assert caplog.messages == ["fake: energy not measured: it has no RAPL counters"]
    assert "energy" not in out.read_text().splitlines()[0]
    assert "energy" not in networks_path(out).read_text().splitlines()[0]
    run(FakeDevice(latency, watts=flat(3.0)), out)  # the same table, once there is a meter
    assert all(entry.energy_mj for entry in LatencyTable.read(out).entries.values())


@pytest.mark.parametrize(
    ("watts", "why"),
    [
        (flat(-0.5), r"inference takes 1\.5 W, no more than idle: 2 W"),
        (flat(0.0), r"inference takes 2 W, no more than idle: 2 W"),
    ],
    ids=["more when idle", "the same"],
)
def test_a_power_not_above_idle_is_unknown(tmp_path: Path, watts: Watts, why: str) -> None:
    out = tmp_path / "t.csv"
    result = run(FakeDevice(latency, watts=watts), out)
    for record in result.measured.energy.values():
        assert record.energy_mj is None
        assert record.gross_mj == pytest.approx(record.idle_mj, rel=0.3)
    rows = [net for net in read_networks(networks_path(out)) if net.energy_source]
    assert len(rows) == N_NETWORKS
    assert {net.energy_mj for net in rows} == {None}
    assert all(net.gross_mj and net.idle_mj for net in rows)
    text = "\n".join(show_profile(result, 1.0))
    assert f"energy unknown for 12 networks: {why}".replace("\\", "") in text
    assert "too few networks for a model" in text
    assert "energy_mj" not in out.read_text().splitlines()[0]


def test_a_computers_meter_is_not_taken_for_that_of_its_gpu() -> None:
    with LocalDevice() as device, pytest.raises(MeterError, match=r"energy by litert-gpu needs a phone"):
        open_meter(device, choose("litert-gpu"), EnergyOptions())
    phone = FakeDevice(latency, watts=flat(3.0))
    phone.kind = "phone"
    with closing(open_meter(phone, choose("litert-gpu"), EnergyOptions(clock=phone.clock))) as meter:
        assert meter.source


def test_an_energy_below_the_meters_noise_is_unknown(tmp_path: Path) -> None:
    device = FakeDevice(latency)

    def watts(model: bytes | None) -> float:
        swing = 1.0 if int(device.clock() / 7) % 2 else -1.0  # what else the machine does
        return IDLE_W + swing + (0.1 if model is not None else 0.0)

    device.watts = watts
    result = run(device, tmp_path / "t.csv")
    assert {record.energy_mj for record in result.measured.energy.values()} == {None}
    reasons = " ".join(record.why for record in result.measured.energy.values())
    assert "W above idle is within the meter's noise of" in reasons


def test_a_device_that_is_lost_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    device = FakeDevice(latency, watts=flat(3.0))
    run(device, out, energy=False)
    n_runs = sum(request["op"] == "run" for request in device.requests)
    device = FakeDevice(latency, watts=flat(3.0), faults=[Fault("disconnect", after=150)])
    with pytest.raises(DeviceUnreachableError):
        run(device, out)
    assert n_runs > 0
    assert LatencyTable.read(out).n_failed == 0
    first = read_journal(journal_path(out)).energy
    assert 0 < len(first) < N_NETWORKS
    device = FakeDevice(latency, watts=flat(5.0))
    run(device, out)
    again = read_journal(journal_path(out)).energy
    assert len(again) == N_NETWORKS
    assert {item: again[item] for item in first} == first


def test_a_network_that_fails_costs_only_itself(tmp_path: Path) -> None:
    device = FakeDevice(latency, watts=flat(3.0), faults=[Fault("crash", after=150)])
    out = tmp_path / "t.csv"
    run(FakeDevice(latency), out, energy=False)
    result = run(device, out)
    failed = [record for record in result.measured.energy.values() if record.energy_mj is None]
    assert len(failed) == 1
    assert "signal" in failed[0].why
    assert len(result.measured.energy) == N_NETWORKS


def test_a_charger_ends_the_energy_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy_module, "LOOP_S", 2.0)
    monkeypatch.setattr(energy_module, "SETTLE_S", 0.0)
    folder = tmp_path / "sys" / "power_supply" / "battery"
    folder.mkdir(parents=True)
    for name, text in {"type": "Battery", "status": "Discharging", "current_now": -500_000, "voltage_now": 4e6}.items():
        (folder / name).write_text(f"{text if isinstance(text, str) else int(text)}\n")
    model = tmp_path / "m.json"
    model.write_text('{"ms": 5}')
    records: list[EnergyRecord] = []

    def record(what: EnergyRecord) -> None:
        records.append(what)
        (folder / "status").write_text("Charging\n")

    with (
        LocalDevice(tmp_path) as device,
        closing(Meter(device, meter_command(str(tmp_path / "sys")))) as meter,
    ):
        runner = AgentRunner(device, "sleep")
        with runner.opened():
            measure_energy([(i, model, 5.0) for i in range(3)], runner, meter, record, Settings())
    assert [r.item for r in records] == [0, 1, 2]
    assert records[0].gross_mj == pytest.approx(2.0 * 5, rel=0.3)
    assert "no more than idle" in records[0].why
    for charging in records[1:]:
        assert (charging.energy_mj, charging.gross_mj, charging.idle_mj) == (None, None, None)
        assert "only while it is discharging" in charging.why


def test_records_survive_the_journal_and_damage_is_noticed() -> None:
    known = EnergyRecord(3, "rapl", 1.5, 4.0, 2.5)
    unknown = EnergyRecord(3, "battery", why="the battery says 'Charging'")
    state = JournalState({})
    for record in (known, unknown):
        assert EnergyRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
        state.take(record.to_json())
        assert state.energy == {3: record}
    for change in ({"energy_mj": -1.0}, {"gross_mj": float("nan")}, {"idle_mj": "x"}, {"energy": "x"}):
        with pytest.raises(FormatError, match=rf"^an energy: {next(iter(change))} is "):
            EnergyRecord.from_json({**known.to_json(), **change})
