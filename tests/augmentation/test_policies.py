"""Augmentation policies against torchvision, one image at a time."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from support import dataset
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, RandAugment
from torchvision.transforms import functional as single
from torchvision.transforms.v2 import functional as newer

from dcbench_bacon.augmentation import policies, policy_steps
from dcbench_bacon.augmentation.pixel_operations import (
    CODES,
    NOTHING,
    OPERATIONS,
    operate,
)
from dcbench_bacon.augmentation.policies import POLICIES
from dcbench_bacon.augmentation.siamese import Augmentation
from dcbench_bacon.data.dataset import denormalize, standardize
from dcbench_bacon.errors import UsageError
from dcbench_bacon.schema import DatasetInfo

NAMES = [name for name, each in POLICIES.items() if each.pixels]


def pixels(count: int = 6, channels: int = 3, size: int = 16) -> Tensor:
    """Images of bytes, in [0, 1]; smooth, so that a shift is no new picture."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    return smooth.clamp(0, 1).mul(255).round() / 255


def facts(channels: int = 3, size: int = 16) -> DatasetInfo:
    return dataset(channels=channels, size=size).info


def policy(name: str, channels: int = 3, size: int = 16) -> policies.AugmentationPolicy:
    built = policies.build(name, facts(channels, size))
    assert isinstance(built, policies.AugmentationPolicy)
    return built


def sheared(image: Tensor, x: float, y: float) -> Tensor:
    degrees = [float(torch.atan(torch.tensor(level)).rad2deg()) for level in (x, y)]
    moved: Tensor = single.affine(image, 0.0, [0, 0], 1.0, degrees, center=[0, 0])
    return moved


def shifted(image: Tensor, x: float, y: float) -> Tensor:
    size = image.shape[-1]
    shift = [int(x * size), int(y * size)]
    moved: Tensor = single.affine(image, 0.0, shift, 1.0, [0.0, 0.0])
    return moved


def as_bytes(function: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    return function((image * 255).round().byte()).float() / 255


ORACLES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "ShearX": lambda image, level: sheared(image, level, 0),
    "ShearY": lambda image, level: sheared(image, 0, level),
    "TranslateX": lambda image, level: shifted(image, level, 0),
    "TranslateY": lambda image, level: shifted(image, 0, level),
    "Rotate": lambda image, level: single.rotate(image, level),
    "Brightness": lambda image, level: single.adjust_brightness(image, 1 + level),
    "Color": lambda image, level: single.adjust_saturation(image, 1 + level),
    "Contrast": lambda image, level: single.adjust_contrast(image, 1 + level),
    "Sharpness": lambda image, level: single.adjust_sharpness(image, 1 + level),
    "Posterize": lambda image, level: as_bytes(
        partial(single.posterize, bits=8 - int(level)), image
    ),
    "Solarize": lambda image, level: single.solarize(image, 1 - level),
    "AutoContrast": lambda image, level: as_bytes(single.autocontrast, image),
    "Equalize": lambda image, level: as_bytes(single.equalize, image),
    "Invert": lambda image, level: single.invert(image),
    "Hue": lambda image, level: single.adjust_hue(image, level),
}


def same(found: Tensor, expected: Tensor, share: float = 0.97) -> None:
    """Nearly all pixels agree to a byte; rounding moves some samples to a neighbour."""
    near = (found - expected).abs() < 1.01 / 255
    assert near.float().mean() >= share


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_an_operation_is_torchvisions(name: str, channels: int) -> None:
    images = pixels(channels=channels)
    levels = {
        "Posterize": [0.0, 1.0, 2.0, 3.0, 4.0, 1.0],
        "Solarize": [0.0, 0.3, 0.5, 0.7, 0.9, 1.0],
        "Rotate": [-30.0, -10.0, 5.0, 9.0, 20.0, 30.0],
        "Hue": [-0.2, -0.1, 0.0, 0.05, 0.1, 0.2],
    }.get(name, [-0.3, -0.2, 0.05, 0.1, 0.2, 0.3])
    found = OPERATIONS[name].run(images, torch.tensor(levels))
    assert found.shape == images.shape
    for image, level, after in zip(images, levels, found, strict=True):
        same(after, ORACLES[name](image, level))
    if not (channels == 1 and name in ("Color", "Hue")):
        assert (found - images).abs().max() > 0.02


@pytest.mark.parametrize(
    "name", [n for n, each in OPERATIONS.items() if each.strongest]
)
def test_magnitude_zero_is_nothing(name: str) -> None:
    images = pixels()
    found = OPERATIONS[name].run(images, torch.zeros(len(images)))
    changed = images < 1 if name == "Solarize" else torch.ones_like(images).bool()
    torch.testing.assert_close(found[changed], images[changed], atol=1e-5, rtol=0)


def test_each_operation_runs_once_on_the_images_that_drew_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[str, int]] = []

    def spied(name: str, images: Tensor, levels: Tensor) -> Tensor:
        calls.append((name, len(images)))
        return OPERATIONS[name].run(images, levels)

    watched = {
        name: replace(each, run=partial(spied, name))
        for name, each in OPERATIONS.items()
    }
    monkeypatch.setattr(
        "dcbench_bacon.augmentation.pixel_operations.OPERATIONS", watched
    )
    codes = torch.tensor(
        [CODES["Invert"], NOTHING, CODES["Rotate"], CODES["Invert"], NOTHING, 0]
    )
    images, levels = pixels(), torch.linspace(-0.3, 0.3, 6)
    found = operate(images, codes, levels)
    assert sorted(calls) == [("Invert", 2), ("Rotate", 1), ("ShearX", 1)]
    assert torch.equal(found[1], images[1])
    assert torch.equal(found[3], 1 - images[3])
    alone = OPERATIONS["ShearX"].run(images[5:], levels[5:])
    assert torch.equal(found[5:], alone)


def expected_pair(image: Tensor, row: Tensor, choice: AutoAugmentPolicy) -> Tensor:
    """AutoAugment with torchvision's scale of magnitudes, for one image."""
    law = AutoAugment(choice)
    size = image.shape[-1]
    scales = law._augmentation_space(10, (size, size))
    pair = law.policies[int(row[0] * len(law.policies))]
    for slot, (name, chance, bin_) in enumerate(pair):
        if row[1 + slot] >= chance:
            continue
        magnitudes, signed = scales[name]
        level = float(magnitudes[bin_]) if bin_ is not None else 0.0
        if signed and row[3 + slot] < 0.5:
            level = -level
        image = ORACLES[name](image, rescaled(name, level, size))
    return image


def rescaled(name: str, level: float, size: int) -> float:
    """torchvision's magnitude in the units of ours."""
    if name.startswith("Translate"):
        return level / size
    if name == "Posterize":
        return 8 - level
    return 1 - level / 255 if name == "Solarize" else level


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "choice", [AutoAugmentPolicy.CIFAR10, AutoAugmentPolicy.IMAGENET]
)
def test_autoaugment_is_torchvisions_image_by_image(
    choice: AutoAugmentPolicy, channels: int, generator: torch.Generator
) -> None:
    images = pixels(100, channels)
    rows = torch.rand(100, 5, generator=generator)
    rows[:, 0] = torch.arange(100) % 25 / 25 + 0.01  # every pair four times
    found = policy_steps.SubPolicies(choice)(images, rows)
    agree = 0
    for image, row, after in zip(images, rows, found, strict=True):
        expected = expected_pair(image, row, choice)
        agree += bool(((after - expected).abs() < 2.5 / 255).float().mean() > 0.9)
    # A byte's rounding under equalize may move a level of a few images.
    assert agree >= 95
    assert (found - images).abs().amax((1, 2, 3)).gt(0.02).sum() > 40


def test_randaugment_is_torchvisions_image_by_image(
    generator: torch.Generator,
) -> None:
    law = policy_steps.RandAugment(2)
    images, size = pixels(60), 16
    rows = torch.rand(60, 4, generator=generator)
    scales = RandAugment()._augmentation_space(31, (size, size))
    found, names = law(images, rows), list(scales)
    agree = 0
    for image, row, after in zip(images, rows, found, strict=True):
        for start in (0, 2):
            name = names[int(row[start] * len(names))]
            if name == "Identity":
                continue
            magnitudes, signed = scales[name]
            level = float(magnitudes[9]) if magnitudes.ndim else 0.0
            level = -level if signed and row[start + 1] < 0.5 else level
            image = ORACLES[name](image, rescaled(name, level, size))
        agree += bool(((after - image).abs() < 2.5 / 255).float().mean() > 0.9)
    assert agree >= 57


def test_a_resized_crop_is_torchvisions(generator: torch.Generator) -> None:
    law, images = policy_steps.ResizedCrop(0.08), pixels(40)
    rows = torch.rand(40, law.columns, generator=generator)
    sides, starts = law.boxes(rows, 16)
    found = law(images, rows)
    assert len({tuple(side.tolist()) for side in sides}) > 20
    for image, after, side, start in zip(images, found, sides, starts, strict=True):
        box = [*start.int().tolist(), *side.int().tolist()]
        expected = newer.resized_crop(image, *box, size=[16, 16], antialias=False)
        torch.testing.assert_close(after, expected, atol=1e-5, rtol=0)


def test_the_law_of_resized_crops(generator: torch.Generator) -> None:
    law = policy_steps.ResizedCrop(0.25)
    rows = torch.rand(4000, law.columns, generator=generator)
    sides, starts = law.boxes(rows, 64)
    assert (starts >= 0).all()
    assert (starts + sides <= 64).all()
    where = starts / (64 - sides).clamp(min=1)
    assert ((where.mean(0) - 0.5).abs() < 0.05).all()
    assert where.min() == 0
    assert where.max() == 1
    areas, ratios = sides.prod(1) / 64**2, sides[:, 1] / sides[:, 0]
    assert areas.min() > 0.23
    assert 0.7 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.4
    # Large oblong parts do not fit and are drawn again, so the mean is below 0.625.
    assert 0.5 < areas.mean() < 0.625
    nothing_fits = rows.clone()
    nothing_fits[:, :20] = 1.0  # a part as large as the image, and oblong
    sides, starts = law.boxes(nothing_fits, 64)
    assert (sides == 64).all()
    assert (starts == 0).all()


def test_padded_crops_and_mirrors(generator: torch.Generator) -> None:
    images = pixels(500, size=16)
    rows = torch.rand(500, 3, generator=generator)
    moved = policy_steps.PaddedCrop(4)(images, rows[:, :2])
    seen = set()
    for image, row, after in zip(images, rows, moved, strict=True):
        y, x = int(row[0] * 9), int(row[1] * 9)
        framed = torch.nn.functional.pad(image, [4] * 4)
        assert torch.equal(after, framed[:, y : y + 16, x : x + 16])
        seen.add((y, x))
    assert len(seen) == 81
    mirrored = policy_steps.Mirror()(images, rows[:, 2:])
    flags = (mirrored == images.flip(-1)).flatten(1).all(1)
    assert torch.equal(flags, rows[:, 2] < 0.5)
    assert torch.equal(mirrored[~flags], images[~flags])


def test_color_jitter_is_torchvisions_in_each_images_order(
    generator: torch.Generator,
) -> None:
    strengths = (0.4, 0.4, 0.4, 0.2)
    images, rows = pixels(30), torch.rand(30, 8, generator=generator)
    found = policy_steps.ColorJitter(strengths)(images, rows)
    names = ("Brightness", "Contrast", "Color", "Hue")
    orders = set()
    for image, row, after in zip(images, rows, found, strict=True):
        order = row[:4].argsort().tolist()
        orders.add(tuple(order))
        for slot in order:
            level = float((2 * row[4 + slot] - 1) * strengths[slot])
            image = ORACLES[names[slot]](image, level)
        same(after, image)
    assert len(orders) > 12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 32)])
def test_a_policy_keeps_shapes_and_reads_its_generator_alone(
    name: str, channels: int, size: int
) -> None:
    law = policy(name, channels, size)
    images = torch.randn(2, 20, channels, size, size)
    before, state = images.clone(), torch.get_rng_state()
    outputs = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        outputs.append(law.apply(images, law.draw(2, generator, samples=20)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)
    assert outputs[0].shape == images.shape
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert all(torch.isfinite(each).all() for each in outputs)


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_draws_for_each_image(name: str, generator: torch.Generator) -> None:
    law = policy(name)
    one = standardize(pixels(1), law.info)
    images = one.expand(1, 40, -1, -1, -1)
    draw = law.draw(1, generator, samples=40)
    found = law.apply(images, draw)[0]
    differences = (found[:, None] - found[None]).flatten(2).abs().amax(2)
    assert (differences > 1e-3).float().mean() > 0.4
    alone = [
        law.apply(
            images[:, i : i + 1], policy_steps.Uniforms(draw.values[:, i : i + 1])
        )
        for i in range(40)
    ]
    torch.testing.assert_close(torch.cat(alone)[:, 0], found, atol=1e-5, rtol=1e-5)


def test_images_beyond_black_and_white_are_clamped(
    generator: torch.Generator,
) -> None:
    law = policy("cifar")
    draw = law.draw(1, generator, samples=4)
    images = 9 * torch.randn(1, 4, 3, 16, 16, generator=generator)
    clamped = denormalize(images[0], law.info).clamp(0, 1)
    expected = law.apply(standardize(clamped, law.info)[None], draw)
    torch.testing.assert_close(law.apply(images, draw), expected)


def test_cutout_of_dc_bench_erases_to_the_mean(generator: torch.Generator) -> None:
    law, plain = policy("cifar_aug", size=32), policy("cifar", size=32)
    images = torch.rand(1, 30, 3, 32, 32, generator=generator) - 0.5
    draw = law.draw(1, generator, samples=30)
    found = law.apply(images, draw)[0]
    whole = plain.apply(images, policy_steps.Uniforms(draw.values[..., :3]))[0]
    erased = (found == 0).all(1)
    assert erased.sum((1, 2)).max() == 16 * 16
    assert erased.sum((1, 2)).min() >= 8 * 8
    assert torch.equal(
        found[~erased[:, None].expand_as(found)],
        whole[~erased[:, None].expand_as(whole)],
    )


@pytest.mark.parametrize(
    ("plain", "mirrored"),
    [(name, name.removesuffix("_no_mirror")) for name in NAMES if "mirror" in name],
)
def test_without_a_mirror_a_policy_is_the_other_up_to_its_mirror(
    plain: str, mirrored: str, generator: torch.Generator
) -> None:
    with_mirror, without = policy(mirrored), policy(plain)
    assert isinstance(with_mirror.steps[-1], policy_steps.Mirror)
    assert not any(isinstance(step, policy_steps.Mirror) for step in without.steps)
    images = standardize(pixels(20), without.info)[None]
    draw = with_mirror.draw(1, generator, samples=20)
    flags = draw.values[0, :, -1] < 0.5
    expected = with_mirror.apply(images, draw)[0]
    expected[flags] = expected[flags].flip(-1)
    fewer = policy_steps.Uniforms(draw.values[..., :-1])
    torch.testing.assert_close(without.apply(images, fewer)[0], expected)
    assert flags.any()


def test_strategies_of_dsa_are_still_there() -> None:
    for name in ("", "none", "flip", "color_crop"):
        assert isinstance(policies.build(name, facts()), Augmentation)


def test_an_unknown_augmentation_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match="autoaugment") as caught:
        policies.check("autoaugmented")
    assert "cutout" in str(caught.value)
