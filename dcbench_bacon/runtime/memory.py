"""Memory: images per call, transfers to a device, and memory that the process keeps."""

import ctypes
from functools import cache

import torch
from torch import Tensor

# On a CPU, the activations and the autograd graph of 64 images of 32 pixels take about
# 0.2 GB in a ConvNet. More images per call are not faster: a BACON step on two cores
# takes 13.0 s, 13.0 s and 12.9 s with 256, 128 and 64 (n=1). Fewer images keep the peak
# memory below that of the reference.
_CPU_IMAGES = 48
# The bytes of activations, gradients and workspace per image of 32 pixels in ConvNet-D3
# (128 maps): 12 maps of the input's size.
_GPU_BYTES = 12 * 128 * 32 * 32 * 4
# The share of the device's memory. Recorded graphs take the same share, and they are
# compared with a call of the function.
_GPU_SHARE = 0.25

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def images_per_call(device: torch.device, size: int) -> int:
    """Return the number of images per call of a network that fits into memory.

    Args:
        device: the device on which the network runs.
        size: the height and width of the images in pixels.
    """
    relative = (32 / size) ** 2
    if device.type == "cpu":
        return max(1, int(_CPU_IMAGES * relative))
    total = torch.cuda.get_device_properties(device).total_memory
    return max(1, int(_GPU_SHARE * total / _GPU_BYTES * relative))


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a host's tensor on a device without waiting for the device.

    The tensor is pinned first, because a copy of more than about 64 KB from memory that
    is not pinned waits.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@cache
def keep_freed_memory() -> bool:
    """Make glibc keep large freed blocks for the next allocation.

    By default, glibc returns them to the kernel, which clears every page again when the
    next activation of the same size is allocated. On a CPU this costs as much time as
    the convolutions: a ConvNet training step at batch 256 on two cores takes 0.94 s by
    default and 0.47 s with this setting (n=3). Other C libraries are not changed.

    Returns:
        Whether glibc accepted the setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    largest = 2**31 - 1
    accepted = [mallopt(key, largest) for key in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return all(accepted)
