"""Our step and the plain one of every method make the same, at a small size."""

import pytest
import torch
from steps import PAIRS, Shape

TOY = Shape(
    classes=3,
    real=12,
    channels=1,
    size=8,
    ipc=2,
    batch_real=6,
    architecture="ConvNetD2W8",
    observer="ConvNetD2W8BN",
    student_steps=3,
)
SHAPES = {
    **dict.fromkeys(PAIRS, TOY),
    "dsa": TOY._replace(inner_loop=2),
    "mtt": TOY._replace(recompute=False),
}


@pytest.mark.parametrize("name", PAIRS)
def test_our_step_is_the_plain_one(name: str) -> None:
    """Over three steps, by the way that the images have gone."""
    shape = SHAPES[name]
    ours, plain = PAIRS[name].ours(shape), PAIRS[name].plain(shape)
    first, *_, last = [(ours().clone(), plain().clone()) for _ in range(3)]
    if name in ("herding", "k_center"):
        assert torch.equal(*last)
        return
    assert torch.isfinite(last[1]).all()
    if name == "rded":
        assert (last[0] - last[1]).abs().max() < 1e-4
        return
    way = (last[1] - first[1]).norm()
    assert way > 0.01
    assert (last[0] - last[1]).norm() < 2e-3 * way
