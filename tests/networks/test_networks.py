"""Parameter counts, shapes, random streams and ``torch.func`` on every network."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import case
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks import builder, vit
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.builder import build, reinitialize
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.training.optimisers import FlatSGD

NAMES = builder.names()
DEEP = ["ResNet50BN", "ResNet101BN", "WRN-16-2", "MobileNetV2", "ShuffleNetV2-0.5"]
BATCH_NORM = [name for name in NAMES if "BN" in name or name in DEEP]
# The same layers at other widths cost time and show nothing new.
SMALL = ["ConvNetW8", "ConvNetW8NN", "ConvNetW8MP", "ConvNetW8LN", "MLP", "LeNet"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(
    name: str, *, channels: int = 3, size: int = 8, classes: int = 4, seed: int = 0
) -> Network:
    return build(
        name, channels=channels, size=size, classes=classes, generator=seeded(seed)
    )


def images(n: int, channels: int = 3, size: int = 8) -> Tensor:
    return torch.randn(n, channels, size, size, generator=seeded(1))


# Literals of the published code, counted in its own modules: specification, 0.5.
@pytest.mark.parametrize(
    ("name", "channels", "size", "classes", "count"),
    [
        ("ConvNet", 3, 32, 10, 320_010),
        ("ConvNet", 3, 32, 100, 504_420),
        ("ConvNet", 1, 28, 10, 317_706),
        ("ConvNet", 3, 64, 200, 1_938_120),
        ("ConvNetD4", 3, 64, 200, 857_160),
        ("MLP", 1, 28, 10, 118_282),
        ("MLP", 3, 32, 10, 411_146),
        ("LeNet", 1, 28, 10, 61_706),
        ("LeNet", 3, 32, 10, 62_006),
        ("AlexNet", 1, 28, 10, 1_865_802),
        ("AlexNet", 3, 32, 10, 1_872_202),
        # Two more a channel of the five norms.
        ("AlexNetBN", 3, 32, 10, 1_872_202 + 2 * (128 + 192 + 256 + 192 + 192)),
        ("VGG11", 1, 28, 10, 9_229_962),
        ("VGG11", 3, 32, 10, 9_231_114),
        ("VGG11BN", 3, 32, 10, 9_231_114),
        ("ResNet18", 1, 28, 10, 11_172_810),
        ("ResNet18", 3, 32, 10, 11_173_962),
        ("ResNet18BN", 3, 32, 10, 11_173_962),
        # A classifier of 512*4*4 for 512, or of 512*3*3.
        ("ResNet18_AP", 3, 32, 10, 11_173_962 + 10 * 512 * 15),
        ("ResNet18BN_AP", 1, 28, 10, 11_172_810 + 10 * 512 * 8),
        # A stem of 7x7 for 3x3.
        ("ResNet18ImageNet", 3, 64, 10, 11_173_962 + 64 * 3 * (49 - 9)),
        ("ResNet18ImageNetBN", 1, 28, 10, 11_172_810 + 64 * (49 - 9)),
        # As counted by others: kuangliu/pytorch-cifar, HobbitLong/RepDistiller.
        ("ResNet50BN", 3, 32, 10, 23_520_842),
        ("ResNet101BN", 3, 32, 10, 42_512_970),
        ("WRN-16-2", 3, 32, 100, 703_284),
        ("MobileNetV2", 3, 32, 100, 812_836),
        # Ma et al., table 5, with a 1x1 convolution of 24 channels first.
        ("ShuffleNetV2-0.5", 3, 32, 100, 443_716),
        # Patches, class token, positions; six blocks; norm and classifier.
        (
            *("ViT", 3, 32, 10),
            (3 * 16 + 1) * 512
            + (1 + 65) * 512
            + 6 * (4 * 512 + 512 * 1536 + 513 * 512 + 2 * 513 * 512)
            + 2 * 512
            + 513 * 10,
        ),
    ],
)
def test_parameter_count(
    name: str, channels: int, size: int, classes: int, count: int
) -> None:
    made = builder.assemble(name, channels, size, classes)
    assert sum(parameter.numel() for parameter in made.parameters()) == count


def test_narrow_networks_are_the_wide_ones_with_fewer_channels() -> None:
    for base, rest in (
        *(("VGG11", ""), ("VGG11", "BN"), ("ResNet18", "")),
        *(("ResNet18", "BN_AP"), ("ResNet18", "ImageNetBN")),
    ):
        with case(base + rest):
            wide = builder.assemble(base + rest, 3, 32, 10)
            same = builder.assemble(f"{base}W64{rest}", 3, 32, 10)
            narrow = builder.assemble(f"{base}W16{rest}", 3, 32, 10)
            assert [p.shape for p in same.parameters()] == [
                p.shape for p in wide.parameters()
            ]
            for ours, theirs in zip(
                narrow.features.parameters(), wide.features.parameters(), strict=True
            ):
                assert 4 * ours.shape[0] == theirs.shape[0]
    for name in ("VGG11W0", "ResNet18W16XX", "LeNetW8", "ResNet18W99999"):
        with pytest.raises(UsageError, match="unknown network"):
            builder.assemble(name, 3, 32, 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "channels"), [(9, 3), (11, 1), (28, 1), (28, 3), (32, 1), (64, 3)]
)
def test_shapes_at_every_size(size: int, channels: int) -> None:
    pixels = torch.empty(2, channels, size, size, device="meta")
    for name in NAMES:
        with case(name):
            made = builder.assemble(name, channels, size, 5)
            features, logits = made.features_and_logits(pixels)
            assert logits.shape == (2, 5)
            assert features.shape == (2, made.classifier.in_features)
            # Raises if a parameter has no part in the logits.
            torch.autograd.grad(logits.sum(), list(made.parameters()))


def check_alive(made: Network, size: int, channels: int) -> None:
    """Assert finite logits that depend on the image, and finite gradients."""
    pixels = images(2, channels, size).requires_grad_()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # running statistics are those of this batch
    logits = made(pixels)
    loss = F.cross_entropy(logits, torch.tensor([0, 1]))
    gradients = torch.autograd.grad(loss, [pixels, *made.parameters()])
    assert logits.shape == (2, 4)
    assert logits.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[0].abs().max() > 0
    # A norm that saw a single pixel would make the logits a constant.
    made.eval()
    assert (made(pixels)[0] - made(pixels)[1]).abs().max() > 1e-6
    made.train()


def check_training(made: Network, size: int, channels: int) -> None:
    """Assert that an epoch of two steps moves every parameter to a finite value."""
    flat, sgd = FlatNetwork(made), FlatSGD(0.01, 0.9, 5e-4)
    vector = flat.vector()
    before, velocity = vector.clone(), torch.zeros_like(vector)
    for batch in torch.split(images(4, channels, size), 2):
        gradient = torch.zeros_like(vector)
        flat.attach(vector, gradient)
        loss = F.cross_entropy(made(batch), torch.tensor([0, 1]))
        torch.autograd.backward(loss)
        sgd.step(vector, velocity, gradient)
        assert loss.isfinite()
    assert vector.isfinite().all()
    sizes = [parameter.numel() for parameter in made.parameters()]
    moved = torch.split(vector != before, sizes)
    assert all(part.any() for part in moved)


def check(names: list[str], size: int, channels: int) -> None:
    """Assert that networks compute and train at an image size."""
    for name in names:
        with case(name):
            made = network(name, channels=channels, size=size)
            check_alive(made, size, channels)
            check_training(made, size, channels)


def test_a_network_of_each_kind_trains_at_8_pixels() -> None:
    check([*SMALL, "ResNet18BN", "ViT"], 8, 3)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_every_network_trains_at_8_pixels(channels: int) -> None:
    check(NAMES, 8, channels)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (28, 3), (32, 1), (64, 3)])
@pytest.mark.slow
def test_plain_networks_train_at_real_sizes(size: int, channels: int) -> None:
    check(["ConvNet", "ConvNetD6", "LeNet", "AlexNet"], size, channels)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (28, 3), (32, 3), (64, 3)])
def test_every_network_trains_at_real_sizes(size: int, channels: int) -> None:
    check(NAMES, size, channels)


@pytest.mark.parametrize(
    ("size", "patch"), [(8, 4), (9, 3), (11, 1), (28, 4), (32, 4), (64, 8)]
)
def test_patches_divide_the_image(size: int, patch: int) -> None:
    assert vit.patch_size(size) == patch
    convolution = network("ViT", size=size).features[0]
    assert convolution.kernel_size == convolution.stride == (patch, patch)


def test_attention_is_pytorchs() -> None:
    ours = vit.Attention()
    theirs = nn.MultiheadAttention(vit.WIDTH, vit.HEADS, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.inwards.weight)
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(ours.outwards.weight)
        theirs.out_proj.bias.copy_(ours.outwards.bias)
    tokens = torch.randn(2, 5, vit.WIDTH, generator=seeded())
    normed = ours.norm(tokens)
    expected = tokens + theirs(normed, normed, normed)[0]
    torch.testing.assert_close(ours(tokens), expected)


def test_a_transformer_has_second_derivatives() -> None:
    made, pixels = network("ViT"), images(2).requires_grad_()
    loss = F.cross_entropy(made(pixels), torch.tensor([0, 1]))
    gradients = torch.autograd.grad(loss, list(made.parameters()), create_graph=True)
    norm = torch.stack([each.square().sum() for each in gradients]).sum()
    (second,) = torch.autograd.grad(norm, pixels)
    assert second.isfinite().all()
    assert second.abs().max() > 0


@pytest.mark.slow
def test_check_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "reinitialize", None)
    for name in (*NAMES, "ConvNetD7W5"):
        builder.check(name)
    with pytest.raises(UsageError, match="Did you mean 'ConvNet'"):
        builder.check("ConvNte")


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (28, 3), (32, 3)])
def test_embedding_is_the_last_pooling_flattened(size: int, channels: int) -> None:
    made = network("ConvNet", channels=channels, size=size)
    pixels = images(2, channels, size)
    assert made.embed(pixels).shape == (2, 2048)
    assert torch.equal(made.embed(pixels), made.features(pixels).flatten(1))


@pytest.mark.parametrize(
    ("name", "width"),
    [
        *(("MLP", 128), ("LeNet", 84), ("VGG11", 512), ("ResNet18", 512)),
        *(("ResNet18ImageNet", 512), ("ViT", 512)),
    ],
)
@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.slow
def test_penultimate_width(name: str, width: int, size: int) -> None:
    assert builder.assemble(name, 3, size, 4).classifier.in_features == width


@pytest.mark.parametrize("name", [*SMALL, "AlexNet", "VGG11", "ResNet18"])
def test_one_pass_gives_what_forward_and_embed_give(name: str) -> None:
    made, pixels = network(name), images(3)
    features, logits = made.features_and_logits(pixels)
    assert torch.equal(features, made.embed(pixels))
    assert torch.equal(logits, made(pixels))
    assert torch.equal(logits, made.classifier(features))


@pytest.mark.parametrize("name", [*SMALL, "ConvNetBN", "ResNet18BN"])
def test_the_generator_decides_all_bits(name: str) -> None:
    first, same, other = network(name), network(name), network(name, seed=1)
    for key, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[key]), key
    differ = [
        not torch.equal(a, b)
        for a, b in zip(first.parameters(), other.parameters(), strict=True)
    ]
    assert any(differ)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_no_generator_draws_differently_every_time() -> None:
    first, second = (build("LeNet", channels=1, size=8, classes=2) for _ in range(2))
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


def test_the_global_stream_stands_still() -> None:
    before = torch.get_rng_state()
    made = network("ResNet18BN")
    build("LeNet", channels=1, size=8, classes=2)
    reinitialize(made, seeded(2))
    assert torch.equal(before, torch.get_rng_state())


def test_the_values_are_pytorchs_defaults() -> None:
    made = network("ConvNetD2W8", size=8, classes=3, seed=5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        layers = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(32, 3)]
    ours = [made.features[0], made.features[4], made.classifier]
    for expected, got in zip(layers, ours, strict=True):
        assert isinstance(got, nn.Conv2d | nn.Linear)
        assert got.bias is not None
        assert expected.bias is not None
        torch.testing.assert_close(got.weight, expected.weight, rtol=1e-6, atol=0)
        torch.testing.assert_close(got.bias, expected.bias, rtol=1e-6, atol=0)
    bound = 1 / math.sqrt(3 * 9)
    assert 0.9 * bound < next(made.parameters()).abs().max() <= bound


@pytest.mark.parametrize("name", [*SMALL, "ConvNetW8BN", "ResNet18BN", "ViT"])
def test_reinitialize_is_build(name: str) -> None:
    made, expected = network(name, seed=3), network(name, seed=7)
    made(images(2))  # moves running statistics
    pointers = [p.data_ptr() for p in made.parameters()]
    reinitialize(made, seeded(7))
    assert pointers == [p.data_ptr() for p in made.parameters()]
    for key, value in expected.state_dict().items():
        assert torch.equal(value, made.state_dict()[key]), key


def test_reinitialize_ignores_dtype_and_memory_format() -> None:
    expected = network("ConvNetW8", seed=7)
    double = network("ConvNetW8").double()
    last = network("ConvNetW8").to(memory_format=torch.channels_last)
    for made in (double, last):
        reinitialize(made, seeded(7))
        for key, value in expected.state_dict().items():
            assert torch.equal(value, made.state_dict()[key].to(value)), key
    assert double.classifier.weight.dtype == torch.float64
    weight = last.get_parameter("features.4.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_reinitialize_on_any_device(device: torch.device) -> None:
    expected, made = network("ConvNetW8BN", seed=7), network("ConvNetW8BN").to(device)
    reinitialize(made, seeded(7))
    for key, value in expected.state_dict().items():
        assert torch.equal(value, made.state_dict()[key].cpu()), key
    own = torch.Generator(device).manual_seed(7)
    reinitialize(made, own)
    assert all(p.isfinite().all() for p in made.parameters())


def test_parameters_come_in_the_published_order() -> None:
    made = network("ConvNet", size=32, classes=10)
    names = [
        f"features.{index}.{kind}"
        for index in (0, 1, 4, 5, 8, 9)
        for kind in ("weight", "bias")
    ]
    expected = [*names, "classifier.weight", "classifier.bias"]
    assert [name for name, _ in made.named_parameters()] == expected


@pytest.mark.parametrize(
    ("name", "entries"), [("ConvNet", 12), ("ConvNetD4NN", 16), ("ConvNetD6NP", 24)]
)
def test_features_are_flat(name: str, entries: int) -> None:
    made = network(name)
    assert len(made.features) == entries
    assert list(made.features.modules())[1:] == list(made.features)
    assert all(isinstance(layer, nn.Conv2d) for layer in made.features[::4])


def test_published_parameters_load(parity: Path) -> None:
    tensors = load_file(parity / "parity.safetensors")
    prefix = "net."
    state = {
        key.removeprefix(prefix): value
        for key, value in tensors.items()
        if key.startswith(prefix)
    }
    made = network("ConvNet", size=32, classes=10)
    made.load_state_dict(state, strict=True)
    made.double()
    real, synthetic = tensors["real"].double(), tensors["syn"].double()
    with torch.no_grad():
        gap = made.embed(real).mean(0) - made.embed(synthetic).mean(0)
        entropy = F.cross_entropy(made(synthetic), tensors["label_syn"])
    # parity.json: plain.dm and plain.ce.
    assert gap.square().sum().item() == pytest.approx(81.45918424380035, rel=1e-6)
    assert entropy.item() == pytest.approx(2.3071411180945125, rel=1e-6)


@pytest.mark.parametrize("name", ["ConvNet", "VGG11", "ResNet18", "ResNet18_AP"])
def test_instance_norm_sees_one_image(name: str) -> None:
    made, pixels = network(name).double(), images(4).double()
    with torch.no_grad():
        together = made(pixels)
        alone = torch.cat([made(pixels[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(alone, together)
        torch.testing.assert_close(made.eval()(pixels), together)


@pytest.mark.slow
def test_batch_statistics_are_those_of_batch_norm() -> None:
    networks = {name: builder.assemble(name, 3, 32, 4) for name in NAMES}
    kept = [name for name, made in networks.items() if made.batch_statistics]
    assert kept == BATCH_NORM


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "ResNet101BN" else name
        for name in BATCH_NORM
    ],
)
def test_batch_norm_trains_and_evaluates(name: str) -> None:
    made, pixels = network(name), images(3)
    assert made.training
    norm = next(m for m in made.modules() if isinstance(m, nn.BatchNorm2d))
    with torch.no_grad():
        trained = made(pixels)
        assert norm.running_mean is not None
        assert norm.running_mean.abs().max() > 0
        made.eval()
        evaluated = made(pixels)
        alone = torch.cat([made(pixels[i : i + 1]) for i in range(3)])
    assert not torch.allclose(trained, evaluated)
    torch.testing.assert_close(alone, evaluated, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [*SMALL, "ConvNetW8GN", "ConvNetW8ASwish", "ConvNetW8AL", "ConvNetW8AS", "ViT"],
)
def test_stacked_networks_match_single_ones(name: str) -> None:
    made = [network(name, seed=seed).double() for seed in range(2)]
    pixels, labels = images(3).double(), torch.tensor([0, 1, 2])
    parameters, buffers = stack_module_state(made)

    def loss(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
        logits: Tensor = functional_call(made[0], (state, buffers), (pixels,))
        return F.cross_entropy(logits, labels)

    gradients = vmap(grad(loss), in_dims=(0, None), randomness="error")(
        parameters, pixels
    )
    for index, single in enumerate(made):
        value = F.cross_entropy(single(pixels), labels)
        expected = torch.autograd.grad(value, list(single.parameters()))
        for key, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(gradients[key][index], gradient)


@pytest.mark.parametrize("name", ["AlexNet", "VGG11", "ResNet18_AP", "ConvNetBN"])
def test_functional_call(name: str) -> None:
    made, other, pixels = network(name), network(name, seed=1), images(2)
    state = {key: value.clone() for key, value in other.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(functional_call(made, state, (pixels,)), other(pixels))


@pytest.mark.parametrize("name", ["ConvNet", "ConvNetBN", "LeNet", "MLP", "ResNet18"])
def test_channels_last_and_double(name: str) -> None:
    made, pixels = network(name).double().eval(), images(2).double()
    with torch.no_grad():
        expected = made.embed(pixels)
        last = made.embed(pixels.to(memory_format=torch.channels_last))
    assert expected.dtype == torch.float64
    torch.testing.assert_close(last, expected)


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("ConvNetD3W128INARAP", "ConvNet"),
        ("ConvNetAPINW32", "ConvNetW32"),
        ("ConvNetBNASwish", "ConvNetASwishBN"),
        ("ConvNetAPD1AR", "ConvNetD1"),
    ],
)
def test_tokens_come_in_any_order(name: str, same: str) -> None:
    torch.testing.assert_close(network(name)(images(2)), network(same)(images(2)))


def test_tokens_choose_the_layers() -> None:
    made = network("ConvNetASwishMPD4GNW64", size=32)
    kinds = [type(layer) for layer in made.features]
    assert kinds == [nn.Conv2d, nn.GroupNorm, nn.SiLU, nn.MaxPool2d] * 4
    assert made.features[1].num_groups == 4
    assert made.features[12].out_channels == 64
    assert isinstance(network("ConvNetLN").features[1], nn.LayerNorm)
    assert isinstance(network("ConvNetAS").features[2], nn.Sigmoid)
    assert network("ConvNetAL").features[2].negative_slope == 0.01


@pytest.mark.parametrize(
    "name",
    [
        "",
        "convnet",
        "ConvNetD0",
        "ConvNetD3D4",
        "ConvNetX",
        "ConvNetINBN",
        "ResNet18AP",
    ],
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"There are: ConvNet, .*ResNet18_AP"):
        network(name)


def test_a_near_miss_is_guessed() -> None:
    with pytest.raises(UsageError, match="Did you mean 'ResNet18_AP'"):
        network("ResNet18AP")


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="8 or more pixels"):
        network("ConvNet", size=7)
    with pytest.raises(UsageError, match="classes 0"):
        network("ConvNet", classes=0)
    with pytest.raises(UsageError, match="multiple of 4"):
        network("ConvNetW6GN")


def test_strides_of_grey_images_do_not_change_a_bit() -> None:
    plain = torch.rand(64, 1, 8, 8, generator=seeded())
    hinted = plain.as_strided(plain.shape, (64, 1, 8, 1))  # channels last, as well
    gradients = []
    for batch in (plain, hinted):
        module = network("ConvNetW32", channels=1)
        module(batch).square().sum().backward()
        gradients.append([each.grad for each in module.parameters()])
    for mine, theirs in zip(*gradients, strict=True):
        assert torch.equal(mine, theirs)
