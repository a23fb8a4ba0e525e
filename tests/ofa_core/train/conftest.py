from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest


@pytest.fixture
def few_images():
    """Forty coloured squares of four classes: what to learn is the colour."""
    from ofa_core.train.sources import ArraySource

    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    images = rng.integers(0, 60, (40, 32, 32, 3)).astype(np.uint8)
    images[np.arange(40), :, :, labels % 3] += 120
    images[labels == 3] += 60
    return ArraySource(images, labels, ("red", "green", "blue", "grey"), "squares")


@pytest.fixture
def small_config():
    """A run of a few seconds on the digits."""
    from ofa_core.train.config import embedded

    config = embedded()
    return replace(
        config,
        data=replace(config.data, held_out=500, n_calibration=100),
        recipe=replace(config.recipe, epochs=1.2, batch_size=64),
        run=replace(config.run, fast_gradients=False, device="cpu"),
    )


@pytest.fixture
def run_file():
    """Run an exported file on (n, 3, px, px) images, as many at a time as it takes; returns (n, classes) logits."""

    def run(path, images: np.ndarray) -> np.ndarray:
        infer, batch_size = _onnxruntime(path) if path.suffix == ".onnx" else _litert(path)
        return np.concatenate([infer(images[i : i + batch_size]) for i in range(0, len(images), batch_size)])

    return run


def _onnxruntime(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (source,), facts = session.get_inputs(), session.get_modelmeta().custom_metadata_map

    def infer(x: np.ndarray) -> np.ndarray:
        if source.type == "tensor(float)":
            return session.run(None, {"input": x})[0]
        grids = {
            what: [float(facts[f"{end}_{what}"]) for end in ("input", "output")] for what in ("scale", "zero_point")
        }
        q = _quantised(x, grids["scale"][0], grids["zero_point"][0], np.uint8)
        return (session.run(None, {"input": q})[0] - grids["zero_point"][1]) * grids["scale"][1]

    return infer, source.shape[0]


def _litert(path):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert, the extra [tflite]")
    interpreter = litert.Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()

    def infer(x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        whole = source["dtype"] == np.int8
        interpreter.set_tensor(source["index"], _quantised(x, *source["quantization"], np.int8) if whole else x)
        interpreter.invoke()
        y = interpreter.get_tensor(sink["index"])
        return (y - float(sink["quantization"][1])) * sink["quantization"][0] if whole else y

    return infer, source["shape"][0]


def _quantised(x: np.ndarray, scale: float, zero: float, dtype: type) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.clip(np.rint(x.astype(np.float64) / scale) + zero, limits.min, limits.max).astype(dtype)
