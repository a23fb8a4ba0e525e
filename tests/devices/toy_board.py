"""A device type of a third party: all it takes is this module and an entry point for `SCHEME`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from devices.device import Channel, ClosedAtExit, Completed, DeviceKind
from devices.facts import Conditions, DeviceFacts
from devices.local import LocalDevice
from devices.schemes import FoundDevice, Scheme
from devices.target import Target


class Board(ClosedAtExit):
    """A board whose programs run on this machine."""

    kind: DeviceKind = "phone"
    runs_here = False

    def __init__(self, target: Target) -> None:
        self.name = target.name or str(target)
        parent = Path(target.work_dir) if target.work_dir else None
        self._machine = LocalDevice(parent, python=target.python, name=self.name)
        self.python = self._machine.python
        self.work_dir = self._machine.work_dir

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        return self._machine.run(argv, timeout_s=timeout_s, input=input)

    def start(self, argv: Sequence[str]) -> Channel:
        return self._machine.start(argv)

    def push(self, local: Path, remote: str) -> None:
        self._machine.push(local, remote)

    def pull(self, remote: str, local: Path) -> None:
        self._machine.pull(remote, local)

    def facts(self) -> DeviceFacts:
        return self._machine.facts()

    def conditions(self) -> Conditions:
        return self._machine.conditions()

    def close(self) -> None:
        self._machine.close()


def open_board(target: Target) -> Board:
    return Board(target)


def find_boards() -> list[FoundDevice]:
    return [FoundDevice(("7", "slot-7"), "7 [toy]", True), FoundDevice(("8",), "8 [toy] (off)", False)]


def identify(target: Target) -> str:
    return "7" if target.address == "slot-7" else target.address


SCHEME = Scheme(open_board, kind="phone", address="optional", finder=find_boards, identifier=identify)
