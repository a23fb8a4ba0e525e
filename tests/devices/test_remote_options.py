"""Attempts to connect again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devices.errors import AccessDeniedError, DeviceUnreachableError, HostKeyError
from devices.remote_options import PAUSES_S, RemoteOptions, options_of, reconnect
from devices.target import Target


def failing(*errors: Exception) -> Callable[[], None]:
    left = list(errors)

    def connect() -> None:
        if left:
            raise left.pop(0)

    return connect


def test_the_first_success_ends_the_attempts() -> None:
    waited: list[float] = []
    reconnect(failing(DeviceUnreachableError("x: away")), RemoteOptions(sleep=waited.append))
    assert waited == [0, 1]


def test_all_attempts_failed() -> None:
    waited: list[float] = []
    options = RemoteOptions(pauses_s=(0, 1, 2), sleep=waited.append)
    errors = [DeviceUnreachableError(f"x: away {i}") for i in range(4)]
    with pytest.raises(DeviceUnreachableError, match=r"^x: away 2 \(tried 3 times in 3 s\)$"):
        reconnect(failing(*errors), options)
    assert waited == [0, 1, 2]


@pytest.mark.parametrize("error", [HostKeyError("x: changed"), AccessDeniedError("x: no key")])
def test_an_error_that_time_does_not_mend_ends_the_attempts(error: DeviceUnreachableError) -> None:
    waited: list[float] = []
    with pytest.raises(type(error), match=f"^{error}$"):
        reconnect(failing(error), RemoteOptions(sleep=waited.append))
    assert waited == [0]


def test_options_of_a_target() -> None:
    options = options_of(Target("ssh", "box", "name", work_dir="/tmp", python="py", keep=True))
    assert options == RemoteOptions("name", "/tmp", "py", keep=True)
    assert options.pauses_s == PAUSES_S
