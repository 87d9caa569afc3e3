"""Memory: images per call, transfers to a device, and memory that the process keeps."""

import ctypes
import os
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

# On a CPU, the activations and the autograd graph of 64 images of 32 pixels take about
# 0.2 GB in a ConvNet. More images per call are not faster: a BACON step on two cores
# takes 13.0 s, 13.0 s and 12.9 s with 256, 128 and 64 (n=1). Fewer images keep the peak
# memory below that of the reference.
_CPU_IMAGES = 48
# The bytes of activations, gradients and workspace per image of 32 pixels in ConvNet-D3
# (128 maps): 12 maps of the input's size.
_GPU_BYTES = 12 * 128 * 32 * 32 * 4
# The bytes of the same per image on a CPU, from the numbers above.
_CPU_BYTES = 200_000_000 // 64
# The share of the device's memory. Recorded graphs take the same share, and they are
# compared with a call of the function.
_GPU_SHARE = 0.25

# Copies of its parameters that training one network needs: the vector, its gradient,
# the memory of the optimiser (two moments), the average and the updated vector.
_COPIES = 6

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_LARGEST, _DEFAULT_THRESHOLD = 2**31 - 1, 128 * 1024


def budget(device: torch.device) -> float:
    """Return the bytes of activations, gradients and workspace that calls may take."""
    if device.type == "cpu":
        return float(_CPU_IMAGES * _CPU_BYTES)
    return _GPU_SHARE * torch.cuda.get_device_properties(device).total_memory


def room(device: torch.device) -> float:
    """Return the bytes that all images of a split may take: half of the memory."""
    if device.type == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    return torch.cuda.get_device_properties(device).total_memory / 2


def images_per_call(device: torch.device, size: int, demand: float = 1.0) -> int:
    """Return the number of images per call of a network that fits into memory.

    Args:
        device: the device on which the network runs.
        size: the height and width of the images in pixels.
        demand: the memory of the network per image, relative to that of ConvNet-D3;
            see ``networks.base.Network.memory_demand``.
    """
    return max(1, int(budget(device) / _image_bytes(device, size, demand)))


def networks_per_call(
    device: torch.device, size: int, batch: int, demand: float, parameters: int
) -> int:
    """Return the number of networks whose joint training step fits into memory.

    Args:
        device: the device on which the networks run.
        size: the height and width of the images in pixels.
        batch: the images of one network per step.
        demand: see ``images_per_call``.
        parameters: the number of parameters of one network.
    """
    images = batch * _image_bytes(device, size, demand)
    return max(1, int(budget(device) / (images + _COPIES * 4 * parameters)))


def _image_bytes(device: torch.device, size: int, demand: float) -> float:
    """Return the bytes of activations, gradients and workspace per image."""
    plain = _CPU_BYTES if device.type == "cpu" else _GPU_BYTES
    return plain * (size / 32) ** 2 * demand


def saved_bytes(module: nn.Module, images: Tensor) -> int:
    """Return the bytes that autograd keeps of a forward pass, parameters apart.

    Args:
        module: the module, which may be on the meta device, where nothing is computed.
        images: its input, on the same device.
    """
    of_module = {_place(tensor) for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # alive, so that no place is used again

    def keep(tensor: Tensor) -> Tensor:
        if _place(tensor) not in of_module:
            kept[_place(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(images)
    del output
    return sum(storage.nbytes() for storage in kept.values())


def _place(tensor: Tensor) -> int:
    """Return what identifies the memory of a tensor, also on the meta device."""
    return int(tensor.untyped_storage()._cdata)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a host's tensor on a device without waiting for the device.

    The tensor is pinned first, because a copy of more than about 64 KB from memory that
    is not pinned waits.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@cache
def keep_freed_memory(library: Any = None) -> bool:
    """Make glibc keep large freed blocks for the next allocation.

    By default, glibc returns them to the kernel, which clears every page again when the
    next activation of the same size is allocated. On a CPU this costs as much time as
    the convolutions: a ConvNet training step at batch 256 on two cores takes 0.94 s by
    default and 0.47 s with this setting (n=3). Other C libraries are not changed.

    The setting has two parts, and one alone costs more time than neither. Older glibc
    refuses a threshold above half a heap, so that the refusable part comes first; if
    the second is refused all the same, the first is set back to its default.

    Args:
        library: the C library; None for that of this process.

    Returns:
        Whether glibc accepted both parts.
    """
    try:
        mallopt = (library or ctypes.CDLL(None)).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    if not mallopt(_M_MMAP_THRESHOLD, _LARGEST):
        return False
    if mallopt(_M_TRIM_THRESHOLD, _LARGEST):
        return True
    mallopt(_M_MMAP_THRESHOLD, _DEFAULT_THRESHOLD)
    return False
