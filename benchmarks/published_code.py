"""Import the authors' package `ofa` (PyPI) without the packages that it imports and this comparison does not need."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["import_ofa", "set_active", "stubbed"]

_STUBS = {
    "torchvision": (),
    "torchvision.transforms": ("RandomResizedCrop", "Compose"),
    "torchvision.transforms.functional": (),
    "torchvision.datasets": (),
    "gdown": (),
    "horovod": (),
    "horovod.torch": (),
    "tqdm": ("tqdm",),
}


@contextmanager
def stubbed() -> Iterator[None]:
    """Stand-ins for what cannot be imported, only while `ofa` is."""
    added = [name for name in _STUBS if name not in sys.modules]
    for name in added:
        module = types.ModuleType(name)
        for member in _STUBS[name]:
            setattr(module, member, type(member, (), {}))
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    try:
        yield
    finally:
        for name in added:
            sys.modules.pop(name, None)


def import_ofa() -> Any:
    """The modules used: `networks` (supernets), `utils` (`set_running_statistics`).

    Raises:
        ImportError: where `ofa` is not installed (`pip install --no-deps ofa==0.1.0.post202307202001`).
    """
    with stubbed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ofa.imagenet_classification.elastic_nn import networks, utils

    return types.SimpleNamespace(networks=networks, utils=utils)


def set_active(net: Any, space: Any, arch: Any) -> None:
    """Make `arch` the active sub-net of a published supernet: lists padded with the largest choices."""
    kernels: list[int] = []
    expands: list[int] = []
    for stage, choices in zip(space.stages, arch.stages(), strict=True):
        padding = [(space.kernels[-1], space.expands[-1])] * (stage.max_depth - len(choices))
        for kernel, expand in [*choices, *padding]:
            kernels.append(kernel)
            expands.append(expand)
    net.set_active_subnet(ks=kernels, e=expands, d=list(arch.depths))
