"""The augmentations against slow, image-by-image restatements of the published ones."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from kornia.augmentation import AugmentationSequential, ImageSequential
from kornia.geometry.transform import warp_affine
from meta_device import Crossings, empty
from torch import Tensor

from dcbench_bacon.augmentation import dsa, kornia_modules
from dcbench_bacon.augmentation.kornia_modules import OPERATIONS
from dcbench_bacon.augmentation.siamese import Augmentation, Draw, parse_strategy
from dcbench_bacon.errors import UsageError

ALL = "color_crop_cutout_flip_scale_rotate"
EXACT = ("crop", "flip", "cutout")
RESAMPLING = ("scale", "rotate")
GEOMETRIC = ("crop", "flip", "scale", "rotate")
SIZES = [(8, 8), (28, 28), (32, 32), (64, 64), (10, 14)]
RUN: dict[str, Callable[..., Tensor]] = {
    name: getattr(dsa, name) for name in OPERATIONS
}


def bilinear(image: Tensor, y: float, x: float) -> Tensor:
    """The value between pixels, zero outside."""
    _, height, width = image.shape
    total = torch.zeros(len(image), dtype=image.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                total += weight * image[:, row, column]
    return total


def resample(image: Tensor, theta: list[list[float]], align_corners: bool) -> Tensor:
    _, height, width = image.shape
    result = torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            if align_corners:
                y, x = 2 * i / (height - 1) - 1, 2 * j / (width - 1) - 1
            else:
                y, x = (2 * i + 1) / height - 1, (2 * j + 1) / width - 1
            v, u = (
                (theta[1][0] * x + theta[1][1] * y),
                (theta[0][0] * x + theta[0][1] * y),
            )
            if align_corners:
                row, column = (v + 1) * (height - 1) / 2, (u + 1) * (width - 1) / 2
            else:
                row, column = ((v + 1) * height - 1) / 2, ((u + 1) * width - 1) / 2
            result[:, i, j] = bilinear(image, row, column)
    return result


def oracle(
    name: str, image: Tensor, values: Sequence[float], align_corners: bool = False
) -> Tensor:
    """One operation on one image, as the table of the published constants says."""
    _, height, width = image.shape
    result = image.clone()
    if name == "flip":
        return image[:, :, list(reversed(range(width)))] if values[0] else result
    if name == "scale":
        theta = [[values[0], 0.0], [0.0, values[1]]]
        return resample(image, theta, align_corners)
    if name == "rotate":
        a = values[0] * math.pi / 180
        theta = [[math.cos(a), math.sin(-a)], [math.sin(a), math.cos(a)]]
        return resample(image, theta, align_corners)
    if name == "crop":
        for i in range(height):
            for j in range(width):
                y, x = i + int(values[0]), j + int(values[1])
                inside = 0 <= y < height and 0 <= x < width
                result[:, i, j] = image[:, y, x] if inside else 0
        return result
    if name == "cutout":
        sides = int(0.5 * height + 0.5), int(0.5 * width + 0.5)
        for i in range(sides[0]):
            for j in range(sides[1]):
                y = min(max(i + int(values[0]) - sides[0] // 2, 0), height - 1)
                x = min(max(j + int(values[1]) - sides[1] // 2, 0), width - 1)
                result[:, y, x] = 0
        return result
    result = image + (values[0] - 0.5)
    gray = result.mean(0, keepdim=True)
    result = (result - gray) * (2 * values[1]) + gray
    mean = result.mean()
    return (result - mean) * (values[2] + 0.5) + mean


def drawn(
    name: str, count: int, size: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, ...]:
    uniforms = torch.rand(count, 3, generator=generator)
    return OPERATIONS[name].sample(uniforms, size)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_the_published_one(
    name: str, size: tuple[int, int], channels: int, generator: torch.Generator
) -> None:
    count = 2 if name in RESAMPLING else 12
    images = torch.randn(count, channels, *size, generator=generator)
    values = drawn(name, count, size, generator)
    rows = list(zip(*(value.tolist() for value in values), strict=True))
    if name in EXACT:
        expected = [
            oracle(name, image, row) for image, row in zip(images, rows, strict=True)
        ]
        assert torch.equal(RUN[name](images, *values), torch.stack(expected))
        return
    wide = images.double()
    expected = [oracle(name, image, row) for image, row in zip(wide, rows, strict=True)]
    result = RUN[name](wide, *(value.double() for value in values))
    torch.testing.assert_close(result, torch.stack(expected), atol=1e-9, rtol=0)
    # Single precision moves a sampling point by some 1e-6 of a pixel.
    tolerance = 1e-4 if name in RESAMPLING else 2e-6
    single = RUN[name](images, *values).double()
    torch.testing.assert_close(single, result, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", RESAMPLING)
def test_corners_aligned(name: str, generator: torch.Generator) -> None:
    images = torch.randn(3, 2, 8, 12, generator=generator).double()
    values = [value.double() for value in drawn(name, 3, (8, 12), generator)]
    rows = list(zip(*(value.tolist() for value in values), strict=True))
    expected = [
        oracle(name, image, row, align_corners=True)
        for image, row in zip(images, rows, strict=True)
    ]
    result = RUN[name](images, *values, align_corners=True)
    torch.testing.assert_close(result, torch.stack(expected), atol=1e-9, rtol=0)
    # About the centre both conventions are one map, unless it mixes unequal axes.
    same = torch.allclose(result, RUN[name](images, *values))
    assert same == (name == "scale")
    square = images[..., :8]
    aligned = RUN[name](square, *values, align_corners=True)
    torch.testing.assert_close(RUN[name](square, *values), aligned)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_flow(name: str, generator: torch.Generator) -> None:
    images = torch.randn(3, 2, 5, 6, generator=generator).double().requires_grad_()
    values = [value.double() for value in drawn(name, 3, (5, 6), generator)]
    assert torch.autograd.gradcheck(lambda x: RUN[name](x, *values), images)


@pytest.mark.parametrize("size", [28, 10, 32, 9])
def test_integer_draws_reach_their_ends(size: int, generator: torch.Generator) -> None:
    shift, side = int(0.125 * size + 0.5), int(0.5 * size + 0.5)
    for values in drawn("crop", 5000, (size, size), generator):
        assert set(values.tolist()) == set(range(-shift, shift + 1))
    last = size if side % 2 == 0 else size - 1
    for values in drawn("cutout", 5000, (size, size), generator):
        counts = torch.bincount(values.long(), minlength=last + 1)
        assert len(counts) == last + 1
        assert counts.min() > 0.5 * 5000 / (last + 1)


def test_the_largest_uniform_number_stays_in_range() -> None:
    top = torch.full((1, 3), 1 - 2**-24)
    for size in range(2, 300):
        assert OPERATIONS["crop"].sample(top, (size, size))[0] == int(size / 8 + 0.5)
        side = int(0.5 * size + 0.5)
        centre = OPERATIONS["cutout"].sample(top, (size, size))[0]
        assert centre == size - side % 2
    assert OPERATIONS["flip"].sample(top, (8, 8))[0] == 0


def test_cutout_erases_a_quarter_at_most_and_a_sixteenth_at_least() -> None:
    centres = torch.cartesian_prod(torch.arange(33), torch.arange(33))
    erased = dsa.cutout(torch.ones(len(centres), 1, 32, 32), *centres.unbind(1))
    area = (erased == 0).sum((1, 2, 3))
    assert (area.min().item(), area.max().item()) == (64, 256)


def test_continuous_draws_fill_their_range(generator: torch.Generator) -> None:
    x, y = drawn("scale", 5000, (32, 32), generator)
    assert 1 / 1.2 <= x.min() < 0.835
    assert 1.198 < x.max() <= 1.2
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 0.05
    (degrees,) = drawn("rotate", 5000, (32, 32), generator)
    assert -15 <= degrees.min() < -14.9
    assert 14.9 < degrees.max() <= 15
    (flags,) = drawn("flip", 5000, (32, 32), generator)
    assert set(flags.tolist()) == {0.0, 1.0}
    assert abs(flags.mean() - 0.5) < 0.03
    for strength in drawn("color", 5000, (32, 32), generator):
        assert 0 <= strength.min() < 0.01
        assert 0.99 < strength.max() < 1


def alone(
    name: str, images: Tensor, rows: Tensor, align_corners: bool = False
) -> Tensor:
    """One group through the Kornia class."""
    operation: Any = OPERATIONS[name]
    options = {"align_corners": align_corners} if name in RESAMPLING else {}
    columns = rows.expand(len(images), 3).unbind(-1)
    params = dict(zip(operation.names, columns, strict=False))
    params["forward_input_shape"] = torch.tensor(images.shape)
    result = operation(**options)(images, params=params)
    assert isinstance(result, Tensor)
    return result


@pytest.mark.parametrize("samples", [None, 5])
@pytest.mark.parametrize("strategy", [ALL, "scale_rotate", "crop", "rotate", "flip"])
@pytest.mark.parametrize("grad", [False, True])
def test_groups_together_are_groups_alone(
    strategy: str,
    samples: int | None,
    grad: bool,
    generator: torch.Generator,
    device: torch.device,
) -> None:
    augmentation = Augmentation(strategy, (12, 16), align_corners=True)
    draw = augmentation.draw(20, generator, samples)
    images = torch.randn(20, 5, 3, 12, 16, generator=generator, requires_grad=grad)
    result = augmentation.apply(images.to(device), draw).cpu()
    weights = torch.randn(result.shape, generator=generator)
    pairs = zip(draw.operations, images, draw.values, strict=True)
    expected = torch.stack([alone(*group, align_corners=True) for group in pairs])
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    if grad:
        (one,) = torch.autograd.grad((result * weights).sum(), images)
        (other,) = torch.autograd.grad((expected * weights).sum(), images)
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("strategy", [ALL, "color_crop", "rotate", "cutout_scale"])
@pytest.mark.parametrize("samples", [None, 5])
def test_all_operations_everywhere_give_the_same(
    strategy: str, samples: int | None, generator: torch.Generator
) -> None:
    """What a GPU computes, against the runs of groups that a CPU computes."""
    augmentation = Augmentation(strategy, (12, 16), align_corners=True)
    draw = augmentation.draw(20, generator, samples)
    images = torch.randn(20, 5, 3, 12, 16, generator=generator, requires_grad=True)
    expected = augmentation.apply(images, draw)
    result = augmentation.everywhere(images, draw)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)
    weights = torch.randn(result.shape, generator=generator)
    (one,) = torch.autograd.grad((result * weights).sum(), images)
    (other,) = torch.autograd.grad((expected * weights).sum(), images)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_real_and_synthetic_share_a_draw(generator: torch.Generator) -> None:
    augmentation = Augmentation(ALL, (8, 8))
    draw = augmentation.draw(12, generator)
    real = torch.randn(12, 7, 3, 8, 8, generator=generator)
    synthetic = real[:, 2:4].clone().requires_grad_()
    expected = augmentation.apply(real, draw)[:, 2:4]
    result = augmentation.apply(synthetic, draw)
    torch.testing.assert_close(result.detach(), expected, atol=1e-6, rtol=0)


def test_some_groups_of_a_draw(generator: torch.Generator) -> None:
    augmentation = Augmentation(ALL, (8, 8))
    draw = augmentation.draw(12, generator)
    images = torch.randn(12, 2, 3, 8, 8, generator=generator)
    parts = [
        augmentation.apply(images[some], draw[some])
        for some in (slice(0, 5), slice(5, 12))
    ]
    expected = augmentation.apply(images, draw)
    torch.testing.assert_close(torch.cat(parts), expected, atol=1e-6, rtol=0)


def test_double_images_get_double_matrices(generator: torch.Generator) -> None:
    augmentation = Augmentation("rotate", (8, 8))
    draw = augmentation.draw(1, generator)
    images = torch.randn(1, 2, 3, 8, 8, generator=generator).double()
    degrees = draw.values[0, 0].double().expand(2)
    expected = dsa.rotate(images[0], degrees)
    result = augmentation.apply(images, draw)[0]
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)


def test_groups_differ_and_samples_differ(generator: torch.Generator) -> None:
    image = torch.randn(3, 16, 16, generator=generator)
    augmentation = Augmentation("rotate", (16, 16))
    images = image.expand(4, 5, 3, 16, 16)
    siamese = augmentation.apply(images, augmentation.draw(4, generator))
    assert len({tuple(group[0].flatten().tolist()) for group in siamese}) == 4
    assert torch.equal(siamese, siamese[:, :1].expand_as(siamese))
    own = augmentation.apply(images, augmentation.draw(4, generator, samples=5))
    assert len({tuple(one.flatten().tolist()) for one in own.flatten(0, 1)}) == 20


def test_draws_follow_the_generator_alone() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()

    def make(strategy: str) -> tuple[Draw, Tensor]:
        generator = torch.Generator().manual_seed(3)
        draw = Augmentation(strategy, (32, 32)).draw(9, generator)
        return draw, generator.get_state()

    (first, after), (second, _) = make(ALL), make(ALL)
    assert first.operations == second.operations
    assert torch.equal(first.values, second.values)
    assert len(set(first.operations)) > 2
    # What was drawn does not move what is drawn next.
    assert torch.equal(after, make("flip")[1])
    for operation in OPERATIONS.values():
        own = operation(generator=torch.Generator().manual_seed(3))
        own(torch.randn(2, 1, 8, 8, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), state)


def test_every_operation_is_as_likely(generator: torch.Generator) -> None:
    draw = Augmentation(ALL, (32, 32)).draw(6000, generator)
    for name in OPERATIONS:
        assert abs(draw.operations.count(name) - 1000) < 120


def test_channels_last_and_no_groups_to_reorder(generator: torch.Generator) -> None:
    augmentation = Augmentation(ALL, (8, 8))
    images = torch.randn(9, 4, 3, 8, 8, generator=generator)
    last = images.movedim(2, -1).contiguous().movedim(-1, 2)
    draw = augmentation.draw(9, generator)
    result = augmentation.apply(last, draw)
    torch.testing.assert_close(result, augmentation.apply(images, draw))
    assert result.stride() == last.stride()


@pytest.mark.parametrize("name", OPERATIONS)
def test_kornia_replays(name: str, generator: torch.Generator) -> None:
    augmentation: Any = OPERATIONS[name](same_on_batch=True, generator=generator)
    images = torch.randn(4, 3, 12, 12, generator=generator)
    first = augmentation(images)
    params = augmentation._params
    torch.testing.assert_close(augmentation(images, params=params), first)
    more = {
        key: value if key == "forward_input_shape" else value[:1].expand(9)
        for key, value in params.items()
    }
    repeated = images.repeat(3, 1, 1, 1)[:9]
    result = augmentation(repeated, params=more)
    torch.testing.assert_close(result[:4], first)
    torch.testing.assert_close(result[4:8], first)


def test_kornia_draws_each_sample_from_torch_seed() -> None:
    torch.manual_seed(0)
    augmentation: Any = kornia_modules.DSARotate()
    images = torch.ones(6, 1, 8, 8)
    first = augmentation(images)
    assert len(set(augmentation._params["degrees"].tolist())) == 6
    torch.manual_seed(0)
    assert torch.equal(augmentation(images), first)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_matrices_say_where_pixels_go(
    name: str, align_corners: bool, generator: torch.Generator
) -> None:
    options = {"align_corners": align_corners} if name in RESAMPLING else {}
    augmentation: Any = OPERATIONS[name](generator=generator, **options)
    images = torch.randn(5, 2, 10, 14, generator=generator).double()
    result = augmentation(images)
    matrix = augmentation.transform_matrix[:, :2]
    warped = warp_affine(images, matrix, (10, 14), align_corners=True)
    torch.testing.assert_close(result, warped, atol=1e-5, rtol=0)


def test_kornia_pipelines(generator: torch.Generator) -> None:
    operations: list[Any] = [kind(generator=generator) for kind in OPERATIONS.values()]
    images = torch.randn(3, 3, 16, 16, generator=generator)
    sequence = ImageSequential(*operations)
    result = sequence(images)
    assert result.shape == images.shape
    torch.testing.assert_close(sequence(images, params=sequence._params), result)
    pipeline = AugmentationSequential(
        *operations, data_keys=["input", "mask", "keypoints"]
    )
    masks = (torch.rand(3, 1, 16, 16, generator=generator) > 0.5).float()
    points = torch.full((3, 1, 2), 7.5)
    augmented, mask, moved = pipeline(images, masks, points)
    assert augmented.shape == images.shape
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert moved.shape == points.shape


def test_strategies() -> None:
    assert parse_strategy(ALL) == tuple(ALL.split("_"))
    assert parse_strategy("") == parse_strategy("none") == ()
    with pytest.raises(UsageError, match=r"unknown augmentation 'blur'.*cutout.*none"):
        parse_strategy("flip_blur")


def test_no_augmentation_changes_nothing(generator: torch.Generator) -> None:
    augmentation = Augmentation("", (8, 8))
    images = torch.randn(2, 3, 1, 8, 8, generator=generator)
    assert augmentation.apply(images, augmentation.draw(2, generator)) is images


def test_a_draw_for_other_images_is_refused(generator: torch.Generator) -> None:
    augmentation = Augmentation(ALL, (8, 8))
    draw = augmentation.draw(2, generator, samples=3)
    with pytest.raises(ValueError, match="a draw of"):
        augmentation.apply(torch.zeros(2, 4, 1, 8, 8), draw)
    with pytest.raises(ValueError, match="draws for"):
        augmentation.apply(torch.zeros(2, 3, 1, 9, 8), draw)


@pytest.mark.parametrize("gradient", [False, True])
def test_nothing_is_waited_for(gradient: bool) -> None:
    """The shapes and the order of what a device does are the same for all draws."""
    augmentation = Augmentation(ALL, (8, 8))
    images = empty(3, 4, 3, 8, 8).requires_grad_(gradient)
    draw = augmentation.draw(3, torch.Generator())
    with Crossings(sending=True):
        result = augmentation.apply(images, draw)
    assert (result.shape, result.device) == (images.shape, images.device)
