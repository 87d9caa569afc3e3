"""The precision of the networks' arithmetic: fp32, tf32 or bf16.

Parameters, images, features, losses and updates are float32 always. ``fp32`` rounds
nothing else; ``tf32`` lets an NVIDIA GPU round the inputs of convolutions and matrix
products to 10 bits, which is what PyTorch does to convolutions unless told otherwise
and hence what published runs on such GPUs did; elsewhere it is ``fp32``. ``bf16`` runs
the layers of a network in bfloat16 where autocast does.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from dcbench_bacon.field_types import Precision


@contextmanager
def tensor_cores(precision: Precision) -> Iterator[None]:
    """Allows or forbids TF32 inside; the setting is the process's, and is put back."""
    # cuDNN's convolutions and cuBLAS's products. The newer `fp32_precision` is left
    # alone: where it was set, reading these, as the compiler does, is an error.
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
    """Runs what a network does inside in bfloat16, or as it is."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
