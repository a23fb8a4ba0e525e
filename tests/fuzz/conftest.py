"""Seed and number of the damaged files, and the sound files that they are made from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

SEED = int(os.environ.get("OFA_FUZZ_SEED", "0"))
N_FILES = int(os.environ.get("OFA_FUZZ_FILES", "5000"))


def pytest_report_header() -> str:
    return f"fuzz: OFA_FUZZ_FILES={N_FILES} damaged files, OFA_FUZZ_SEED={SEED}"


@pytest.fixture(scope="session")
def fuzz_seed() -> int:
    return SEED


@pytest.fixture(scope="session")
def fuzz_files() -> int:
    return N_FILES


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one sound file of each kind."""
    from sound_files import write_sound_files

    folder = tmp_path_factory.mktemp("sound")
    write_sound_files(folder)
    return folder
