"""What the whole suite shares: where the published files are, and properties without a stop-watch."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


@dataclass
class Mirror:
    """A server on this machine that serves the files of a folder.

    Attributes:
        folder: what it serves.
        address: of the folder.
        requests: path of each request.
        headers: further headers of each reply.
    """

    folder: Path
    address: str = ""
    requests: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, data: bytes) -> dict[str, Any]:
        """Serve a file, and return it as a file of an index."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {"name": file.name, "path": path, "git_blob_sha1": blob, "bytes": len(data)}


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    """A loopback server of an empty folder."""
    served = Mirror(tmp_path / "mirror")
    served.folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(served.folder))

        def end_headers(self) -> None:
            for name, value in served.headers.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *args: object) -> None:
            served.requests.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        served.address = f"http://127.0.0.1:{server.server_address[1]}/"
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def hub(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, Any]]], Mirror]:
    """Make an index of the mirror's files that of all commands, with an empty cache: `hub([item, ...])`."""

    def use(items: list[dict[str, Any]]) -> Mirror:
        index = tmp_path / f"index-{len(list(tmp_path.iterdir()))}.json"
        index.write_text(json.dumps({"schema": 1, "address": mirror.address, "items": items}))
        monkeypatch.setenv("OFA_HUB_INDEX", str(index))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return mirror

    return use


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first: of two processes, neither is left alone with them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
