"""A device without memory or host, on which waiting is an error.

PyTorch's meta tensors have a shape and a device and no content: whatever reads a value
fails, and what crosses to or from the host can be seen.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import dataset
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dcbench_bacon.distillation import (
    feature_matching,
    gradient_matcher,
    network_queue,
    trajectories,
)
from dcbench_bacon.running.run import CellRun, RunConfig
from dcbench_bacon.schema import Cell
from dcbench_bacon.training import on_synthetic


class Crossings(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what makes a device and its host wait for each other.

    Args:
        sending: allow copies to the device that the host does not wait for.
    """

    def __init__(self, *, sending: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sending = sending

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        before, after = places((args, kwargs)), places(result)
        # A tensor made of numbers of the host, for the device.
        made = func is torch.ops.aten.lift_fresh.default
        assert not (made and after == {"meta"}), "numbers are sent one by one"
        unawaited = func is torch.ops.aten._to_copy.default and (kwargs or {}).get(
            "non_blocking"
        )
        if self.sending and unawaited and (before, after) == ({"cpu"}, {"meta"}):
            return result
        allowed = [set(), {"meta"}, *([{"cpu"}] if self.sending else [])]
        assert before | after in allowed, func
        return result


def places(tree: Any) -> set[str]:
    """Where the tensors of an operation are."""
    return {x.device.type for x in tree_leaves(tree) if isinstance(x, Tensor)}


class Elsewhere(CellRun):
    """A run on a device without memory or host; it keeps what it is to record."""

    def __init__(self, folder: Path) -> None:
        source = dataset()
        context = RunConfig(torch.device("meta")).here()
        super().__init__(Cell("dm", source.info.name, 2), source, context, folder)
        self.functions: list[Any] = []

    def graphed(self, function: Any) -> Any:
        self.functions.append(function)
        return function

    def generator(self, purpose: str, device: str | None = None) -> torch.Generator:
        return torch.Generator()


def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Elsewhere, Any]:
    """A run on such a device, and what it was asked to record."""
    run = Elsewhere(folder)
    # Memory of what is not there.
    matching = (feature_matching, network_queue, gradient_matcher, trajectories)
    for module in (*matching, on_synthetic):
        monkeypatch.setattr(module, "images_per_call", lambda *_: 8)
    return run, run.functions


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


def indices(*shape: int) -> Tensor:
    return empty(*shape, dtype=torch.int64)
