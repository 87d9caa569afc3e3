"""A small vision transformer (Dosovitskiy et al., ICLR 2021), sized as in DC-BENCH.

DC-BENCH trains patch 4, width 512, depth 6, 8 heads, hidden width 512 and dropout 0.1
on 32 pixels. Here the patch follows from the size, so that 32 and 64 pixels both make
8x8 patches, and there is no dropout: its draws would be neither seeded nor resumed.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

WIDTH, DEPTH, HEADS, HIDDEN = 512, 6, 8, 512


class Tokens(nn.Module):
    """Patches as tokens after a class token, with learned positions added."""

    def __init__(self, count: int) -> None:
        """Makes the parameters for ``count`` patches; ``draw`` gives them values."""
        super().__init__()
        self.first = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.empty(1, count + 1, WIDTH))

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Standard normal values, as in the code that DC-BENCH builds on."""
        for parameter in (self.first, self.positions):
            values = torch.empty(parameter.shape, device=generator.device)
            parameter.copy_(values.normal_(generator=generator))

    def forward(self, maps: Float[Tensor, "n d y x"]) -> Float[Tensor, "n t d"]:
        """Flattens the maps of embedded patches."""
        patches = maps.flatten(2).transpose(1, 2)
        first = self.first.expand(len(maps), -1, -1)
        return torch.cat([first, patches], 1) + self.positions


class Attention(nn.Module):
    """Self-attention after a norm, added to its input.

    Written out, because the fused kernels have no second derivative on a CPU, which
    gradient matching takes.
    """

    def __init__(self) -> None:
        """Makes the norm and the two projections."""
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.inwards = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.outwards = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """Lets every token look at all others."""
        split = self.inwards(self.norm(tokens)).unflatten(2, (3, HEADS, -1))
        queries, keys, values = split.permute(2, 0, 3, 1, 4).unbind(0)
        scores = queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5
        mixed = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
        looked: Tensor = self.outwards(mixed)
        return tokens + looked


class FeedForward(nn.Module):
    """Two linear layers after a norm, added to their input."""

    def __init__(self) -> None:
        """Makes the layers."""
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, WIDTH),
        )

    def forward(self, tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """Transforms each token by itself."""
        changed: Tensor = self.body(tokens)
        return tokens + changed


class First(nn.Module):
    """The class token alone."""

    def forward(self, tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n d"]:
        """Drops the patches."""
        return tokens[:, 0]


def patch_size(size: int) -> int:
    """Pixels along a side of a patch, which divides the image.

    The largest divisor of ``size`` that is at most 4 or at most an eighth of it.
    """
    most = max(4, size // 8)
    return max(patch for patch in range(1, most + 1) if size % patch == 0)


def layers(channels: int, size: int) -> list[nn.Module]:
    """The layers from images to the normalised class token."""
    patch = patch_size(size)
    blocks = [block() for _ in range(DEPTH) for block in (Attention, FeedForward)]
    return [
        nn.Conv2d(channels, WIDTH, patch, stride=patch),
        Tokens((size // patch) ** 2),
        *blocks,
        First(),
        nn.LayerNorm(WIDTH),
    ]
