"""More threads than cores: they wait for each other, so that a session takes long and measures the wait."""

from __future__ import annotations

from profiler.runner import Hello

__all__ = ["crowding"]


def crowding(backend: str, threads: int, cpus: tuple[int, ...] | None, hello: Hello) -> str:
    """Say that threads outnumber the cores they may run on, and what to do; empty if they do not, or on a GPU.

    Args:
        backend: name of the backend.
        threads: of one inference.
        cpus: cores to pin to; None for no pinning.
        hello: what the agent says of the cores that it may use.
    """
    allowed = set(hello.cpus) if hello.cpus is not None else set(range(hello.n_cores or threads))
    usable = allowed & set(cpus) if cpus else allowed
    if "cuda" in backend or not 0 < len(usable) < threads:
        return ""
    cores = "1 core" if len(usable) == 1 else f"{len(usable)} cores"
    more = f" or {threads} cores by --cpus" if len(allowed) >= threads else ""
    return f"{threads} threads share {cores} and wait for each other: give --threads {len(usable)}{more}"
