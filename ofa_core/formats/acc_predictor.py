"""Read the accuracy predictors of the Once-for-All authors, and evaluate them in numpy.

Two forms are published. The tutorial's `acc_predictor.pth` (keys `0`, `2`, `4`, `6`) takes 128 inputs: a one-hot of
the kernel size of each of 20 slots, then of the expand ratio, then of the resolution 112, 128, ..., 224. The form of
`ofa/nas` (keys `layers.0.0`, ... and `base_acc`) takes the resolution first, as one of a list that is not in the file.
Inactive slots are zero in both. The networks are perceptrons with ReLU whose output is the top-1 fraction.

The authors' code maps other resolutions to a wrong input (216 to that of 208, 96 to that of 224); here they are an
error. A `.pth` file needs torch only if it holds more than float32 tensors; a predictor can be saved as `.npz`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.atomic import atomic_path
from ofa_core.backend_names import DTYPES
from ofa_core.errors import FormatError, PredictorError
from ofa_core.extras import needed_for
from ofa_core.formats.plain_tensors import plain_tensors
from ofa_core.genomes import genomes_of
from ofa_core.npz import ZIP_DAMAGE, read_npz
from ofa_core.space import Space
from ofa_core.space_record import SPACE_FIELDS, described_differences, require_space, space_columns, space_of
from ofa_core.spaces import find_builtin, get_space
from ofa_core.text_files import ANOTHER_COPY

__all__ = ["PublishedAccuracyPredictor", "read_acc_predictor"]

SCHEMA = 1
AUTHORS_LABEL = "accuracy predictor of the OFA authors"
MAX_FILE_BYTES = 64_000_000
CHUNK = 512  # rows whose hidden activations stay in the second-level cache
KNOWN_BIAS_W10 = 5.87  # percentage points above the top-1 that DyNAS-T recorded for 1,759 sub-nets of mbv3-w1.0

# Resolutions of `ofa/nas` predictors by their number, where the authors' code has a list of that length.
_NAS_RESOLUTIONS = {1: (224,), 4: (128, 160, 192, 224), 8: tuple(range(112, 225, 16))}
_TUTORIAL_RESOLUTIONS = tuple(range(112, 225, 16))


@dataclass(frozen=True, eq=False)
class PublishedAccuracyPredictor:
    """A perceptron from architecture to top-1 in percent.

    Attributes:
        space: space of the genomes; the published file was fitted to `mbv3-w1.2`.
        resolutions: supported input sizes in pixels, ascending.
        weights: one (inputs, outputs) float32 matrix per layer. The rows of the first one are the kernel
            sizes and expand ratios of each slot, then the resolutions.
        biases: one (outputs,) float32 vector per layer.
        label: name for people.
    """

    space: Space
    resolutions: tuple[int, ...]
    weights: tuple[NDArray[np.float32], ...] = field(repr=False)
    biases: tuple[NDArray[np.float32], ...] = field(repr=False)
    label: str = AUTHORS_LABEL

    def __post_init__(self) -> None:
        n_inputs = _n_slot_inputs(self.space) + len(self.resolutions)
        if len(self.weights[0]) != n_inputs:
            raise PredictorError(
                f"a predictor with {len(self.weights[0])} inputs; "
                f"{self.space.name} at {len(self.resolutions)} resolutions has {n_inputs}"
            )

    @property
    def dtype(self) -> str:
        """Type of weights and activations of the networks that it was fitted to."""
        return DTYPES["fp32"]

    @property
    def note(self) -> str:
        """Known bias of the predictions, in one sentence."""
        if self.space.name == "mbv3-w1.0":
            return f"known bias of +{KNOWN_BIAS_W10} points on mbv3-w1.0: the ranking holds, the level does not"
        return (
            "fitted by the OFA authors to sub-nets of mbv3-w1.2 without fine-tuning, on held-out training images; "
            f"on mbv3-w1.0 it has a known bias of +{KNOWN_BIAS_W10} points"
        )

    @cached_property
    def _one_hot(self) -> NDArray[np.float32]:
        """(1 + n_codes, n_kernels + n_expands) inputs of a slot by genome code."""
        space = self.space
        n_kernels = len(space.kernels)
        table = np.zeros((1 + space.n_codes, n_kernels + len(space.expands)), dtype=np.float32)
        for code, (kernel, expand) in enumerate(space.choices, 1):
            table[code, space.kernels.index(kernel)] = 1
            table[code, n_kernels + space.expands.index(expand)] = 1
        return table

    @cached_property
    def _shifts(self) -> list[NDArray[np.float32]]:
        """Shift of each layer's products that combines bias and ReLU in one pass.

        With z = x + s, relu(z) = max(x, -s) + s; the last s is carried into the next layer as a constant.
        """
        shifts: list[NDArray[np.float64]] = []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            carried = shifts[-1] @ weight.astype(np.float64) if shifts else 0.0
            shifts.append(carried + bias.astype(np.float64))
        return [shift.astype(np.float32) for shift in shifts]

    def predict(self, archs: Sequence[Arch | Mapping[str, Any]] | NDArray[np.integer]) -> NDArray[np.float64]:
        """Predict the top-1 of architectures.

        Args:
            archs: n architectures, OFA dicts, or genomes (n, 1 + n_slots).

        Returns:
            (n,) percent.

        Raises:
            PredictorError: for an unsupported resolution, or genomes of another space.
            ArchError: for an architecture that is not a member of the space.
        """
        genomes = genomes_of(self.space, archs)
        columns = self._resolution_columns(genomes[:, 0])
        codes = genomes[:, 1:]
        if codes.min(initial=0) < 0 or codes.max(initial=0) > self.space.n_codes:
            raise PredictorError(f"genomes with codes outside 0..{self.space.n_codes}; they are of another space")
        n_slots = _n_slot_inputs(self.space)
        rows = min(CHUNK, len(genomes))
        one_hot = np.empty((rows, self.space.n_slots, self._one_hot.shape[1]), np.float32)
        inputs = np.empty((rows, len(self.weights[0])), np.float32)
        pixels = np.eye(len(self.resolutions), dtype=np.float32)
        buffers = [np.empty((rows, weight.shape[1]), np.float32) for weight in self.weights[:-1]]
        out = np.empty(len(genomes))
        for start in range(0, len(genomes), CHUNK):
            stop = min(start + CHUNK, len(genomes))
            n = stop - start
            np.take(self._one_hot, codes[start:stop], axis=0, out=one_hot[:n], mode="clip")
            x = inputs[:n]
            x[:, :n_slots] = one_hot[:n].reshape(n, n_slots)
            x[:, n_slots:] = pixels[columns[start:stop]]
            for weight, shift, buffer in zip(self.weights[:-1], self._shifts[:-1], buffers, strict=True):
                x = np.matmul(x, weight, out=buffer[:n])
                np.maximum(x, -shift, out=x)
            out[start:stop] = (x @ self.weights[-1])[:, 0]
        out += self._shifts[-1][0]
        out *= 100
        return out.clip(0.0, 100.0, out=out)

    def scores(self, genomes: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return the gradient of the top-1 with respect to the code of each slot.

        Args:
            genomes: (n, 1 + n_slots).

        Returns:
            (n, n_slots, 1 + n_codes) percent: differences between the codes of a slot estimate the change of the top-1
            if another code is chosen there.
        """
        space, columns = self.space, self._resolution_columns(genomes[:, 0])
        n, n_slots = len(genomes), _n_slot_inputs(space)
        x = np.empty((n, len(self.weights[0])), np.float32)
        x[:, :n_slots] = self._one_hot[genomes[:, 1:]].reshape(n, n_slots)
        x[:, n_slots:] = np.eye(len(self.resolutions), dtype=np.float32)[columns]
        active = []  # of the units of each hidden layer
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = x @ weight + bias
            active.append(x > 0)
            np.maximum(x, 0, out=x)
        gradient = np.broadcast_to(100 * self.weights[-1][:, 0], (n, len(self.weights[-1])))
        for weight, mask in zip(reversed(self.weights[:-1]), reversed(active), strict=True):
            gradient = (gradient * mask) @ weight.T
        return np.asarray(gradient[:, :n_slots].reshape(n, space.n_slots, -1) @ self._one_hot.T)

    def _resolution_columns(self, pixels: NDArray[np.int16]) -> NDArray[np.int64]:
        known = np.asarray(self.resolutions)
        columns = np.searchsorted(known, pixels).clip(0, len(known) - 1)
        wrong = known[columns] != pixels
        if wrong.any():
            raise PredictorError(
                f"the {self.label} supports the resolutions {', '.join(map(str, self.resolutions))}, "
                f"not {pixels[int(np.argmax(wrong))]}"
            )
        return columns

    def write(self, path: Path) -> None:
        """Write the predictor as `.npz`, which needs no torch; the file appears whole or not at all."""
        arrays: dict[str, Any] = {
            "schema": SCHEMA,
            **space_columns(self.space),
            "resolutions": np.asarray(self.resolutions),
            "label": self.label,
        }
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            arrays |= {f"weight{i}": weight, f"bias{i}": bias}
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)


def read_acc_predictor(
    path: Path, space: Space | None = None, resolutions: Sequence[int] | None = None
) -> PublishedAccuracyPredictor:
    """Read an accuracy predictor: the authors' `.pth` or our `.npz`.

    Args:
        path: the file; the format is recognised by content.
        space: the space of the predictor. Default: the one in the `.npz`, else `mbv3-w1.2`.
        resolutions: the list of an `ofa/nas` predictor, which its file lacks. Default: 112, 128, ..., 224
            for 8 of them, 128, 160, 192, 224 for 4, and 224 for one.

    Raises:
        FormatError: for another file.
        MissingPackageError: if torch is needed and missing.
        PredictorError: for a predictor of another kind of space.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FormatError(f"{path}: {path.stat().st_size} bytes are too many for an accuracy predictor")
        is_npz = _is_npz(path)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    return _read_npz(path, space) if is_npz else _from_state(_load_state(path), path, space, resolutions)


def _n_slot_inputs(space: Space) -> int:
    return space.n_slots * (len(space.kernels) + len(space.expands))


def _is_npz(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except ZIP_DAMAGE as error:
        raise FormatError(f"{path}: a damaged zip file; an accuracy predictor is expected; {ANOTHER_COPY}") from error


def _read_npz(path: Path, space: Space | None) -> PublishedAccuracyPredictor:
    arrays = read_npz(path, str(path), MAX_FILE_BYTES)
    try:
        schema = int(arrays["schema"])
        if schema != SCHEMA:
            raise FormatError(f"{path}: schema {schema}; this version reads schema {SCHEMA}")
        n_layers = sum(name.startswith("weight") for name in arrays)
        weights = [arrays[f"weight{i}"] for i in range(n_layers)]
        biases = [arrays[f"bias{i}"] for i in range(n_layers)]
        label = str(arrays["label"])
        own = space_of({name: str(arrays[name]) for name in SPACE_FIELDS if name in arrays})
        if arrays["resolutions"].dtype.kind not in "iu":
            raise FormatError(f"{path}: resolutions must be whole numbers")
        resolutions = tuple(int(px) for px in arrays["resolutions"])
    except (KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{path}: not an accuracy predictor of this project: {str(error)[:200]!r}") from error
    _check_layers(weights, biases, path)
    if space is not None:
        if label != AUTHORS_LABEL:
            require_space(own, space, path)
        _check_published_space(space, label, path)
    return PublishedAccuracyPredictor(space or own, resolutions, tuple(weights), tuple(biases), label)


def _load_state(path: Path) -> dict[str, NDArray[np.float32]]:
    state = plain_tensors(path)
    if state is None:
        state = _by_torch(path)
    if all(name.startswith("module.") for name in state):  # as torch's parallel wrappers write it
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _by_torch(path: Path) -> dict[str, NDArray[np.float32]]:
    with needed_for(f"reading {path} (a .npz made from it does not)", extra="torch"):
        import torch

        from ofa_core.formats.state_dicts import state_in
        from ofa_core.formats.torch_files import read_torch
    state = state_in(read_torch(path), str(path))
    return {name: value.detach().to(torch.float32).numpy() for name, value in state.items()}


def _from_state(
    state: dict[str, NDArray[np.float32]], path: Path, space: Space | None, resolutions: Sequence[int] | None
) -> PublishedAccuracyPredictor:
    space = space or get_space("mbv3-w1.2")
    if "0.weight" in state:
        of_tutorial = True
        names = [f"{i}" for i in range(0, 2 * len(state), 2) if f"{i}.weight" in state]
    elif "layers.0.0.weight" in state:
        of_tutorial = False
        n_hidden = sum(f"layers.{i}.0.weight" in state for i in range(len(state)))
        names = [*(f"layers.{i}.0" for i in range(n_hidden)), f"layers.{n_hidden}"]
    else:
        held = ", ".join(sorted(state)[:4])[:100]
        raise FormatError(f"{path}: holds {held or 'nothing'}; 0.weight or layers.0.0.weight is expected")
    missing = [name for name in names if f"{name}.weight" not in state]
    if missing:
        raise FormatError(f"{path}: no {missing[0]}.weight")
    weights = [state[f"{name}.weight"].T for name in names]
    biases = [
        state.get(f"{name}.bias", np.zeros(w.shape[-1:], np.float32)) for name, w in zip(names, weights, strict=True)
    ]
    if "base_acc" in state:
        biases[-1] = biases[-1] + state["base_acc"].reshape(-1)[:1]
    _check_layers(weights, biases, path)

    n_inputs = len(weights[0])
    n_resolutions = n_inputs - _n_slot_inputs(space)
    known = _TUTORIAL_RESOLUTIONS if of_tutorial else resolutions or _NAS_RESOLUTIONS.get(n_resolutions, ())
    if len(known) != n_resolutions:
        raise PredictorError(
            f"{path}: {n_inputs} inputs; {space.name} takes {_n_slot_inputs(space)} of them, and the other "
            f"{n_resolutions} do not fit {len(known)} resolutions: give its space and its list of resolutions"
        )
    order = _input_order(space, n_resolutions, resolutions_first=not of_tutorial)
    weights[0] = weights[0][order]
    label = AUTHORS_LABEL if of_tutorial else "ofa/nas accuracy predictor"
    _check_published_space(space, label, path)
    return PublishedAccuracyPredictor(
        space, tuple(known), tuple(np.ascontiguousarray(w) for w in weights), tuple(biases), label
    )


def _check_published_space(space: Space, label: str, path: Path) -> None:
    """Check that the space is one of the authors', because their predictor gives ImageNet accuracies."""
    theirs = find_builtin(space.name)
    if label == AUTHORS_LABEL and (theirs is None or theirs != space):
        how = "" if theirs is None else f" ({described_differences(space, theirs)})"
        raise PredictorError(
            f"{path}: fitted to the published spaces, and {space.name} is none of them{how}; give your own supernet's "
            "accuracies (ofa-train accuracy-table), or rank by size with --accuracy proxy:macs"
        )


def _input_order(space: Space, n_resolutions: int, resolutions_first: bool) -> NDArray[np.int64]:
    """Return the index in a published form of each of our inputs (slots, then resolutions)."""
    n_k, n_e, n = len(space.kernels), len(space.expands), space.n_slots
    start = n_resolutions if resolutions_first else 0
    kernels = start + np.arange(n * n_k).reshape(n, n_k)
    expands = start + n * n_k + np.arange(n * n_e).reshape(n, n_e)
    pixels = np.arange(n_resolutions) + (0 if resolutions_first else n * (n_k + n_e))
    return np.concatenate([np.concatenate([kernels, expands], axis=1).reshape(-1), pixels])


def _check_layers(weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]], path: Path) -> None:
    if not weights:
        raise FormatError(f"{path}: no layers; a perceptron is expected")
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        shapes = f"layer {i + 1} has weights {weight.shape[::-1]} and biases {bias.shape}"
        if weight.ndim != 2 or bias.shape != weight.shape[1:] or (i and len(weight) != weights[i - 1].shape[1]):
            raise FormatError(f"{path}: {shapes}, which do not fit each other or the layer before")
        if weight.dtype != np.float32 or bias.dtype != np.float32:
            raise FormatError(f"{path}: layer {i + 1} is {weight.dtype}; float32 is expected")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise FormatError(f"{path}: layer {i + 1} holds numbers that are not finite")
    if weights[-1].shape[1] != 1:
        raise FormatError(f"{path}: {weights[-1].shape[1]} outputs; one, the top-1, is expected")
