"""Replies of an agent are read in full or refused with a short text."""

from __future__ import annotations

from typing import Any

import pytest

from profiler.replies import MAX_RUN_NS, read_error, read_hello, read_load, read_result

HELLO: dict[str, Any] = {
    "backend": "sleep", "versions": {"sleep": "1"}, "python": "3.11.2", "machine": "x86_64", "system": "Linux",
    "n_cores": 2, "cpus": [0, 1], "clocks": {"wall": "perf_counter_ns", "switches_one_thread": None},
}  # fmt: skip
RESULT: dict[str, Any] = {"wall_ns": [5, 6], "cpu_ns": [0, 1], "switches": None, "peak_rss_kb": None}


def test_good_replies() -> None:
    hello = read_hello(HELLO, "sleep")
    assert (hello.backend_version, hello.cpus, hello.n_cores) == ("1", (0, 1), 2)
    assert read_load({"handle": 3, "load_ns": 7, "settings": {"inner": 4}}) == (3, 7, {"inner": 4})
    result = read_result(RESULT, 2)
    assert (result.wall_ns.tolist(), result.switches.tolist(), result.inner) == ([5, 6], [0, 0], 1)
    assert read_error({"error": {"type": "ValueError", "message": "no"}}) == ("ValueError", "no")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "torch"}, r"backend 'torch', versions of \['sleep'\]: sleep is expected"),
        ({"versions": {"other": "1"}}, r"versions of \['other'\]: sleep is expected"),
        ({"versions": {"sleep": "=1+1"}}, "version of sleep '=1[+]1' begins with =, like a spreadsheet formula"),
        ({"versions": {"sleep": 1}}, "version of sleep 1 is not a text of 1 to 200 printable characters"),
        ({"versions": []}, r"versions \[\] is not a short object"),
        ({"machine": "a\nb"}, "machine 'a.*b' is not a text"),
        ({"n_cores": True}, "n_cores True is not a whole number from 1 to 65535"),
        ({"n_cores": 0}, "n_cores 0 is not a whole number"),
        ({"cpus": "0-3"}, "cpus '0-3' is not a list of cores"),
        ({"cpus": [0, -1]}, "cpu -1 is not a whole number from 0 to 65535"),
    ],
)
def test_a_wrong_hello(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_hello({**HELLO, **change}, "sleep")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wall_ns": [5]}, r"wall_ns \[5\] is not a list of 2 whole numbers"),
        ({"wall_ns": [5, 0]}, f"wall_ns 0 is not a whole number from 1 to {MAX_RUN_NS}"),
        ({"wall_ns": [5, 1.0]}, "wall_ns 1.0 is not a whole number"),
        ({"cpu_ns": None}, "cpu_ns None is not a list of 2 whole numbers"),
        ({"inner": 0}, "inner 0 is not a whole number"),
    ],
)
def test_a_wrong_result(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_result({**RESULT, **change}, 2)


def test_an_absent_field_is_not_a_null() -> None:
    for name in ("switches", "peak_rss_kb", "wall_ns"):
        with pytest.raises(KeyError, match=name):
            read_result({key: value for key, value in RESULT.items() if key != name}, 2)
    for name in ("cpus", "n_cores", "versions"):
        with pytest.raises(KeyError, match=name):
            read_hello({key: value for key, value in HELLO.items() if key != name}, "sleep")


@pytest.mark.parametrize("error", [None, {}, {"type": "E"}, {"type": "E", "message": 1}, "text"])
def test_an_error_reply_without_type_and_message_is_invalid(error: object) -> None:
    assert read_error({"error": error}) is None
