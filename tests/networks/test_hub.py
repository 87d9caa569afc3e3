"""Networks of torchvision and timm: sizes, seeds and clear refusals."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks import builder, hub
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.flat_parameters import FlatNetwork, NetworkStack
from dcbench_bacon.runtime.compute import memory

SMALL = [
    *("torchvision:resnet18", "torchvision:mobilenet_v3_small"),
    *("timm:resnet10t", "timm:convnext_atto", "timm:test_vit"),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(name: str, *, channels: int = 3, size: int = 8, seed: int = 0) -> Network:
    return builder.build(
        name, channels=channels, size=size, classes=4, generator=seeded(seed)
    )


def images(n: int = 2, channels: int = 3, size: int = 8) -> Tensor:
    return torch.randn(n, channels, size, size, generator=seeded(1))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28, 32, 64])
@pytest.mark.slow
def test_a_training_step(name: str, size: int, channels: int) -> None:
    made = network(name, channels=channels, size=size)
    pixels = images(4, channels, size)
    features, logits = made.features_and_logits(pixels)
    assert features.shape == (4, made.classifier.in_features)
    assert logits.shape == (4, 4)
    loss = F.cross_entropy(logits, torch.arange(4))
    gradients = torch.autograd.grad(loss, list(made.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(made.parameters(), gradients, strict=True):
            assert gradient.isfinite().all()
            parameter.sub_(gradient, alpha=0.01)
    assert made(pixels).isfinite().all()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.slow
def test_the_generator_decides_all_bits(name: str) -> None:
    before = torch.get_rng_state()
    first, same, other = network(name), network(name), network(name, seed=1)
    used = seeded(1)
    for key, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[key]), key
    for key in ("classifier.weight", next(iter(first.state_dict()))):
        assert not torch.equal(first.state_dict()[key], other.state_dict()[key])
    first(images())  # moves running statistics
    builder.reinitialize(first, used)
    for key, value in other.state_dict().items():
        assert torch.equal(value, first.state_dict()[key]), key
    assert torch.equal(before, torch.get_rng_state())


def test_values_are_those_of_the_library() -> None:
    """Whatever seed: the same operations, drawn from another stream."""
    from torchvision import models

    made = network("torchvision:resnet18", size=32, seed=5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        theirs = models.resnet18()
    body = made.get_submodule("features.1.model")
    mine = dict(body.named_parameters())
    for key, value in theirs.named_parameters():
        assert key.startswith("fc.") or torch.equal(value, mine[key]), key


@pytest.mark.parametrize("name", ["torchvision:efficientnet_b0", "timm:test_vit"])
@pytest.mark.slow
def test_nothing_in_a_forward_is_random(name: str) -> None:
    made, pixels = network(name).train(), images(4)
    assert torch.equal(made(pixels), made(pixels))
    kept = [made for made in made.modules() if getattr(made, "inplace", False)]
    assert kept == []


@pytest.mark.parametrize(
    ("name", "size", "side"),
    [
        ("torchvision:resnet18", 8, 8),
        ("torchvision:alexnet", 8, 64),
        ("torchvision:alexnet", 28, 112),
        ("torchvision:convnext_tiny", 8, 32),
        ("torchvision:convnext_tiny", 28, 56),
        ("timm:vit_tiny_patch16_224", 32, 224),
        ("timm:vit_tiny_patch16_224", 64, 224),
        ("timm:test_vit", 8, 16),
    ],
)
def test_images_are_enlarged_only_as_far_as_needed(
    name: str, size: int, side: int
) -> None:
    assert hub.fit(name, size).side == side


def test_images_arrive_repeated_and_enlarged() -> None:
    grey = images(2, 1, 4)
    found = hub.Fit(8)(grey)
    expected = F.interpolate(grey.expand(-1, 3, -1, -1), (8, 8), mode="bilinear")
    assert torch.equal(found, expected)
    assert hub.Fit(8)(images()) is not None
    untouched = images()
    assert hub.Fit(8)(untouched) is untouched


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision:resnet19", "torchvision has no classifier 'resnet19'.*resnet18"),
        ("timm:resnet19", "timm has no classifier 'resnet19'. Did you mean"),
        ("timm:hf-hub:someone/something", "timm has no classifier"),
        ("torchvision:squeezenet1_0", "does not end in one linear classifier"),
        ("torch:resnet18", "write torchvision:NAME or timm:NAME"),
        ("timm:", "timm has no classifier ''"),
    ],
)
def test_refusals(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        builder.check(name)
    with pytest.raises(UsageError, match=words):
        network(name)


def test_checking_a_name_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr(nn.Module, "__init__", refuse)
    for name in ("torchvision:vit_b_16", "timm:vit_tiny_patch16_224"):
        builder.check.__wrapped__(name)


def test_batch_statistics_are_told_by_batch_norm() -> None:
    """A Swin transformer has buffers: the tables of its positions."""
    for name, batch_norm in (
        ("torchvision:swin_t", False),
        ("torchvision:resnet18", True),
        ("timm:resnet10t", True),
        ("timm:test_vit", False),
    ):
        found = hub.fit(name, 32).model
        assert Network(nn.Sequential(found), 4, 2).batch_statistics == batch_norm


class Shifted(nn.Module):
    """A layer with a constant, as the tables of positions of a Swin transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.arange(12.0))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) + self.get_buffer("shift")


def test_networks_with_constants_train_together() -> None:
    made = [Network(nn.Sequential(Shifted()), 12, 4) for _ in range(2)]
    flats = [FlatNetwork(each) for each in made]
    vectors = torch.stack([flat.vector() for flat in flats])
    pixels = torch.randn(2, 5, 3, 2, 2, generator=seeded(0))
    answers = torch.zeros(2, 5, dtype=torch.int64)
    found = NetworkStack(flats[0])(vectors, pixels, answers).logits
    for alone, batch, together in zip(made, pixels, found, strict=True):
        torch.testing.assert_close(alone(batch), together)


def test_memory_is_that_of_the_network_at_its_own_size() -> None:
    """ViT-B enlarges 32 pixels to 224; five were once trained as if it did not.

    Its activations are those of 197 tokens in 12 blocks. Beside the 23 numbers per
    token and width that a block keeps, each has three maps of attention.
    """
    side, _, model = hub.fit("torchvision:vit_b_16", 32)
    assert side == 224
    numbers = 12 * (23 * 197 * 768 + 3 * 12 * 197**2)
    kept = hub.saved_bytes_per_image("torchvision:vit_b_16", 32)
    assert 0.5 < kept / (4 * numbers) < 1.5
    plain = memory.saved_bytes(
        builder.assemble("ConvNet", 3, 32, 10),
        torch.empty(1, 3, 32, 32, device="meta"),
    )
    demand = builder._memory_demand("torchvision:vit_b_16", 3, 32)
    assert demand == pytest.approx(kept / plain, rel=0.1)
    parameters = sum(each.numel() for each in model.parameters())
    gpu = torch.device("cuda")
    for gigabytes in (8, 80):
        found = SimpleNamespace(total_memory=gigabytes * 2**30)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "get_device_properties", lambda _, f=found: f)
            limit = memory.budget(gpu)
            images = memory.images_per_call(gpu, 32, demand)
            together = memory.networks_per_call(gpu, 32, 10, demand, parameters)
        assert images * kept <= limit
        need = 10 * kept + 4 * 4 * parameters
        assert together == 1 or together * need <= limit
        assert together == {8: 1, 80: 2}[gigabytes]


def test_the_standard_network_needs_as_much_as_stated() -> None:
    for name in ("ConvNet", "LeNet", "MLP"):
        assert builder._memory_demand(name, 3, 32) == 1
    assert builder._memory_demand("ResNet18", 3, 32) > 1
    grey, colour = (builder._memory_demand("VGG11", c, 28) for c in (1, 3))
    assert grey == pytest.approx(colour, rel=0.05)


def test_five_channels_are_refused() -> None:
    with pytest.raises(UsageError, match="1 or 3 channels, not 5"):
        network("torchvision:resnet18", channels=5)


def test_a_network_that_no_size_suits() -> None:
    model = nn.Conv2d(3, 1, 500, device="meta")
    with pytest.raises(UsageError, match=r"cannot be evaluated on 9 pixels: .*500"):
        hub.fitted(model, "timm:of this test", 9)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match="pip install timm"):
        hub.fit("timm:resnet10t", 13)


def test_tags_of_weights_name_the_same_network() -> None:
    tagged, plain = "timm:resnet10t.c3_in1k", "timm:resnet10t"
    assert hub.fit(tagged, 8)[:2] == hub.fit(plain, 8)[:2]
