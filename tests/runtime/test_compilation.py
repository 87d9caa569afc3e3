"""Where compiling pays, what precision rounds, and that neither changes a result."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compilation_checks import CPU, REAL, clock, network, outcome

from dcbench_bacon.field_types import Precision
from dcbench_bacon.networks.compilation import forward_flops
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.runtime.compute.compilation import PAYS, Compiler, broken
from dcbench_bacon.runtime.compute.precision import tensor_cores


@pytest.mark.slow
def test_compiled_code_computes_what_eager_code_does() -> None:
    script = Path(__file__).parents[1] / "compilation_checks.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    if done.stdout.startswith("nothing to compile with"):
        pytest.skip(done.stdout)
    assert (done.returncode, done.stdout) == (0, "all the same\n"), done.stderr


def test_auto_compiles_when_the_work_pays_for_it() -> None:
    compiler = Compiler("auto", probe=lambda device: None)
    assert compiler.obstacle(CPU, 2 * PAYS["cpu"]) is None
    assert "TFLOP of work" in (compiler.obstacle(CPU, PAYS["cpu"] / 2) or "")
    assert Compiler("on", compiler.probe).obstacle(CPU, 0.0) is None
    assert Compiler("off").obstacle(CPU, 1e30) == "not asked for"
    assert compiler.obstacle(torch.device("meta"), 1e30) is not None


def test_without_a_compiler_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("g++: not found\nand much more")

    monkeypatch.setattr(torch, "compile", fail)
    broken.cache_clear()
    try:
        own = clock("on")
        assert own.compiled(abs, 1e30) is abs
        for _ in own.steps("stage", 1):
            pass
        assert "does not work here (OSError)" in own.timings["stage"].compilation
        assert caplog.messages == [
            "torch.compile does not work here (OSError: g++: not found)"
        ]
    finally:
        broken.cache_clear()


def test_operations_are_counted_by_hand() -> None:
    convolution = 2 * 8 * 9 * 8 * 8  # multiply-adds of 8 maps of 8x8 from one channel
    classifier = 2 * 8 * 4 * 4 * 3
    assert forward_flops(network(), REAL.info) == convolution + classifier


def test_tf32_is_allowed_inside_and_put_back() -> None:
    convolutions = torch.backends.cudnn
    products = torch.backends.cuda.matmul

    def state() -> list[object]:
        # The last is what compilers read, an error where settings contradict.
        allowed = [convolutions.allow_tf32, products.allow_tf32]
        return [*allowed, torch.get_float32_matmul_precision()]

    before = state()
    kinds: list[tuple[Precision, list[object]]] = [
        ("fp32", [False, False, "highest"]),
        ("tf32", [True, True, "high"]),
        ("bf16", [True, True, "high"]),
    ]
    for precision, setting in kinds:
        with tensor_cores(precision):
            assert state() == setting
        assert state() == before
    with pytest.raises(KeyError), tensor_cores("fp32"):
        raise KeyError
    assert state() == before


def test_bf16_rounds_inside_alone() -> None:
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    exact = outcome(network(), images)
    model = network()
    model.precision = "bf16"
    kinds = []
    model.features[0].register_forward_hook(lambda *x: kinds.append(x[2].dtype))
    rounded = outcome(model, images)
    assert set(kinds) == {torch.bfloat16}
    for one, other in zip(rounded, exact, strict=True):
        assert one.dtype == torch.float32
        assert not torch.equal(one, other)
    for one, other in zip(rounded[:3], exact[:3], strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


def test_a_flat_network_gives_views_of_its_rows() -> None:
    flat = FlatNetwork(network())
    rows = torch.stack([flat.vector(), 2 * flat.vector()])
    views = flat.views(rows)
    for name, parameter in flat.network.named_parameters():
        assert torch.equal(views[name][1], 2 * parameter)
