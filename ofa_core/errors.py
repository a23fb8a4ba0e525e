"""The tree of errors that do not come from devices.

    OfaError
    ├── ArchError                  an architecture that its space does not contain
    ├── SpaceError                 an unknown or impossible search space
    ├── FormatError                a file that does not have the expected format
    ├── OutputError                a file that cannot be written
    ├── InUseError                 a file that another process is writing
    ├── TableError                 a latency table with invalid or unsuitable content
    │   ├── MissingBlockError      blocks that the table has no latency for
    │   └── ContextMismatchError   measurements of different contexts in one place
    ├── PredictorError             a predictor that cannot predict or be fitted
    ├── MissingPackageError        an optional package that is not installed
    └── InfeasibleConstraintError  a limit that no architecture meets

Each message is one line with the problem, the value, and the remedy.
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
    """Base of all errors that this project raises; commands print its message and exit with 1."""


class ArchError(OfaError):
    """An architecture that its space does not contain."""


class SpaceError(OfaError):
    """An unknown or impossible search space."""


class FormatError(OfaError):
    """A file that does not have the expected format."""


class OutputError(OfaError):
    """A file that cannot be written."""


class InUseError(OfaError):
    """A file that another process is writing."""


class TableError(OfaError):
    """A latency table with invalid or unsuitable content."""


class MissingBlockError(TableError):
    """Blocks that the table has no latency for."""


class ContextMismatchError(TableError):
    """Measurements of different contexts (device, backend, threads, ...) that must not be mixed."""


class PredictorError(OfaError):
    """A predictor that cannot predict or be fitted: unfitted, wrong space, invalid numbers."""


class MissingPackageError(OfaError):
    """An optional package that is not installed."""


class InfeasibleConstraintError(OfaError):
    """A limit that no architecture meets.

    Attributes:
        nearest: smallest value of the limited quantity that an architecture reaches.
    """

    def __init__(self, message: str, nearest: float | None = None) -> None:
        super().__init__(message)
        self.nearest = nearest
