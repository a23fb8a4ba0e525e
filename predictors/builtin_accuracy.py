"""The built-in accuracy model of `mbv3-w1.0`: coefficients that this project fitted to published measurements.

`tools/fit_accuracy.py` writes `data/mbv3-w1.0-top1.npz` and prints its errors. Top-1 at 224 px is from sub-nets that
DyNAS-T (IntelLabs, Apache-2.0) evaluated on the 50,000 ImageNet validation images without fine-tuning. The effect of
the resolution is from sub-nets that memory-optimized-once-for-all (M. Girard, MIT) evaluated on 12,500 of these images
at 128, 160 and 192 px. The second source has no data at 224 px; its level there is extrapolated by a geometric decay of
the steps between its three resolutions. Away from 224 px the prediction is therefore only a proxy.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ofa_core.calibration import conformal_quantile
from ofa_core.errors import PredictorError
from ofa_core.genomes import Genomes
from ofa_core.measured_columns import TOP1
from ofa_core.npz import read_npz
from ofa_core.quadratic import QuadraticScore
from ofa_core.space import Space
from ofa_core.space_record import require_space
from ofa_core.spaces import get_space
from predictors.estimator import Archs, Bounds, Estimator, Floats, Parts, as_space, check_resolutions
from predictors.gaussian_process import QuadraticForm
from predictors.saved_arrays import Arrays

__all__ = ["BUILTIN_SPACE", "BuiltinAccuracy"]

BUILTIN_SPACE = "mbv3-w1.0"
MEASURED_PX = 224
MAX_BYTES = 1_000_000


@lru_cache(maxsize=1)
def _shipped() -> tuple[QuadraticForm, dict[str, Floats], dict[str, Any]]:
    source = files("predictors").joinpath("data", "mbv3-w1.0-top1.npz")
    arrays = read_npz(source.read_bytes(), source.name, MAX_BYTES)
    facts = json.loads(bytes(arrays.pop("facts")).decode())
    return QuadraticForm.from_arrays(Arrays(arrays), get_space(BUILTIN_SPACE)), arrays, facts


class BuiltinAccuracy(Estimator):
    """Top-1 in percent of `mbv3-w1.0` sub-nets without fine-tuning; fitted at 224 px, a proxy at other resolutions.

    Args:
        space: `mbv3-w1.0`.
    """

    quantity = TOP1

    def __init__(self, space: Space | str = BUILTIN_SPACE) -> None:
        self.space = space

    @property
    def fitted(self) -> bool:
        """True: the coefficients are part of the package."""
        return True

    def fit(self, archs: Archs, top1: ArrayLike) -> Self:  # noqa: ARG002  (the estimator's signature)
        """Refuse to fit.

        Raises:
            PredictorError: always, naming the class to use.
        """
        raise PredictorError("the built-in accuracy model cannot be fitted; fit an AccuracyPredictor to your own data")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """128 to 224 px in steps of 4."""
        return as_space(self.space).resolutions

    @property
    def facts(self) -> dict[str, Any]:
        """Sources, counts and errors, as written by `tools/fit_accuracy.py`."""
        return dict(_shipped()[2])

    @property
    def label(self) -> str:
        """Name of the model."""
        return "built-in top-1 of mbv3-w1.0"

    @property
    def note(self) -> str:
        """Data and error of the model."""
        facts = _shipped()[2]
        return (
            f"fitted to {facts['n_nets']} sub-nets measured at 224 px. Error {facts['mae_by_net']:.2f} points, or "
            f"{facts['mae_by_run']:.2f} points on sub-nets of another search. At other resolutions, use it for "
            "comparison only"
        )

    def _genomes(self, archs: Archs) -> Genomes:
        require_space(as_space(self.space), get_space(BUILTIN_SPACE), "the network of the built-in accuracy model")
        return super()._genomes(archs)

    def _point(self, genomes: Genomes) -> Floats:
        check_resolutions(genomes, self.resolutions)
        return np.clip(_shipped()[0](as_space(self.space), genomes), 0.0, 100.0)

    def scores(self, genomes: Genomes) -> Floats:
        """Return (n, n_slots, 1 + n_codes): the predicted top-1, not clipped, with another code in one slot."""
        return _shipped()[0].scores(as_space(self.space), genomes)

    def quadratic(self, resolution_px: int) -> QuadraticScore:
        """Return the prediction at one resolution in closed form."""
        return _shipped()[0].at(as_space(self.space), resolution_px)

    def _bounds(self, genomes: Genomes, point: Floats, confidence: float) -> Bounds:
        arrays = _shipped()[1]
        near, far = (conformal_quantile(arrays[name], confidence) for name in ("errors_by_run", "errors_elsewhere"))
        margin = np.where(genomes[:, 0] == MEASURED_PX, near, far)
        return np.maximum(point - margin, 0.0), np.minimum(point + margin, 100.0)

    def to_parts(self) -> Parts:
        """Return the space, as parts of a file: the coefficients are part of the package."""
        return Parts(as_space(self.space))

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Build the model from the parts of a file."""
        return cls(parts.space)
