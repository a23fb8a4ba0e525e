"""A GPU in software for tests: the Vulkan driver that Debian's chromium package carries (SwiftShader)."""

from __future__ import annotations

import ctypes
from pathlib import Path

from profiler.agent.backends.tflite import PROBE

_DRIVER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
SOFTWARE_GPU = {"VK_DRIVER_FILES": str(_DRIVER), "VK_ICD_FILENAMES": str(_DRIVER)}  # the new name and the old one


def missing() -> str:
    """Return the reason why there is no such GPU here, empty if there is one."""
    if not _DRIVER.exists():
        return "chromium's Vulkan driver is not installed (tools/install_test_devices.sh)"
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return "libvulkan1 is not installed (tools/install_test_devices.sh)"
    return ""


def l2_norm() -> bytes:
    """Return the file of one ReLU with another operator, which the CPU computes and the GPU accelerator does not."""
    content = bytearray(PROBE)
    for at in (268, 275):
        assert content[at] == 19  # RELU
        content[at] = 11  # L2_NORMALIZATION
    return bytes(content)
