"""Which cores a word on the command line means."""

from __future__ import annotations

import pytest

from devices.facts import DeviceFacts
from ofa_core.errors import OfaError
from profiler.cpu_clusters import choose_cpus, cluster, parse_cpus

SNAPDRAGON_835 = DeviceFacts("pixel2", n_cores=8, max_freq_mhz=(1900.8,) * 4 + (2457.6,) * 4, os="Android 8.1.0")
XEON = DeviceFacts("xeon", n_cores=4, max_freq_mhz=(3000.0,) * 4, os="Debian GNU/Linux 12")
MUTE = DeviceFacts("mute", n_cores=4, os="Android 14")


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", (0,)), ("0,4-6", (0, 4, 5, 6)), ("7,2", (2, 7)), ("0xf0", (4, 5, 6, 7)), ("0x80000001", (0, 31))],
)
def test_cores(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "x", "4-2", "-1", "0x0", "1;2", "big"])
def test_what_names_no_cores(text: str) -> None:
    with pytest.raises(OfaError, match=r"expected cores such as 0, 4-7 or 0xf0, or big, little or all"):
        parse_cpus(text)


def test_clusters_are_distinguished_by_their_top_clock() -> None:
    assert cluster(SNAPDRAGON_835, "big") == (4, 5, 6, 7)
    assert cluster(SNAPDRAGON_835, "little") == (0, 1, 2, 3)
    assert cluster(XEON, "big") is None
    with pytest.raises(OfaError, match=r"mute does not report .* --cpus 4-7"):
        cluster(MUTE, "big")


def test_phones_are_pinned_to_their_big_cores_by_default() -> None:
    assert choose_cpus(None, None, SNAPDRAGON_835, is_phone=True) == (4, 5, 6, 7)
    assert choose_cpus(None, (0,), SNAPDRAGON_835, is_phone=True) == (0,)
    assert choose_cpus("little", (7,), SNAPDRAGON_835, is_phone=True) == (0, 1, 2, 3)
    assert choose_cpus("all", (7,), SNAPDRAGON_835, is_phone=True) is None
    assert choose_cpus("2", (7,), SNAPDRAGON_835, is_phone=True) == (2,)
    assert choose_cpus(None, None, XEON, is_phone=False) is None
    assert choose_cpus(None, None, MUTE, is_phone=True) is None
