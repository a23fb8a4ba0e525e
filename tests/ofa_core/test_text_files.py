"""A zip file where text is expected, and a cut zip file: each reader says so, and what to do."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.arch_json import read_arch_dict
from ofa_core.csv_fields import read_text
from ofa_core.errors import FormatError, OfaError
from ofa_core.formats.yaml_tables import read_table
from ofa_core.hub import local_path
from ofa_core.npz import read_npz
from ofa_core.share import write_share
from ofa_core.text_files import decoded
from predictors.loading import LatencyFile
from predictors.persistence import load_predictor

TABLE = Path(__file__).parents[1] / "data/v0_1/tiny.csv"


def of_word(path: Path) -> Any:
    return LatencyFile.read(local_path(str(path), ("table",)))


@pytest.mark.parametrize("read", [read_text, read_arch_dict, read_table, of_word], ids=lambda read: read.__name__)
@pytest.mark.parametrize("n_bytes", [10, 300, -30])
def test_a_cut_shared_table_is_named_as_a_zip_file(read: Callable[[Path], Any], n_bytes: int, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.zip", tmp_path / "cut.share.zip"
    write_share(TABLE, whole, "CC0-1.0", {})
    cut.write_bytes(whole.read_bytes()[:n_bytes])
    with pytest.raises(FormatError, match=r"cut\.share\.zip: .* zip file, cut off.*; copy or download it again"):
        read(cut)


@pytest.mark.parametrize("name", ["npz", "predictor"])
def test_a_cut_file_of_ours(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{name}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("predictor.json", "{}")
        archive.writestr("a.npy", np.arange(9).tobytes())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(OfaError, match=r"or damaged: File is not a zip file; copy or download it again"):
        read_npz(path, str(path), 10**6) if name == "npz" else load_predictor(path)


def test_text_and_other_bytes() -> None:
    assert decoded(b"\xef\xbb\xbfa", "a.csv") == "a"
    assert decoded(b"PK,ms", "a.csv") == "PK,ms"
    with pytest.raises(FormatError, match=r"a\.csv: not a text file in UTF-8; a latency table is expected"):
        decoded(b"\xff\x00", "a.csv", "a latency table")
