from __future__ import annotations

import json
from pathlib import Path

import pytest

from ofa_core.arch_json import write_arch
from ofa_core.errors import ArchError, OfaError
from ofa_core.formats.arch_files import read_arch, read_archs
from ofa_core.formats.net_config import write_net_config
from ofa_core.genomes import decode
from ofa_core.space import Space
from ofa_core.spaces import mobilenet_v3, tiny

ARCH = tiny().uniform(5, 3, 2, 28)


def nobody() -> Space:
    raise AssertionError("the file names its space")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_net_config(tmp_path / "net", tiny(), ARCH)
    write_arch(tmp_path / "arch.json", ARCH, tiny())
    (tmp_path / "many.json").write_text(json.dumps([json.loads((tmp_path / "arch.json").read_text())] * 2))
    return tmp_path


@pytest.mark.parametrize("name", ["net", "net/net.config", "arch.json", "many.json"])
def test_every_kind_of_file_holds_architectures(files: Path, name: str) -> None:
    found = read_archs(files / name, None, nobody)
    assert (found.space, found.is_list) == (tiny(), name == "many.json")
    assert set(decode(tiny(), found.genomes)) == {ARCH}
    assert set(decode(tiny(), read_archs(files / name, tiny(), nobody, 32).genomes)) == {ARCH.at(32)}


@pytest.mark.parametrize("name", ["net", "net/net.config", "arch.json"])
def test_one_architecture_of_a_space(files: Path, name: str) -> None:
    assert read_arch(files / name, tiny()) == ARCH
    assert read_arch(files / name, tiny().with_classes(3), 32) == ARCH.at(32)
    with pytest.raises(OfaError, match=r"mbv3-w1\.0"):
        read_arch(files / name, mobilenet_v3(1.0))


def test_an_unnamed_space_is_refused_with_a_hint(files: Path) -> None:
    (files / "bare.json").write_text('{"ks": 5, "e": 3, "d": 2, "r": 28}')
    assert decode(tiny(), read_archs(files / "bare.json", None, tiny).genomes) == [ARCH]
    (files / "none.json").write_text('{"e": 3, "d": 2, "r": 28}')
    with pytest.raises(ArchError, match="has no ks"):
        read_arch(files / "none.json", tiny())
