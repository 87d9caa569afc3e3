"""CUDA graphs: the kernels of a function are recorded once and launched together.

A step on a GPU consists of a few hundred small kernels, and launching them one by one
from Python takes longer than running them. A function that is recorded takes and
returns tensors only. It reads its arguments and tensors that stay at their addresses
(parameters, images). It does not change a tensor, draw random numbers or copy values to
the host.
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
# Relative to the norm of a result. Sums in another order differ by far less.
TOLERANCE = 1e-2


@runtime_checkable
class Recorder(Protocol):
    """An object that records functions, after it has rehearsed them."""

    def rehearse(self, function: Function, inputs: Tensors) -> Tensors:
        """Return the outputs of a call under the conditions of a recording."""
        ...

    def record(
        self, function: Function, inputs: Tensors
    ) -> tuple[Callable[[], None], Tensors]:
        """Record a call without running it.

        Returns:
            A function that replays the call on the memory of ``inputs``, and the
            outputs, which the replay fills.

        Raises:
            RuntimeError: the call cannot be recorded.
        """
        ...


class CudaRecorder:
    """A recorder of CUDA graphs, which share memory, so that one runs at a time.

    Args:
        device: the GPU on which all tensors are.
    """

    def __init__(self, device: torch.device) -> None:
        """Open a stream, because the default stream cannot be recorded."""
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()
        self.failed = False

    def rehearse(self, function: Function, inputs: Tensors) -> Tensors:
        """Return the outputs of a call on the stream of the recordings."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            outputs = function(*inputs)
        current.wait_stream(self.stream)
        return outputs

    def record(
        self, function: Function, inputs: Tensors
    ) -> tuple[Callable[[], None], Tensors]:
        """Record a call without running it; see ``Recorder``.

        After a failure, nothing is recorded any more: before version 2.13, a failed
        recording leaves PyTorch's allocator in a state in which later ones fail.

        Raises:
            RuntimeError: the call cannot be recorded, or an earlier recording failed.
        """
        if self.failed:
            raise RuntimeError("an earlier recording failed")
        gc.collect()  # reference cycles keep the graphs of cells that have ended
        current = torch.cuda.current_stream(self.device)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                outputs = function(*inputs)
        except RuntimeError as error:
            self.failed = True
            # Ending a failed recording fails too; the cause is in the error's context.
            raise RuntimeError(str(error.__context__ or error)) from error
        finally:
            torch.cuda.set_stream(current)
        return graph.replay, outputs


@cache
def recorder(device: torch.device) -> Recorder | None:
    """Return the recorder of a device, or None if recording saves no time there."""
    return CudaRecorder(device) if device.type == "cuda" else None


@dataclass
class _Graph:
    """A recording for inputs of given shapes and types.

    Attributes:
        inputs: the memory that it reads.
        outputs: the memory that it fills.
        replay: runs the recording.
        trusted: whether its outputs for other inputs were equal to the function's.
    """

    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]
    trusted: bool = False

    def __call__(self, inputs: Tensors) -> Tensors:
        """Return the outputs for other inputs of the same shapes and types."""
        torch._foreach_copy_(self.inputs, inputs)
        self.replay()
        return tuple(output.clone() for output in self.outputs)


class GraphedFunction:
    """A function that is recorded once per shapes and types of its inputs.

    The first calls run the function. One more call records it. On the inputs of the
    next call, the recording is compared with the function, which reveals a number or an
    address that was recorded and has changed since. A function that cannot be recorded,
    or whose recording differs, runs without recording, with a warning.

    Args:
        function: a function of tensors; see the module's docstring for its limits.
        recorder: records the function.
        launched: is called at each replay that takes the place of the function.
    """

    def __init__(
        self, function: Function, recorder: Recorder, launched: Callable[[], None]
    ) -> None:
        """Keep the function; nothing is recorded yet."""
        self.function = function
        self.recorder = recorder
        self.launched = launched
        self._calls: dict[object, int] = {}
        self._graphs: dict[object, _Graph | None] = {}

    def __call__(self, *inputs: Tensor) -> Tensors:
        """Return the outputs of the function."""
        kind = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
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
            logger.warning(
                "%s differs when recorded; it runs without recording", self._name
            )
        return outputs

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))

    def _rehearse(self, kind: object, inputs: Tensors) -> Tensors:
        """Return the outputs of one of the first calls; the last one is recorded."""
        outputs = self.recorder.rehearse(self.function, inputs)
        self._calls[kind] = self._calls.get(kind, 0) + 1
        if self._calls[kind] > WARM_UP:
            self._graphs[kind] = self._record(inputs)
        return outputs

    def _record(self, inputs: Tensors) -> _Graph | None:
        """Return the recording of a call on a copy of the inputs, or None."""
        buffers = tuple(tensor.detach().clone() for tensor in inputs)
        try:
            replay, outputs = self.recorder.record(self.function, buffers)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            logger.warning("%s cannot be recorded: %s", self._name, reason)
            return None
        return _Graph(buffers, outputs, replay)


def _agree(ours: Tensors, expected: Tensors) -> bool:
    """Return whether tensors are nearly equal; this waits for the device.

    Integers are not compared: rounding may change the predicted class of an image.
    """
    return all(
        bool((mine - wanted).norm() <= TOLERANCE * wanted.norm())
        for mine, wanted in zip(ours, expected, strict=True)
        if wanted.is_floating_point()
    )
