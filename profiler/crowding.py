"""Detect more threads than cores. Such threads wait for each other, so a session takes long and measures the waits."""

from __future__ import annotations

from profiler.backends import Choice, info
from profiler.runner import Hello

__all__ = ["crowding"]


def crowding(choice: Choice, threads: int, cpus: tuple[int, ...] | None, hello: Hello) -> str:
    """Return a warning with advice if there are more threads than usable cores; empty otherwise, and on a GPU.

    Args:
        choice: the backend with its delegate.
        threads: threads of one inference.
        cpus: cores to pin to; None for no pinning.
        hello: the agent's reply that lists the cores it may use.
    """
    allowed = set(hello.cpus) if hello.cpus is not None else set(range(hello.n_cores or threads))
    usable = allowed & set(cpus) if cpus else allowed
    if info(choice).device_kind != "cpu" or not 0 < len(usable) < threads:
        return ""
    cores = "1 core" if len(usable) == 1 else f"{len(usable)} cores"
    more = f" or {threads} cores by --cpus" if len(allowed) >= threads else ""
    return f"{threads} threads share {cores} and wait for each other: give --threads {len(usable)}{more}"
