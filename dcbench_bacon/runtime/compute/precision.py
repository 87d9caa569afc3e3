"""The precision of the networks' arithmetic: fp32, tf32 or bf16.

Parameters, images, features, losses and updates are always float32. ``fp32`` rounds
nothing else. ``tf32`` lets an NVIDIA GPU round the inputs of convolutions and matrix
products to 10 bits. PyTorch does this to convolutions by default, so published runs on
such GPUs did it too. On other devices ``tf32`` is the same as ``fp32``. ``bf16`` runs
those layers of a network in bfloat16 for which autocast does so.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from dcbench_bacon.field_types import Precision


@contextmanager
def tensor_cores(precision: Precision) -> Iterator[None]:
    """Allow or forbid TF32 in the whole process, and restore the setting at the end."""
    # For cuDNN's convolutions and cuBLAS's products. The newer `fp32_precision` is not
    # used: once it is set, reading these settings, as the compiler does, is an error.
    libraries: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [library.allow_tf32 for library in libraries]
    try:
        for library in libraries:
            library.allow_tf32 = precision != "fp32"
        yield
    finally:
        for library, old in zip(libraries, before, strict=True):
            library.allow_tf32 = old


def layers(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which layers run in bfloat16 if ``precision`` asks for it."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
