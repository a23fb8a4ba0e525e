"""Run exported models in ONNX Runtime, and compare outputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

from ofa_core.blocks import BlockSpec


def run_onnx(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": x})[0]


def image(block: BlockSpec, batch_size: int = 1, seed: int = 0) -> np.ndarray:
    """Return random input of a block, (batch_size, channels, px, px)."""
    shape = (batch_size, block.in_c, block.in_px, block.in_px)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


def nmse(got: np.ndarray, want: np.ndarray) -> float:
    """Return the mean squared error relative to the variance of the right output."""
    assert got.shape == want.shape
    return float(((got - want) ** 2).mean() / want.var())
