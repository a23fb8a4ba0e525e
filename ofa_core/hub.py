"""Turn what a user names on a command line into a local file: a path, or an address of published files.

    hub:NAME                                 an item of the index, see `ofa_core.hub_index`
    hub:USER/REPOSITORY/FILE#sha256=DIGEST   a file on Hugging Face; @REVISION after REPOSITORY selects a revision
    https://HOST/FILE#sha256=DIGEST          a file on any server

Everything else is a path. A file is downloaded once, into the cache, and its digest is verified whenever it is used.
Nothing is downloaded without a digest. Only the command lines call this module; readers below them take paths.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ofa_core.atomic import write_text
from ofa_core.download import Download, cache_folder, fetch, holds
from ofa_core.errors import OfaError
from ofa_core.extras import needed_for
from ofa_core.hub_index import KINDS, IndexedFile, Item, read_index
from ofa_core.share import is_share, unpack_share

__all__ = ["PREFIX", "download_of", "fetch_item", "file_state", "is_address", "item_folder", "local_path", "space_name"]

PREFIX = "hub:"
_DIGEST = re.compile(r"sha256=([0-9a-fA-F]{64})")
_HUGGING_FACE = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?(?:/(.+))?", re.ASCII)
_ARCH_FILES = ("net.config", "run.config")


def is_address(text: str) -> bool:
    """Return True for an address of published files, False for a path."""
    return text.startswith((PREFIX, "https://", "http://"))


def local_path(text: str, kinds: tuple[str, ...]) -> Path:
    """Return the local file or folder of a command line's word; download it if it is an address.

    Args:
        text: a path or an address.
        kinds: the kinds of items that are accepted, of `KINDS`; `("arch",)` takes the architecture of a net only.

    Raises:
        OfaError: for an unknown name, another kind of item, an address without a digest, or a failed download.
    """
    if not is_address(text):
        return _opened(Path(text))
    name = text.removeprefix(PREFIX)
    if not text.startswith(PREFIX) or "/" in name:
        return _opened(_fetch_address(text))
    item = read_index().find(name)
    only_arch = kinds == ("arch",)
    accepted = ("net",) if only_arch else kinds
    if item.kind not in accepted:
        wanted = " or ".join(KINDS[kind] for kind in accepted)
        raise OfaError(f"{text} is {KINDS[item.kind]}; {wanted} is expected (ofa-train hub list --kind {accepted[0]})")
    return fetch_item(item, [f for f in item.files if f.name in _ARCH_FILES] if only_arch else item.files)


def space_name(text: str) -> str:
    """Return the value of `--space`: the space of an item of the index, or the text itself."""
    if not text.startswith(PREFIX):
        return text
    item = read_index().find(text.removeprefix(PREFIX))
    if item.space is None:
        raise OfaError(f"{text} does not name its search space; give a name, a .toml file or a supernet.pt")
    return item.space


# ---- the index -------------------------------------------------------------------------------------------------------


def item_folder(item: Item) -> Path:
    """Return the folder of an item in the cache."""
    return cache_folder() / "hub" / item.name


def download_of(file: IndexedFile) -> Download:
    """Return the download of a file of the index."""
    address = f"{read_index().address.rstrip('/')}/{quote(file.path)}"
    return Download((address,), git_blob_sha1=file.git_blob_sha1, n_bytes=file.bytes)


def file_state(item: Item, file: IndexedFile, *, verify: bool = True) -> str:
    """Return `right`, `damaged` or `missing` for a file in the cache; without `verify`, only its size is compared."""
    path = item_folder(item) / file.name
    try:
        size = path.stat().st_size
    except OSError:
        return "missing"
    if not verify:
        return "damaged" if file.bytes not in (None, size) else "right"
    return "right" if holds(path, download_of(file)) else "damaged"


def fetch_item(item: Item, files: Collection[IndexedFile] = ()) -> Path:
    """Download files of an item, all of them by default, and return its path: the only file, or the folder."""
    folder = item_folder(item)
    for file in files or item.files:
        fetch(download_of(file), folder / file.name)
    if item.resolution_px is not None and not (folder / "run.config").exists():
        write_text(folder / "run.config", f'{{"image_size": {item.resolution_px}}}\n')
    return folder if len(item.files) > 1 else folder / item.files[0].name


# ---- other addresses -------------------------------------------------------------------------------------------------


def _opened(path: Path) -> Path:
    """Return a path; of a shared table, that of the table in it, unpacked into the cache."""
    if not is_share(path):
        return path
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return unpack_share(path, cache_folder() / "shared" / digest[:24])


def _fetch_address(text: str) -> Path:
    """Download a file of Hugging Face or of any server; the address holds its digest."""
    address, _, fragment = text.partition("#")
    digest = _DIGEST.fullmatch(fragment)
    if address.startswith(PREFIX):
        return _fetch_hugging_face(address.removeprefix(PREFIX), None if digest is None else digest[1].lower())
    if digest is None:
        raise OfaError(f"{text[:200]}: no digest, so nothing is downloaded; add #sha256= and its 64 digits")
    file = Download((address,), sha256=digest[1].lower())
    name = re.sub(r"[^\w.@+-]", "_", unquote(urlsplit(address).path).rpartition("/")[2])[-100:].lstrip(".") or "file"
    return fetch(file, cache_folder() / "files" / file.sha256[:24] / name)


def _fetch_hugging_face(text: str, sha256: str | None) -> Path:
    """Download a file of Hugging Face into the cache of its own package.

    Raises:
        OfaError: for an address without a file or digest, naming those of the repository; and for a failed download.
    """
    match = _HUGGING_FACE.fullmatch(text)
    if match is None:
        raise OfaError(f"hub:{text[:200]}: USER/REPOSITORY/FILE#sha256=DIGEST is expected")
    repository, revision, name = match.groups()
    with needed_for(f"hub:{repository}"):
        import huggingface_hub as hugging_face
    try:
        if name is None or sha256 is None:
            tree: Iterable[Any] = hugging_face.HfApi().list_repo_tree(repository, recursive=True, revision=revision)
            files = [f"{f.path}#sha256={f.lfs.sha256}" for f in tree if getattr(f, "lfs", None)]
            listed = ", ".join(f"hub:{repository}{f'@{revision}' if revision else ''}/{file}" for file in files[:5])
            raise OfaError(f"hub:{text[:200]}: give a file and its digest: {listed or 'it has no large files'}")
        path = Path(hugging_face.hf_hub_download(repository, name, revision=revision))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        raise OfaError(f"hub:{text[:200]}: cannot download it from Hugging Face: {reason}") from error
    if not holds(path, Download((), sha256=sha256)):
        raise OfaError(f"hub:{text[:200]}: {path} has another SHA-256 checksum than {sha256}; it is not used")
    return path
