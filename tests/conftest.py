"""What the whole suite shares: where the published files are, and properties without a stop-watch."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # modules with set-ups that several tests use

settings.register_profile("suite", deadline=None, max_examples=60)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of published files, $OFA_REFERENCE_DATA."""
    folder = os.environ.get("OFA_REFERENCE_DATA")
    if not folder:
        pytest.skip("OFA_REFERENCE_DATA is not set; it names the folder of published files")
    path = Path(folder)
    if not (path / "note10_lut").is_dir():
        pytest.fail(f"OFA_REFERENCE_DATA is {folder}, which has no note10_lut")
    return path


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """`with full_disk(n):` no file of this process grows beyond n bytes, as on a disk that has no more."""

    @contextmanager
    def limited(n_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first: of two processes, neither is left alone with them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
