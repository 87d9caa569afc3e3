"""CUDA graphs: the kernels of a function recorded once, then launched as one.

A step on a GPU is a few hundred small kernels, and launching them one by one from
Python takes longer than they run. What is recorded is a function of tensors alone: it
reads its arguments and tensors that stay where they are (parameters, images), returns
new tensors, changes nothing, draws nothing and asks the device for nothing.
"""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ParamSpec, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


P = ParamSpec("P")
T = TypeVar("T")
Tensors = tuple[Tensor, ...]
Function = Callable[..., Tensors]
WARM_UP = 2  # calls before a recording: libraries choose kernels, compilers compile
CALLS = WARM_UP + 2  # calls until a graph is trusted: one records, one compares
TOLERANCE = 1e-2  # of a result's norm; sums in another order differ by far less


@runtime_checkable
class Recorder(Protocol):
    """Records functions, and runs them in the way that this needs before."""

    def rehearse(self, function: Function, inputs: Tensors) -> Tensors:
        """Calls the function as a recording will."""
        ...

    def record(
        self, function: Function, inputs: Tensors
    ) -> tuple[Callable[[], None], Tensors]:
        """Records a call without running it.

        Returns:
            What runs it again on the memory of ``inputs``, and the outputs, which
            that fills.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        ...


class CudaRecorder:
    """Records CUDA graphs, which share memory: one runs at a time.

    Args:
        device: of all tensors.
    """

    def __init__(self, device: torch.device) -> None:
        """Opens a stream, since the default one cannot be recorded."""
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()
        self.failed = False

    def rehearse(self, function: Function, inputs: Tensors) -> Tensors:
        """Calls the function on the stream that records."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            outputs = function(*inputs)
        current.wait_stream(self.stream)
        return outputs

    def record(
        self, function: Function, inputs: Tensors
    ) -> tuple[Callable[[], None], Tensors]:
        """See ``Recorder``; after a failure nothing is recorded any more.

        A failed recording leaves the allocator of PyTorch before 2.13 in disorder,
        which other recordings would run into.
        """
        if self.failed:
            raise RuntimeError("an earlier recording failed")
        gc.collect()  # graphs of cells that have ended lie in cycles
        current = torch.cuda.current_stream(self.device)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                outputs = function(*inputs)
        except RuntimeError as error:
            self.failed = True
            # The end of a failed recording fails too: the cause is in its context.
            raise RuntimeError(str(error.__context__ or error)) from error
        finally:
            torch.cuda.set_stream(current)
        return graph.replay, outputs


@cache
def recorder(device: torch.device) -> Recorder | None:
    """What records on a device; none where there is nothing to gain."""
    return CudaRecorder(device) if device.type == "cuda" else None


@dataclass
class _Graph:
    """A recording for inputs of one kind.

    Attributes:
        inputs: the memory that it reads.
        outputs: the memory that it fills.
        replay: runs it.
        trusted: whether it gave, for other inputs, what the function gives.
    """

    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]
    trusted: bool = False

    def __call__(self, inputs: Tensors) -> Tensors:
        """The outputs for other inputs of the same kind."""
        torch._foreach_copy_(self.inputs, inputs)
        self.replay()
        return tuple(output.clone() for output in self.outputs)


class GraphedFunction:
    """A function that is recorded for each kind of inputs, and replayed.

    Its first calls run as they are. One more records. On the inputs of the call after
    that, the graph is compared with the function itself: a number or an address that
    was frozen and has changed since is seen. What cannot be recorded, or differs, runs
    as it is, with a warning.

    Args:
        function: of tensors, as the module says.
        recorder: records it.
        launched: called for each replay in place of the function.
    """

    def __init__(
        self, function: Function, recorder: Recorder, launched: Callable[[], None]
    ) -> None:
        """Has recorded nothing yet."""
        self.function = function
        self.recorder = recorder
        self.launched = launched
        self._calls: dict[object, int] = {}
        self._graphs: dict[object, _Graph | None] = {}

    def __call__(self, *inputs: Tensor) -> Tensors:
        """What the function returns."""
        kind = tuple((each.shape, each.dtype) for each in inputs)
        if kind not in self._graphs:
            return self._rehearse(kind, inputs)
        graph = self._graphs[kind]
        if graph is None:
            return self.function(*inputs)
        if graph.trusted:
            self.launched()
            return graph(inputs)
        outputs = self.function(*inputs)
        graph.trusted = _agree(graph(inputs), outputs)
        if not graph.trusted:
            self._graphs[kind] = None
            logger.warning("%s differs when recorded; it runs as it is", self._name)
        return outputs

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))

    def _rehearse(self, kind: object, inputs: Tensors) -> Tensors:
        """One of the first calls, the last of which is recorded."""
        outputs = self.recorder.rehearse(self.function, inputs)
        self._calls[kind] = self._calls.get(kind, 0) + 1
        if self._calls[kind] > WARM_UP:
            self._graphs[kind] = self._record(inputs)
        return outputs

    def _record(self, inputs: Tensors) -> _Graph | None:
        """Records a call on a copy of the inputs; none if that cannot be done."""
        own = tuple(each.detach().clone() for each in inputs)
        try:
            replay, outputs = self.recorder.record(self.function, own)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            logger.warning("%s cannot be recorded: %s", self._name, reason)
            return None
        return _Graph(own, outputs, replay)


def _agree(ours: Tensors, expected: Tensors) -> bool:
    """Whether numbers are nearly the same; reads them from the device.

    Counts are left out: rounding may tip one image over.
    """
    return all(
        bool((mine - wanted).norm() <= TOLERANCE * wanted.norm())
        for mine, wanted in zip(ours, expected, strict=True)
        if wanted.is_floating_point()
    )
