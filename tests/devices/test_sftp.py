"""Limits on sftp sessions, over a real sshd."""

from __future__ import annotations

import time

import paramiko
import pytest

from devices.errors import DeviceTimeoutError
from devices.sftp import bounded, open_sftp, transfer_s
from devices.ssh_config import resolve
from devices.ssh_connect import connect


def test_a_transfer_may_take_longer_the_larger_it_is() -> None:
    assert transfer_s(0) == 30
    assert transfer_s(10 * 2**15) == 40


def test_a_session_opens_and_lists_files(sshd) -> None:
    with connect(resolve("box")) as client:
        transport = client.get_transport()
        assert transport is not None
        with bounded(transport, 20, "listing"), open_sftp(transport) as session:
            assert "box" not in session.listdir(str(sshd.home))
        assert transport.is_active()


def wait(transport: paramiko.Transport) -> None:
    with bounded(transport, 0.1, "box: waiting"):
        while transport.is_active():
            time.sleep(0.01)
        raise EOFError


def test_a_body_that_takes_too_long_closes_the_connection(sshd) -> None:
    with connect(resolve("box")) as client:
        transport = client.get_transport()
        assert transport is not None
        with pytest.raises(DeviceTimeoutError, match=r"^box: waiting did not end within 0 s$"):
            wait(transport)
