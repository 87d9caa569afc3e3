"""The precision of the networks' arithmetic: fp32, tf32 or bf16.

Parameters, images, features, losses and updates are float32 always. ``fp32`` rounds
nothing else; ``tf32`` lets an NVIDIA GPU round the inputs of convolutions and matrix
products to 10 bits, which is what PyTorch does to convolutions unless told otherwise
and hence what published runs on such GPUs did; elsewhere it is ``fp32``. ``bf16`` runs
the layers of a network in bfloat16 where autocast does.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from dcbench_bacon.schema import Precision


@contextmanager
def tensor_cores(precision: Precision) -> Iterator[None]:
    """Allows or forbids TF32 inside; the setting is the process's, and is put back."""
    wanted = "ieee" if precision == "fp32" else "tf32"
    # One switch a library: cuDNN's convolutions, cuBLAS's products.
    libraries = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [library.fp32_precision for library in libraries]
    try:
        for library in libraries:
            library.fp32_precision = wanted
        yield
    finally:
        for library, old in zip(libraries, before, strict=True):
            library.fp32_precision = old


def layers(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Runs what a network does inside in bfloat16, or as it is."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
