"""Optional packages: one-line errors with the command that installs a missing one.

The table holds every package of `[project.optional-dependencies]`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from ofa_core.errors import MissingPackageError

__all__ = ["PACKAGES", "Package", "is_installed", "missing_package", "needed_for"]


@dataclass(frozen=True)
class Package:
    """The distribution of an optional module.

    Attributes:
        distribution: name of the package for pip.
        extra: extra of ofa-latency that includes it.
    """

    distribution: str
    extra: str


PACKAGES = {
    "PIL": Package("pillow", "train"),
    "adbutils": Package("adbutils", "adb"),
    "ai_edge_litert": Package("ai-edge-litert", "tflite"),
    "flatbuffers": Package("flatbuffers", "tflite"),
    "huggingface_hub": Package("huggingface_hub", "hub"),
    "matplotlib": Package("matplotlib", "train"),
    "pynvml": Package("nvidia-ml-py", "energy"),
    "tensorboard": Package("tensorboard", "train"),
    "tflite_runtime": Package("tflite-runtime", "tflite-runtime"),
    "torch": Package("torch", "train"),
    "xgboost": Package("xgboost", "xgboost"),
}


def is_installed(module: str) -> bool:
    """Return True if the module is installed; it is not imported."""
    return find_spec(module) is not None


def missing_package(error: ImportError, purpose: str = "this command", extra: str | None = None) -> str | None:
    """Explain a failed import of an optional package.

    Args:
        error: the import error.
        purpose: the command or function that needs the package.
        extra: the extra to install (default: the one in the table).

    Returns:
        One line with the command that installs the package; None if the module is not in the table.
    """
    package = PACKAGES.get((error.name or "").partition(".")[0])
    if package is None:
        return None
    command = f"pip install 'ofa-latency[{extra or package.extra}]'"
    if isinstance(error, ModuleNotFoundError):
        return f"{purpose} needs {package.distribution}: {command}"
    reason = (str(error).strip() or "no reason given").splitlines()[0][:160]
    return f"{purpose} needs {package.distribution}, which is installed and cannot be imported ({reason}): {command}"


@contextmanager
def needed_for(purpose: str, extra: str | None = None) -> Iterator[None]:
    """Turn a failed import of an optional package in the body into a one-line error.

    Raises:
        MissingPackageError: names the command that installs the package.
    """
    try:
        yield
    except ImportError as error:
        line = missing_package(error, purpose, extra)
        if line is None:
            raise
        raise MissingPackageError(line) from error
