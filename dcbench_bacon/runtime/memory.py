"""What a device takes in one call, what is sent to it, and pages that are kept."""

import ctypes
from functools import cache

import torch
from torch import Tensor

# On a CPU the activations of 64 images of 32 pixels, with their graph, take some 0.2 GB
# in a ConvNet; more brings no speed (a BACON step on two cores: 13.0 s, 13.0 s and
# 12.9 s with 256, 128 and 64; n=1). Fewer keep its peak memory below the reference's.
_CPU_IMAGES = 48
# Bytes of activations, gradients and workspace an image of 32 pixels takes on its way
# through ConvNet-D3 (128 maps): 12 maps of the input's size.
_GPU_BYTES = 12 * 128 * 32 * 32 * 4
# Of the device's memory: recorded graphs hold as much, and are compared with a call.
_GPU_SHARE = 0.25

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def images_per_call(device: torch.device, size: int) -> int:
    """Images that one call of a network takes without running out of memory.

    Args:
        device: where it runs.
        size: height and width in pixels.
    """
    relative = (32 / size) ** 2
    if device.type == "cpu":
        return max(1, int(_CPU_IMAGES * relative))
    total = torch.cuda.get_device_properties(device).total_memory
    return max(1, int(_GPU_SHARE * total / _GPU_BYTES * relative))


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host beside those of a device, without waiting for it.

    A copy from memory that may be paged out waits if it is of more than some 64 KB.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@cache
def keep_freed_memory() -> bool:
    """Tells glibc to keep large freed blocks for the next allocation.

    By default it returns them to the kernel, which clears every page again when the
    next activation of the same size is allocated: on a CPU that costs as much as the
    convolutions (a ConvNet training step at batch 256 on two cores: 0.94 s with the
    default, 0.47 s with this; n=3). Other C libraries are left alone.

    Returns:
        Whether the setting was taken.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    largest = 2**31 - 1
    taken = [mallopt(key, largest) for key in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return all(taken)
