"""The error tree of everything that is not a device.

    OfaError
    ├── ArchError                  an architecture that its space does not contain
    ├── SpaceError                 an unknown or impossible search space
    ├── FormatError                a file that cannot be read as what it should be
    ├── OutputError                a file that cannot be written, or not where it was asked for
    ├── InUseError                 a file that another process is writing
    ├── TableError                 a latency table that contradicts itself or the question
    │   ├── MissingBlockError      blocks that the table has no latency for
    │   └── ContextMismatchError   measurements of different contexts in one place
    ├── PredictorError             a predictor asked for what it cannot know
    ├── MissingPackageError        an optional package that is not installed
    └── InfeasibleConstraintError  a limit that no architecture meets

Each message is one line: what was wrong, the value, and what would be right.
"""

from __future__ import annotations

__all__ = [
    "ArchError",
    "ContextMismatchError",
    "FormatError",
    "InUseError",
    "InfeasibleConstraintError",
    "MissingBlockError",
    "MissingPackageError",
    "OfaError",
    "OutputError",
    "PredictorError",
    "SpaceError",
    "TableError",
]


class OfaError(Exception):
    """Base of all errors that this project raises on purpose; command lines turn it into one line and exit 1."""


class ArchError(OfaError):
    """An architecture that its space does not contain."""


class SpaceError(OfaError):
    """An unknown or impossible search space."""


class FormatError(OfaError):
    """A file that cannot be read as what it should be."""


class OutputError(OfaError):
    """A file that cannot be written, or not where it was asked for."""


class InUseError(OfaError):
    """A file that another process is writing."""


class TableError(OfaError):
    """A latency table that contradicts itself or the question asked of it."""


class MissingBlockError(TableError):
    """Blocks that the table has no latency for."""


class ContextMismatchError(TableError):
    """Measurements of different contexts (device, backend, threads, ...) that must not be mixed."""


class PredictorError(OfaError):
    """A predictor asked for what it cannot know: unfitted, wrong space, not a number."""


class MissingPackageError(OfaError):
    """An optional package that is not installed."""


class InfeasibleConstraintError(OfaError):
    """A limit that no architecture meets.

    Attributes:
        nearest: the smallest value of the constrained quantity that some architecture does reach.
    """

    def __init__(self, message: str, nearest: float | None = None) -> None:
        super().__init__(message)
        self.nearest = nearest
