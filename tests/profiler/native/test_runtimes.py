"""The runtime library: downloaded once, out of an archive, from the wheel by pip, or refused."""

from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from elf_files import ANDROID, GLIBC, write_elf

from ofa_core.errors import FormatError, OfaError
from profiler.native.runtimes import accelerators_of, find_runtime, known_runtimes, runtime_for
from profiler.native.system import System, this_system

PHONE = System("android", "arm64")
BOARD = System("linux", "arm64")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and its address on the loopback interface."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{listener.server_port}"
        listener.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "ofa-latency" / "native"


def list_of(folder: Path, monkeypatch: pytest.MonkeyPatch, system: System, **fields: object) -> None:
    tables = {key: value for key, value in fields.items() if isinstance(value, dict)}
    rows = "".join(f"{key} = {value!r}\n" for key, value in fields.items() if key not in tables)
    for name, table in tables.items():
        rows += f"[{system}.{name}]\n" + "".join(f"{key} = {value!r}\n" for key, value in table.items())
    (folder / "list.toml").write_text(f"[{system}]\n{rows}")
    monkeypatch.setenv("OFA_LITERT_RUNTIMES", str(folder / "list.toml"))


def row_of(library: Path) -> dict[str, object]:
    content = library.read_bytes()
    return {"name": "LiteRT 9", "sha256": hashlib.sha256(content).hexdigest(), "n_bytes": len(content)}


def test_the_list_has_a_runtime_for_each_phone() -> None:
    known = known_runtimes()
    assert {"android-arm64", "android-arm", "linux-arm64"} <= set(known)
    for row in known.values():
        assert len(bytes.fromhex(row.sha256)) == 32
        assert bool(row.wheel) != bool(row.addresses)
        assert all(address.startswith("https://") for address in row.addresses)


def test_a_library_is_downloaded_once(
    tmp_path: Path, served: tuple[Path, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = write_elf(served[0] / "libLiteRt.so", "arm64", ANDROID)
    list_of(tmp_path, monkeypatch, PHONE, addresses=[f"{served[1]}/libLiteRt.so"], **row_of(library))
    runtime = runtime_for(PHONE)
    assert (runtime.path, runtime.name) == (cache / "android-arm64" / "libLiteRt.so", "LiteRT 9")
    library.rename(served[0] / "gone")
    assert runtime_for(PHONE) == runtime
    with pytest.raises(
        OfaError, match=r"no libLiteRt\.so is known for Linux on arm64 .*pass one with --litert-library"
    ):
        runtime_for(BOARD)
    copied = tmp_path / "mine.so"
    copied.write_bytes(runtime.path.read_bytes())
    assert runtime_for(PHONE, copied).name == "LiteRT 9"  # by its content


def test_a_download_for_another_system_is_refused(
    tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = write_elf(served[0] / "libLiteRt.so", "arm64", GLIBC)
    list_of(tmp_path, monkeypatch, PHONE, addresses=[f"{served[1]}/libLiteRt.so"], **row_of(library))
    with pytest.raises(FormatError, match="is built for Linux on arm64"):
        runtime_for(PHONE)


def archive_with(path: Path, *names: str) -> Path:
    machines = {"arm64-v8a": "arm64", "armeabi-v7a": "arm", "x86_64": "x86_64", "android_arm64": "arm64"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("AndroidManifest.xml", "<manifest/>")
        for name in names:
            machine = next((value for key, value in machines.items() if f"/{key}/" in f"/{name}"), "arm64")
            archive.writestr(name, write_elf(path.with_suffix(".so"), machine, ANDROID).read_bytes())
    return path


@pytest.mark.parametrize(
    ("system", "names"),
    [
        (PHONE, ["jni/arm64-v8a/libLiteRt.so", "jni/armeabi-v7a/libLiteRt.so", "jni/x86_64/libLiteRt.so"]),
        (System("android", "arm"), ["lib/arm64-v8a/libLiteRt.so", "lib/armeabi-v7a/libLiteRt.so"]),
        (PHONE, ["android_arm64/libLiteRt.so"]),
        (PHONE, ["libLiteRt.so"]),
        (PHONE, ["some/folder/libLiteRt.so", "some/other/libmore.so"]),
    ],
)
def test_a_library_in_an_archive(tmp_path: Path, cache: Path, system: System, names: list[str]) -> None:
    runtime = runtime_for(system, archive_with(tmp_path / "litert.aar", *names))
    assert runtime.path.is_relative_to(cache / "extracted")
    assert runtime.name.startswith("libLiteRt.so ")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["jni/x86_64/libLiteRt.so"],
            r"litert\.aar: one libLiteRt\.so for Android on arm64 .* it has jni/x86_64/libLite",
        ),
        (["libtensorflowlite_jni.so"], r"litert\.aar: one libLiteRt\.so for Android on arm64 .* it has none"),
        (["a/libLiteRt.so", "b/libLiteRt.so"], "it has a/libLiteRt.so, b/libLiteRt.so"),
        (["jni/arm64-v8a/libLiteRt.so", "old/arm64-v8a/libLiteRt.so"], "one .*it has jni/.*, old/"),
    ],
)
def test_an_archive_without_one_fitting_library(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        runtime_for(PHONE, archive_with(tmp_path / "litert.aar", *names))


@pytest.mark.parametrize("content", [b"PK\x03\x04 no archive", b"PK"])
def test_a_damaged_archive_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "litert.aar").write_bytes(content)
    with pytest.raises(FormatError, match=r"litert\.aar: the archive cannot be read: "):
        runtime_for(PHONE, tmp_path / "litert.aar")


def test_an_entry_with_a_wrong_checksum_is_one_line(tmp_path: Path) -> None:
    path = archive_with(tmp_path / "litert.aar", "libLiteRt.so")
    path.write_bytes(path.read_bytes().replace(b"libm.so\0", b"libx.so\0"))
    with pytest.raises(FormatError, match=r"litert\.aar: the archive cannot be read: Bad CRC-32"):
        runtime_for(PHONE, path)


def make_wheel(folder: Path, library: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(folder / "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl", "w") as wheel:
        wheel.write(library, "ai_edge_litert/libLiteRt.so")
        info = "ai_edge_litert-2.3.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: ai-edge-litert\nVersion: 2.3.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_27_aarch64\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_pip_downloads_the_wheel_of_a_board(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = write_elf(tmp_path / "libLiteRt.so", "arm64", GLIBC)
    make_wheel(tmp_path / "wheels", library)
    wheel = {"wheel": "ai-edge-litert==2.3.0", "platform": "manylinux_2_27_aarch64"}
    list_of(tmp_path, monkeypatch, BOARD, **wheel, **row_of(library))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(
        OfaError, match=r"pip cannot download ai-edge-litert==2\.3\.0 .*or save the library as .*linux-arm64"
    ):
        runtime_for(BOARD)
    assert not (cache / "linux-arm64").exists()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    runtime = runtime_for(BOARD)
    assert runtime.path == cache / "linux-arm64" / "libLiteRt.so"
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert runtime_for(BOARD) == runtime
    list_of(tmp_path, monkeypatch, BOARD, **wheel, **{**row_of(library), "sha256": "00" * 32})
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    with pytest.raises(
        OfaError, match=r"libLiteRt\.so in ai-edge-litert==2\.3\.0 has the SHA-256 checksum .*, not 0000"
    ):
        runtime_for(BOARD)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[android-arm64]\nname = 3", r"list\.toml: .*name"),
        ("android-arm64 = 3", r"list\.toml: .*is 3; an object is expected"),
        ("[", r"list\.toml: not TOML"),
    ],
)
def test_a_wrong_list_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    (tmp_path / "list.toml").write_text(text)
    monkeypatch.setenv("OFA_LITERT_RUNTIMES", str(tmp_path / "list.toml"))
    with pytest.raises(FormatError, match=message):
        runtime_for(PHONE)


def test_the_installed_runtime_serves_this_machine() -> None:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    assert runtime_for(this_system()).name.startswith("ai-edge-litert 2.")


def archive_of(folder: Path, names: list[str]) -> Path:
    """An .aar with libraries for two instruction sets."""
    path = folder / "litert.aar"
    with zipfile.ZipFile(path, "w") as opened:
        for abi, machine in (("arm64-v8a", "arm64"), ("armeabi-v7a", "arm")):
            for name in names:
                opened.write(write_elf(folder / "elf" / abi / name, machine, [*ANDROID, abi]), f"jni/{abi}/{name}")
    return path


def test_an_accelerator_comes_out_of_the_archive_of_the_library(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, ["libLiteRt.so", "libLiteRtClGlAccelerator.so", "libother.so"])
    runtime = runtime_for(PHONE, archive)
    [accelerator] = accelerators_of(runtime, PHONE)
    assert accelerator == runtime.path.with_name("libLiteRtClGlAccelerator.so")
    assert accelerator.read_bytes() == (tmp_path / "elf/arm64-v8a/libLiteRtClGlAccelerator.so").read_bytes()


def test_without_an_accelerator_one_line_names_the_option(tmp_path: Path) -> None:
    runtime = runtime_for(PHONE, archive_of(tmp_path, ["libLiteRt.so"]))
    with pytest.raises(OfaError, match=r"^no GPU accelerator .* for Android on arm64 .*: litert-VERSION\.aar"):
        accelerators_of(runtime, PHONE)
    library = write_elf(tmp_path / "board" / "libLiteRt.so", "arm64", GLIBC)
    with pytest.raises(OfaError, match=r"^no GPU accelerator .*--litert-library: a wheel of ai-edge-litert$"):
        accelerators_of(runtime_for(BOARD, library), BOARD)


def test_an_accelerator_of_another_machine_is_refused(tmp_path: Path) -> None:
    library = write_elf(tmp_path / "libLiteRt.so", "arm64", ANDROID)
    write_elf(tmp_path / "libLiteRtClGlAccelerator.so", "arm", ANDROID)
    with pytest.raises(FormatError, match=r"libLiteRtClGlAccelerator\.so is built for Android on arm "):
        accelerators_of(runtime_for(PHONE, library), PHONE)


GPU = "libLiteRtClGlAccelerator.so"


@pytest.fixture
def release(tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that lists a library and its accelerator on a server, and returns the library."""
    folder, address = served

    def make(**changes: object) -> Path:
        library = write_elf(folder / "libLiteRt.so", "arm64", ANDROID)
        content = write_elf(folder / GPU, "arm64", ["libEGL.so"]).read_bytes()
        row = {"file": GPU, "sha256": hashlib.sha256(content).hexdigest(), "max_bytes": 9999}
        accelerator = {**row, "addresses": [f"{address}/{GPU}"], **changes}
        addresses = [f"{address}/libLiteRt.so"]
        list_of(tmp_path, monkeypatch, PHONE, addresses=addresses, accelerator=accelerator, **row_of(library))
        return library

    return make


def test_the_accelerator_of_the_official_library_is_downloaded_once(
    tmp_path: Path, served: tuple[Path, str], cache: Path, release: Callable[..., Path]
) -> None:
    library = release()
    found = find_runtime(PHONE)
    assert accelerators_of(found, PHONE, download=False) == []
    assert not cache.exists()
    runtime = runtime_for(PHONE)
    assert runtime == found
    [accelerator] = accelerators_of(runtime, PHONE)
    assert accelerator == cache / "android-arm64" / GPU
    (served[0] / GPU).unlink()
    assert accelerators_of(runtime, PHONE, download=False) == accelerators_of(runtime, PHONE) == [accelerator]
    given = tmp_path / "mine" / "libLiteRt.so"  # the official library, without an accelerator
    given.parent.mkdir()
    given.write_bytes(library.read_bytes())
    assert accelerators_of(runtime_for(PHONE, given), PHONE) == [accelerator]
    assert [path.name for path in given.parent.iterdir()] == ["libLiteRt.so"]
    beside = write_elf(given.with_name("libLiteRtOtherAccelerator.so"), "arm64", ANDROID)
    assert accelerators_of(runtime_for(PHONE, given), PHONE) == [beside]


def test_an_accelerator_of_another_release_is_replaced(cache: Path, release: Callable[..., Path]) -> None:
    release()
    runtime = runtime_for(PHONE)
    old = write_elf(cache / "android-arm64" / GPU, "arm64", ["libold.so"]).read_bytes()
    [accelerator] = accelerators_of(runtime, PHONE)
    assert accelerator.read_bytes() != old


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "00" * 32}, "its SHA-256 checksum is .*, not 0000"),
        ({"max_bytes": 100}, "it is larger than 100 bytes"),
        ({"addresses": ["http://127.0.0.1:9/gpu.so"]}, "Connection refused.*and save it as .*ClGlAccelerator"),
        ({"file": "../../libLiteRtClGlAccelerator.so"}, r"accelerator '\.\./\.\./libLite.*a name such as"),
        ({"file": "libLiteRt.so"}, "accelerator 'libLiteRt.so': a name such as"),
    ],
)
def test_a_wrong_accelerator_is_one_line(
    cache: Path, release: Callable[..., Path], changes: dict[str, object], message: str
) -> None:
    release(**changes)
    runtime = runtime_for(PHONE)
    with pytest.raises(OfaError, match=message):
        accelerators_of(runtime, PHONE)
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["libLiteRt.so"]


def test_an_accelerator_is_no_part_of_another_library(tmp_path: Path, release: Callable[..., Path]) -> None:
    release()
    other = write_elf(tmp_path / "other" / "libLiteRt.so", "arm64", [*ANDROID, "libother.so"])
    with pytest.raises(OfaError, match=r"no GPU accelerator .* lies beside"):
        accelerators_of(runtime_for(PHONE, other), PHONE)
