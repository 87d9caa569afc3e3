"""DC's own augmentation against scipy and torch, one image at a time."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from support import dataset
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.augmentation import dc, policies
from dcbench_bacon.augmentation.dc import DCAugmentation, Draws

SHAPES = [(1, 28), (3, 32), (1, 9)]


def batch(channels: int, size: int, count: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randn(count, channels, size, size, generator=generator) + 0.3


def slow_crop(image: Tensor, row: int, column: int, means: Tensor) -> Tensor:
    """An image in a frame of the batch's colour, and a window of it."""
    size = image.shape[-1]
    framed = means[:, None, None].repeat(1, size + 8, size + 8)
    framed[:, 4 : 4 + size, 4 : 4 + size] = image
    return framed[:, row : row + size, column : column + size]


def slow_scale(image: Tensor, height: int, width: int) -> Tensor:
    """A resized image in the middle of a black square, and the middle of that."""
    channels, size, _ = image.shape
    resized = F.interpolate(image[None], size=(height, width))[0]
    side = max(height, width, size)
    square = torch.zeros(channels, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    square[:, top : top + height, left : left + width] = resized
    cut = (side - size) // 2
    return square[:, cut : cut + size, cut : cut + size]


def slow_rotate(image: Tensor, degrees: int, fill: float) -> Tensor:
    """Scipy's rotation on its larger canvas, cut to the middle."""
    size = image.shape[-1]
    turned = ndimage.rotate(image.numpy(), degrees, axes=(-2, -1), cval=fill)
    top, left = ((side - size) // 2 for side in turned.shape[-2:])
    return torch.from_numpy(turned[:, top : top + size, left : left + size].copy())


@pytest.mark.parametrize(("channels", "size"), SHAPES)
def test_crops_are_windows_of_a_framed_image(channels: int, size: int) -> None:
    images = batch(channels, size, 64)
    means = images.mean((0, 2, 3))
    offsets = torch.cartesian_prod(torch.arange(8), torch.arange(8)).float()
    found = dc.crop(images, offsets, means.expand(64, -1))
    for each, image, (row, column) in zip(found, images, offsets.int(), strict=True):
        assert torch.equal(each, slow_crop(image, int(row), int(column), means))


@pytest.mark.parametrize(("channels", "size"), [*SHAPES, (3, 64)])
def test_scaled_images_are_resized_to_the_nearest_neighbour(
    channels: int, size: int
) -> None:
    lengths = range(int(0.8 * size), int(1.2 * size) + 1)
    sides = torch.tensor([(h, w) for h in lengths for w in lengths])
    image = batch(channels, size, 1)
    found = dc.scale(image.expand(len(sides), -1, -1, -1), sides.float())
    for each, (height, width) in zip(found, sides.tolist(), strict=True):
        assert torch.equal(each, slow_scale(image[0], height, width))


@pytest.mark.parametrize(("channels", "size"), SHAPES)
def test_rotations_are_scipys_cubic_splines(channels: int, size: int) -> None:
    degrees = torch.arange(-45, 45)
    images = batch(channels, size, len(degrees))
    fill = images.mean((0, 2, 3)).mean()
    filled = fill.expand(len(degrees), channels)
    found = dc.rotate(images, degrees.float(), filled)
    assert torch.equal(found[45], images[45]) or torch.allclose(
        found[45], images[45], atol=1e-6
    )
    for each, image, angle in zip(found, images, degrees.tolist(), strict=True):
        expected = slow_rotate(image, angle, float(fill))
        torch.testing.assert_close(each, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strategy", ["crop_scale_rotate", "crop_noise"])
def test_every_image_draws_an_operation_and_the_batch_gives_the_fill(
    strategy: str, generator: torch.Generator
) -> None:
    names = strategy.split("_")
    info = dataset(channels=3, size=16).info
    law = policies.build(f"dc_{strategy}", info)
    assert isinstance(law, DCAugmentation)
    images = torch.stack([batch(3, 16, 60), batch(3, 16, 60) * 2 - 1])
    draw = law.draw(2, generator, samples=60)
    found = law.apply(images, draw)
    seen = set()
    for group, own in enumerate(images):
        means = own.mean((0, 2, 3))
        for row, image in enumerate(own):
            name, expected = slowly(names, image, means, draw, (group, row))
            seen.add(name)
            torch.testing.assert_close(found[group, row], expected, atol=1e-5, rtol=0)
    assert seen == set(names)


def slowly(
    names: list[str], image: Tensor, means: Tensor, draw: Draws, place: tuple[int, int]
) -> tuple[str, Tensor]:
    """What becomes of one image, and by which operation."""
    choice, first, second = draw.uniforms[place].tolist()
    name = names[int(choice * len(names))]
    if name == "crop":
        return name, slow_crop(image, int(first * 8), int(second * 8), means)
    if name == "scale":
        uniforms = draw.uniforms[place].numpy()[1:]
        height, width = (np.float32(0.8) + np.float32(0.4) * uniforms) * 16
        return name, slow_scale(image, int(height), int(width))
    if name == "rotate":
        return name, slow_rotate(image, int(first * 90) - 45, float(means.mean()))
    return name, image + 0.001 * draw.noise[place]


def test_draws_are_joined_and_depend_on_the_generator_alone() -> None:
    law = DCAugmentation(("crop", "noise"), (1, 8, 8))
    streams = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    apart = [law.draw(1, stream, samples=5) for stream in streams]
    images = torch.stack([batch(1, 8, 5), batch(1, 8, 5) + 1])
    joined = law.apply(images, Draws.cat(apart))
    for row, draw in enumerate(apart):
        assert torch.equal(joined[row], law.apply(images[row : row + 1], draw)[0])
    again = law.draw(1, torch.Generator().manual_seed(1), samples=5)
    assert torch.equal(again.uniforms, apart[0].uniforms)
    assert torch.equal(again.noise, apart[0].noise)
    assert not torch.equal(apart[0].uniforms, apart[1].uniforms)


def test_whitened_images_may_be_augmented_as_by_dc() -> None:
    policies.check_whitened("dc_crop_noise", whitened=True)
