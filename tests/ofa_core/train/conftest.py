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
    source = session.get_inputs()[0]
    return lambda x: session.run(None, {source.name: x})[0], source.shape[0]


def _litert(path):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert, the extra [tflite]")
    interpreter = litert.Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()

    def infer(x: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source["index"], np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
        interpreter.invoke()
        return interpreter.get_tensor(sink["index"])

    return infer, source["shape"][0]
