"""`QuadraticScore`: a score of networks at one resolution, as terms of slots, of pairs of slots, and a logarithm.

    latent = constant + sum of slots[s, code] + v' matrix v + log_weight * log(size)
    score  = shape(latent)

`v` lists the features of all slots one after another, `size` is a sum over the slots, and `shape` never decreases. A
predictor that can state itself in this form lets a search prove how far its answer is from the best network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_core.genomes import Genomes

__all__ = ["QuadraticScore"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class QuadraticScore:
    """A score in closed form. Codes are those of genomes; code 0 is an inactive slot.

    Attributes:
        constant: latent value of no slot at all.
        slots: (n_slots, 1 + n_codes) term of each code of each slot.
        features: (1 + n_codes, k) features of a code, equal in all slots; k may be 0.
        matrix: (n_slots * k, n_slots * k) symmetric matrix of the features of all slots.
        log_weight: factor of the logarithm.
        fixed_size: part of the size that all networks have.
        sizes: (n_slots, 1 + n_codes) size of each code of each slot.
        shape: function from (n,) latent values to (n,) scores that never decreases.
    """

    constant: float
    slots: Floats
    features: Floats
    matrix: Floats
    log_weight: float
    fixed_size: float
    sizes: Floats
    shape: Callable[[Floats], Floats]

    @classmethod
    def additive(cls, constant: float, slots: Floats) -> QuadraticScore:
        """Return a score that is a sum over slots, given their (n_slots, 1 + n_codes) terms."""
        no_features, no_matrix = np.zeros((slots.shape[1], 0)), np.zeros((0, 0))
        return cls(constant, slots, no_features, no_matrix, 0.0, 0.0, np.zeros_like(slots), _unchanged)

    def latent(self, genomes: Genomes) -> Floats:
        """Return the (n,) latent values of (n, 1 + n_slots) genomes of this resolution."""
        codes = genomes[:, 1:]
        every = np.arange(codes.shape[1])
        v = self.features[codes].reshape(len(codes), len(self.matrix))
        total = self.constant + self.slots[every, codes].sum(axis=1) + np.einsum("ij,ij->i", v @ self.matrix, v)
        if self.log_weight:
            total = total + self.log_weight * np.log(self.fixed_size + self.sizes[every, codes].sum(axis=1))
        return np.asarray(total)

    def scores(self, genomes: Genomes) -> Floats:
        """Return the (n,) scores of (n, 1 + n_slots) genomes of this resolution."""
        return np.asarray(self.shape(self.latent(genomes)))


def _unchanged(latent: Floats) -> Floats:
    return latent
