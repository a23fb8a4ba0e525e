"""Train a tiny supernet on scikit-learn's digits, evaluate a sub-net, and export it as ONNX.

    python examples/train_and_export.py run

Two epochs of joint training, so that the example ends in seconds. `embedded()` is the recipe of `ofa-train`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from ofa_core.export.onnx import arch_model, write_onnx
from ofa_core.export.trained_weights import trained_weights
from ofa_core.train.config import RecipeConfig, embedded
from ofa_core.train.distributed import ALONE
from ofa_core.train.run import TrainingRun, open_data
from ofa_core.train.supernet import train_supernet


def main(folder: Path) -> None:
    config = embedded()
    settings = replace(config.run, fast_gradients=False)
    config = replace(config, recipe=RecipeConfig("joint", epochs=2, batch_size=48), run=settings)
    data = open_data(config)
    supernet = train_supernet(TrainingRun(config, data, folder))

    arch = supernet.space.smallest(32)
    evaluator = data.evaluator(config, ALONE)
    subnet = evaluator.calibrated(supernet, arch)
    print(f"smallest sub-net: top-1 {evaluator.accuracy(subnet, arch).top1:.1f} %")

    write_onnx(arch_model(supernet.space, arch, weights=trained_weights(subnet)), folder / "subnet.onnx")
    print(folder / "subnet.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
