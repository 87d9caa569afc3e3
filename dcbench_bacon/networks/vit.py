"""A small vision transformer (Dosovitskiy et al., ICLR 2021) of the size in DC-BENCH.

DC-BENCH trains it on 32 pixels with patches of 4 pixels, width 512, depth 6, 8 heads,
hidden width 512 and dropout 0.1. Here the patches follow from the size of the images,
so that 32 and 64 pixels both give 8x8 patches. There is no dropout, because its random
numbers could be neither seeded nor restored from a checkpoint.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

WIDTH, DEPTH, HEADS, HIDDEN = 512, 6, 8, 512


class Tokens(nn.Module):
    """The layer from patches to tokens: it adds a class token and learned positions."""

    def __init__(self, count: int) -> None:
        """Make the parameters for ``count`` patches; ``draw`` gives them values."""
        super().__init__()
        self.first = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.empty(1, count + 1, WIDTH))

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw standard normal values, as in the code that DC-BENCH is based on."""
        for parameter in (self.first, self.positions):
            values = torch.empty(parameter.shape, device=generator.device)
            parameter.copy_(values.normal_(generator=generator))

    def forward(self, maps: Float[Tensor, "n d y x"]) -> Float[Tensor, "n t d"]:
        """Return the class token and the embedded patches with positions added."""
        patches = maps.flatten(2).transpose(1, 2)
        first = self.first.expand(len(maps), -1, -1)
        return torch.cat([first, patches], 1) + self.positions


class Attention(nn.Module):
    """The self-attention after a norm, added to its input.

    It does not use PyTorch's fused kernels, because they have no second derivative on a
    CPU, which gradient matching needs.
    """

    def __init__(self) -> None:
        """Make the norm and the two projections."""
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.inwards = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.outwards = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """Return the tokens after attention to all tokens."""
        split = self.inwards(self.norm(tokens)).unflatten(2, (3, HEADS, -1))
        queries, keys, values = split.permute(2, 0, 3, 1, 4).unbind(0)
        scores = queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5
        mixed = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
        looked: Tensor = self.outwards(mixed)
        return tokens + looked


class FeedForward(nn.Module):
    """The two linear layers after a norm, added to their input."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, WIDTH),
        )

    def forward(self, tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """Return the tokens, each changed independently of the others."""
        changed: Tensor = self.body(tokens)
        return tokens + changed


class First(nn.Module):
    """The layer that keeps the class token alone."""

    def forward(self, tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n d"]:
        """Return the class token."""
        return tokens[:, 0]


def patch_size(size: int) -> int:
    """Return the pixels along a side of a patch.

    This is the largest divisor of ``size`` that is at most 4 or at most an eighth of
    ``size``.
    """
    most = max(4, size // 8)
    return max(patch for patch in range(1, most + 1) if size % patch == 0)


def layers(channels: int, size: int) -> list[nn.Module]:
    """Return the layers from images to the normalised class token."""
    patch = patch_size(size)
    blocks = [block() for _ in range(DEPTH) for block in (Attention, FeedForward)]
    return [
        nn.Conv2d(channels, WIDTH, patch, stride=patch),
        Tokens((size // patch) ** 2),
        *blocks,
        First(),
        nn.LayerNorm(WIDTH),
    ]
