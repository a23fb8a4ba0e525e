"""Downloads from a loopback server: whole, resumed, cut, of another file, without network, and by several at once."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ofa_core.download import Download, fetch, holds
from ofa_core.errors import OfaError, OutputError

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """A server on the loopback interface.

    Attributes:
        content: bytes of every path.
        cut: bytes of a body after which the connection is cut; None sends all.
        takes_ranges: False ignores the Range header.
        requests: paths and ranges so far.
        address: of the server.
    """

    content: bytes = CONTENT
    cut: int | None = None
    takes_ranges: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""

    def file(self, sha256: str = DIGEST, n_bytes: int | None = len(CONTENT)) -> Download:
        return Download((f"{self.address}/model.bin",), sha256, n_bytes)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.requests.append((self.path, wanted))
            if self.path.endswith("absent"):
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.takes_ranges else 0
            if start and start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cut])

        def log_message(self, *args: object) -> None: ...

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        state.address = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        listener.shutdown()
        thread.join()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("n_bytes", [len(CONTENT), None])
def test_a_file_is_downloaded_once(server: Server, tmp_path: Path, n_bytes: int | None) -> None:
    dest = tmp_path / "new" / "model.bin"
    for _ in range(2):
        assert fetch(server.file(n_bytes=n_bytes), dest) == dest
    assert dest.read_bytes() == CONTENT
    assert server.requests == [("/model.bin", "")]
    assert left(dest.parent) == ["model.bin"]


@pytest.mark.parametrize("n_bytes", [len(CONTENT), None])
def test_a_file_of_git_is_named_by_its_blob_id(server: Server, tmp_path: Path, n_bytes: int | None) -> None:
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    file = Download((f"{server.address}/model.bin",), n_bytes=n_bytes, git_blob_sha1=blob)
    assert fetch(file, tmp_path / "model.bin").read_bytes() == CONTENT
    wrong = Download(file.addresses, n_bytes=n_bytes, git_blob_sha1="0" * 40)
    with pytest.raises(OfaError, match=f"its git blob id is {blob}, not {'0' * 40}; it is not kept"):
        fetch(wrong, tmp_path / "wrong.bin")
    assert left(tmp_path) == ["model.bin"]


def test_a_file_with_other_content_is_replaced(server: Server, tmp_path: Path) -> None:
    dest = tmp_path / "model.bin"
    dest.write_bytes(CONTENT[:-1] + b"?")
    assert not holds(dest, server.file())
    fetch(server.file(sha256=DIGEST.upper()), dest)
    assert dest.read_bytes() == CONTENT


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_a_cut_download_is_continued_by_the_next_command(server: Server, tmp_path: Path, takes_ranges: bool) -> None:
    server.cut, server.takes_ranges = 1000, False  # the same thousand bytes each time
    dest = tmp_path / "model.bin"
    expected = rf"{server.address}/model\.bin \(it was cut at 1000 of 512000 bytes\): run the command again to continue"
    with pytest.raises(OfaError, match=expected):
        fetch(server.file(), dest)
    [part] = tmp_path.iterdir()
    assert part.read_bytes() == CONTENT[:1000]
    server.cut, server.takes_ranges = None, takes_ranges
    server.requests.clear()
    fetch(server.file(), dest)
    assert dest.read_bytes() == CONTENT
    assert server.requests == [("/model.bin", "bytes=1000-")]
    assert left(tmp_path) == ["model.bin"]


def test_a_cut_is_continued_at_once_while_bytes_come(server: Server, tmp_path: Path) -> None:
    server.cut = 200_000
    fetch(server.file(), tmp_path / "model.bin")
    assert [wanted for _, wanted in server.requests] == ["", "bytes=200000-", "bytes=400000-"]
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("n_bytes", [len(CONTENT), None])
def test_a_part_of_other_content_is_discarded(server: Server, tmp_path: Path, n_bytes: int | None) -> None:
    for n_before in (10, len(CONTENT), len(CONTENT) + 5):
        dest = tmp_path / str(n_before) / "model.bin"
        dest.parent.mkdir()
        (dest.parent / f".{DIGEST[:24]}.part").write_bytes(b"?" * n_before)
        fetch(server.file(n_bytes=n_bytes), dest)
        assert dest.read_bytes() == CONTENT
        assert left(dest.parent) == ["model.bin"]


@pytest.mark.parametrize(
    ("content", "n_bytes", "reason"),
    [
        (CONTENT[::-1], len(CONTENT), f"checksum is {hashlib.sha256(CONTENT[::-1]).hexdigest()}, not {DIGEST}; it is"),
        (CONTENT[::-1], None, f"checksum is {hashlib.sha256(CONTENT[::-1]).hexdigest()}, not {DIGEST}; it is not kept"),
        (CONTENT * 2, len(CONTENT), "larger than 512000 bytes"),
    ],
)
def test_another_file_is_not_kept(
    server: Server, tmp_path: Path, content: bytes, n_bytes: int | None, reason: str
) -> None:
    server.content = content
    with pytest.raises(OfaError, match=reason) as error:
        fetch(server.file(n_bytes=n_bytes), tmp_path / "model.bin")
    assert "\n" not in str(error.value)
    assert left(tmp_path) == []
    assert len(server.requests) == 1


ANNOUNCED = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("head", [ANNOUNCED, ENDLESS, CHUNKED])
def test_a_huge_answer_is_refused_where_the_size_is_not_known(head: bytes, tmp_path: Path) -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        body = b"10000\r\n" + bytes(1 << 16) + b"\r\n" if head == CHUNKED else bytes(1 << 16)
        with connection, contextlib.suppress(OSError):  # the other end closes
            connection.recv(4096)
            connection.sendall(head)
            while True:
                connection.sendall(body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/model.bin"
        with pytest.raises(OfaError, match=r"model\.bin \(it is larger than 700000 bytes\): run the command again"):
            fetch(Download((address,), DIGEST, max_bytes=700_000), tmp_path / "model.bin")
        thread.join()
    assert left(tmp_path) == []


def test_a_file_of_unknown_size_below_the_limit_is_kept(server: Server, tmp_path: Path) -> None:
    for limit in (len(CONTENT), len(CONTENT) + 1):
        fetch(replace(server.file(n_bytes=None), max_bytes=limit), tmp_path / f"{limit}.bin")
    with pytest.raises(OfaError, match=f"larger than {len(CONTENT) - 1} bytes"):
        fetch(replace(server.file(n_bytes=None), max_bytes=len(CONTENT) - 1), tmp_path / "model.bin")


def test_without_a_network_one_line_names_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    dest = tmp_path / "model.bin"
    file = Download((f"http://127.0.0.1:{port}/model.bin",), DIGEST, len(CONTENT))
    with pytest.raises(OfaError) as error:
        fetch(file, dest)
    assert str(error.value) == (
        f"cannot download http://127.0.0.1:{port}/model.bin (Connection refused): run the command again, or download "
        f"the file elsewhere (512000 bytes, SHA-256 checksum {DIGEST}) and save it as {dest}"
    )
    assert left(tmp_path) == []
    dest.write_bytes(CONTENT)  # which is then taken
    assert fetch(file, dest) == dest


def test_the_second_address_is_used_if_the_first_fails(server: Server, tmp_path: Path) -> None:
    addresses = (f"{server.address}/absent", "ftp://127.0.0.1/model.bin", f"{server.address}/other")
    fetch(Download(addresses, DIGEST), tmp_path / "model.bin")
    assert [path for path, _ in server.requests] == ["/absent", "/other"]
    with pytest.raises(OfaError, match=r"absent \(HTTP status 404 Not Found\); ftp://\S+ \(not an http or https addr"):
        fetch(Download(addresses[:2], DIGEST), tmp_path / "other.bin")


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_any_answer_of_a_server_is_one_line(answer: bytes, tmp_path: Path) -> None:
    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises(OfaError, match="cannot download ") as error:
            fetch(Download((f"http://127.0.0.1:{listener.getsockname()[1]}/model.bin",), DIGEST), tmp_path / "model")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert "\n" not in str(error.value)


def test_several_threads_download_once(server: Server, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(server.file(), tmp_path / "model.bin"), range(8)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(server.requests) == 1
    assert left(tmp_path) == ["model.bin"]


def test_a_proxy_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    fetch(Download(("http://files.invalid/model.bin",), DIGEST), tmp_path / "model.bin")
    assert server.requests == [("http://files.invalid/model.bin", "")]


def test_messages_of_a_session(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="ofa_core"):
        fetch(server.file(), tmp_path / "model.bin")
    assert caplog.messages == [f"downloading {server.address}/model.bin (0.5 MiB)"]


def test_a_full_disk_is_one_line(server: Server, tmp_path: Path, full_disk: Callable[[int], object]) -> None:
    with full_disk(100_000), pytest.raises(OutputError, match="File too large; free some space"):  # type: ignore[attr-defined]
        fetch(server.file(), tmp_path / "model.bin")
    fetch(server.file(), tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_a_killed_download_is_continued(server: Server, tmp_path: Path) -> None:
    """The part that a killed process left is not locked any more."""
    script = "import os, sys; from pathlib import Path; from ofa_core.download import _locked\n"
    script += "with _locked(Path(sys.argv[1])) as s: s.write(bytes(range(256))); s.flush(); os.kill(os.getpid(), 9)"
    part = tmp_path / f".{DIGEST[:24]}.part"
    assert subprocess.run([sys.executable, "-c", script, part]).returncode == -9
    fetch(server.file(), tmp_path / "model.bin")
    assert server.requests == [("/model.bin", "bytes=256-")]
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
