"""What a CUDA graph does, on a CPU: kernels repeated on the memory they first saw.

A recording holds each operation with its very tensors. A replay repeats the operations
and nothing of the Python around them, so that a number frozen on the host, memory that
has moved, or a result written elsewhere shows as it would on a GPU.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dcbench_bacon.runtime.compute.compilation import Compiler
from dcbench_bacon.runtime.compute.cuda_graphs import Function, Tensors

UNRECORDABLE = {"_local_scalar_dense", "nonzero", "masked_select", "item", "_unique2"}
Call = tuple[Any, tuple[Any, ...], dict[str, Any], Any]


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in UNRECORDABLE or kwargs.get("generator") is not None:
            raise RuntimeError(f"operation not permitted when recording: {name}")
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            pairs = zip(tree_leaves(result), tree_leaves(again), strict=True)
            for old, new in pairs:
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class CpuRecorder:
    """Records and replays operations on a CPU."""

    def rehearse(self, function: Function, inputs: Tensors) -> Tensors:
        return function(*inputs)

    def record(
        self, function: Function, inputs: Tensors
    ) -> tuple[Callable[[], None], Tensors]:
        with Tape() as tape:
            outputs = function(*inputs)
        for output in outputs:  # a recording runs nothing
            output.fill_(-1)
        return tape.replay, outputs


class Recording(Compiler):
    """Compiles nothing, and records on a CPU."""

    def __init__(self) -> None:
        super().__init__("off")
        self.tape = CpuRecorder()

    def recorder(self, device: torch.device) -> CpuRecorder:
        return self.tape
