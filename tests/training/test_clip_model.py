"""The image-text term with small models of random weights: no network, no download."""

from pathlib import Path

import pytest
import torch
from clip_models import CPU, MEAN, PREPROCESS, STD, info, score, tiny_clip, tokenizer
from open_clip.model import set_model_preprocess_cfg
from support import cell_run, dataset
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.data.dataset import normalize
from dcbench_bacon.errors import UsageError
from dcbench_bacon.methods import bacon
from dcbench_bacon.schema import DatasetInfo
from dcbench_bacon.training.clip_model import SemanticScore


def pictures(channels: int = 3, each: int = 2) -> Tensor:
    """Normalised images of three classes, some pixels beyond black and white."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, each, channels, 8, 8, generator=generator)


CLASSES = torch.arange(3)


def by_hand(images: Tensor, classes: list[int], facts: DatasetInfo) -> list[float]:
    """The definition, image by image."""
    model, values = tiny_clip().eval().requires_grad_(False), []
    for row, label in zip(images, classes, strict=True):
        prompt = "a photo of a " + facts.class_names[label].replace("_", " ")
        text = model.encode_text(tokenizer()([prompt]))[0]
        total = 0.0
        for image in row:
            channels = [
                (image[i] * facts.std[i] + facts.mean[i]).clamp(0, 1)
                for i in range(facts.channels)
            ]
            rgb = torch.stack(channels * (3 // len(channels)))[None]
            rgb = F.interpolate(rgb, (16, 16), mode="bicubic", align_corners=False)[0]
            ready = torch.stack([(rgb[i] - MEAN[i]) / STD[i] for i in range(3)])
            found = model.encode_image(ready[None])[0]
            total += 1 - float(found @ text / (found.norm() * text.norm()))
        values.append(total / len(row))
    return values


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.slow
def test_scores_are_as_defined(channels: int) -> None:
    images = pictures(channels)
    found = score(channels)(images, CLASSES)
    assert found.shape == (3,)
    assert bool(((found >= 0) & (found <= 2)).all())
    expected = by_hand(images, [0, 1, 2], info(channels))
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    swapped = score(channels)(images, torch.tensor([2, 0, 1]))
    expected = by_hand(images, [2, 0, 1], info(channels))
    assert swapped.tolist() == pytest.approx(expected, abs=1e-5)
    assert (found - swapped).abs().max() > 1e-3


def test_classes_together_are_classes_apart() -> None:
    images, judge = pictures(), score()
    together = judge(images, CLASSES)
    for index in range(3):
        alone = judge(images[index : index + 1], CLASSES[index : index + 1])
        assert torch.allclose(alone, together[index : index + 1], atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_reach_the_images_alone(channels: int) -> None:
    images, judge = pictures(channels).requires_grad_(), score(channels)
    judge(images, CLASSES)[1].backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()
    assert bool((images.grad[1].abs().flatten(1).sum(1) > 0).all())
    assert not images.grad[[0, 2]].any()
    assert all(not parameter.requires_grad for parameter in judge.model.parameters())
    assert all(parameter.grad is None for parameter in judge.model.parameters())
    assert not judge.model.training


def test_following_the_gradient_lowers_the_score() -> None:
    images, judge = pictures().requires_grad_(), score()
    before = judge(images, CLASSES).sum()
    (gradient,) = torch.autograd.grad(before, images)
    moved = images - 0.05 * gradient / gradient.abs().max()
    after = judge(moved.detach(), CLASSES).sum()
    assert float(after) < float(before.detach())


@pytest.mark.slow
def test_pixels_are_judged_as_they_look() -> None:
    """Neither the statistics nor what no screen can show makes a difference."""
    source = dataset(channels=3)
    pixels = source.train.images[:3]
    facts = info()
    other = DatasetInfo(
        name="other",
        title="Other",
        classes=3,
        channels=3,
        size=8,
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.5, 0.5),
        class_names=facts.class_names,
    )
    one, two = (
        SemanticScore(tiny_clip(), tokenizer(), each, CPU)(
            normalize(pixels, each).unsqueeze(1), CLASSES
        )
        for each in (facts, other)
    )
    assert torch.allclose(one, two, atol=1e-5)
    white = torch.full((3, 1, 3, 8, 8), 10.0)
    assert torch.equal(score()(white, CLASSES), score()(white * 7, CLASSES))


def test_local_weights_are_loaded(registered: str, weights: Path) -> None:
    loaded = SemanticScore.load(registered, str(weights), info(), CPU)
    for name, value in tiny_clip().state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    assert loaded.size == 16
    twin = tiny_clip()
    statistics = {"mean": loaded.mean.flatten(), "std": loaded.std.flatten()}
    given = {key: tuple(value.tolist()) for key, value in statistics.items()}
    set_model_preprocess_cfg(twin, {**PREPROCESS, **given})
    direct = SemanticScore(twin, tokenizer(), info(), CPU)
    images = pictures()
    assert torch.equal(loaded(images, CLASSES), direct(images, CLASSES))
    from_seed = {
        each: tiny_clip(each).state_dict()["text_projection"] for each in (0, 1)
    }
    assert not torch.equal(from_seed[0], from_seed[1])


def complaint(name: str, file: object) -> str:
    with pytest.raises(UsageError) as caught:
        SemanticScore.load(name, str(file), info(), CPU)
    return str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path, weights: Path) -> None:
    assert "--set clip_weights=FILE" in complaint("ViT-B-32", "")
    missing = complaint("ViT-B-32", tmp_path / "none.pt")
    assert f"--set clip_weights={tmp_path / 'none.pt'}: no such file" in missing
    assert "laion2b_s34b_b79k" in missing
    assert "--set clip_weights=" in complaint("ViT-B-32", tmp_path)  # a folder
    unknown = complaint("ViT-B-23", weights)
    assert "--set clip_model=ViT-B-23" in unknown
    assert "not found" in unknown
    neither = complaint("ViT-B-23", "laion2b_s34b_b79k")
    assert "ViT-B-23" in neither
    assert "There are: none" in neither


def test_weights_of_another_model_are_refused(registered: str, tmp_path: Path) -> None:
    torch.save({"visual.class_embedding": torch.zeros(7)}, tmp_path / "other.pt")
    text = complaint(registered, tmp_path / "other.pt")
    assert f"--set clip_model={registered}" in text
    assert "clip_weights=" in text


@pytest.mark.parametrize("name", ["junk.pt", "junk.safetensors"])
@pytest.mark.parametrize("content", [b"", b"this is no file of weights at all" * 9])
def test_damaged_weights_are_refused(
    name: str, content: bytes, registered: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"clip_weights={tmp_path / name}" in complaint(registered, tmp_path / name)


def distilled(folder: Path, **changes: object) -> Tensor:
    settings = {
        "steps": 2,
        "architecture": "ConvNetD1W8",
        "batch_real": 4,
        "queue_train_steps": 1,
        "queue_batch": 8,
        "augmentation": "none",
        **changes,
    }
    run = cell_run(dataset(), folder, method="bacon")
    made = bacon.BACON.create(settings).distill(run)
    assert torch.isfinite(made.images).all()
    assert made.images.shape == (6, 1, 8, 8)
    return made.images


@pytest.mark.slow
def test_bacon_takes_the_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    shapes: list[torch.Size] = []

    class Judge(SemanticScore):
        def __call__(self, images: Tensor, classes: Tensor) -> Tensor:
            shapes.append(images.shape)
            return super().__call__(images, classes)

    def load(*arguments: object) -> SemanticScore:
        asked.append(arguments)
        return Judge(tiny_clip(), tokenizer(), dataset().info, CPU)

    monkeypatch.setattr(SemanticScore, "load", load)
    semantic = {"clip": "semantic", "clip_model": "a", "clip_weights": "b"}
    found = distilled(tmp_path / "one", **semantic)
    assert asked == [("a", "b", dataset().info, CPU)]
    # The decoded images of two each: four parts of every one, in both steps.
    assert shapes == [torch.Size([3, 8, 1, 8, 8])] * 2
    assert torch.equal(distilled(tmp_path / "two", **semantic), found)
    without = distilled(tmp_path / "three")
    assert (found - without).abs().max() > 1e-4
    weightless = distilled(tmp_path / "four", **semantic, tv_weight=1.0)
    assert torch.allclose(
        weightless, distilled(tmp_path / "five", tv_weight=1.0), atol=1e-6
    )


def test_bacon_without_weights_says_which_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="clip_weights"):
        distilled(tmp_path, clip="semantic")
