"""The agent of the fake device."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devices.fake_agent import FakeAgent
from devices.fake_state import FakeState, FakeTiming, Fault


@pytest.fixture
def state() -> FakeState:
    state = FakeState(latency=lambda run: FakeTiming(2.0 + run.repeat, 1.0, inner=3))
    state.files["m"] = b"model"
    return state


def ask(agent: FakeAgent, **request: Any) -> Any:
    (reply,) = agent.answer(json.dumps({"id": 7, **request}))
    return json.loads(reply)


def test_a_conversation(state: FakeState) -> None:
    ended: list[int] = []
    agent = FakeAgent(state, ended.append, "sleep")
    assert ask(agent, op="hello")["backend"] == "sleep"
    handle = ask(agent, op="load", model="m", threads=1)["handle"]
    before = state.clock()
    reply = ask(agent, op="run", handle=handle, repeats=2, warmup=0)
    assert (reply["id"], reply["ok"], reply["inner"]) == (7, True, 3)
    assert reply["wall_ns"] == [2_000_000, 3_000_000]
    assert state.clock() - before == pytest.approx(0.0151)
    assert ask(agent, op="unload", handle=handle)["ok"]
    assert not ask(agent, op="run", handle=handle, repeats=1, warmup=0)["ok"]
    assert ended == []
    ask(agent, op="quit")
    assert ended == [0]
    assert [request["op"] for request in state.requests] == ["hello", "load", "run", "unload", "run", "quit"]


@pytest.mark.parametrize(
    ("kind", "replies", "ended"), [("crash", 0, [-9]), ("hang", 0, []), ("garbage", 1, []), ("disconnect", 0, [])]
)
def test_faults(state: FakeState, kind: Any, replies: int, ended: list[int]) -> None:
    codes: list[int] = []
    agent = FakeAgent(state, codes.append, "sleep")
    state.plan([Fault(kind, on="hello")])
    assert len(agent.answer('{"id": 1, "op": "hello"}')) == replies
    assert codes == ended
    assert state.is_connected == (kind != "disconnect")
    assert len(agent.answer('{"id": 2, "op": "hello"}')) == (0 if kind == "hang" else 1)
