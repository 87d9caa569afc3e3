"""Matching objectives: from real and synthetic features to one loss per class.

All functions work on the last two axes (images, features), so that one call serves
every class. Real features carry no gradient. BACON is arXiv:2406.01112; its released
code differs from the paper, and this module has both forms (``form``).
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dcbench_bacon.training.clip_model import SemanticScore as SemanticScore

Form = Literal["released", "paper"]
Clip = Literal["released", "range", "semantic"]
SIGMA_FLOOR = 1e-3  # keeps a feature that is constant over the batch from dividing by 0


class Matched(NamedTuple):
    """The inputs of an objective for one step and c classes.

    Attributes:
        real: features of the augmented real images.
        synthetic: features of the augmented, decoded synthetic images.
        images: the decoded synthetic images themselves, before augmentation.
        classes: the class index of each row.
    """

    real: Float[Tensor, "c n d"]
    synthetic: Float[Tensor, "c m d"]
    images: Float[Tensor, "c m ch h w"]
    classes: Tensor


Objective = Callable[[Matched], Float[Tensor, "c"]]


class BaconTerms(NamedTuple):
    """BACON's three terms without weights, one value per class."""

    likelihood: Float[Tensor, "*c"]
    total_variation: Float[Tensor, "*c"]
    clip: Float[Tensor, "*c"]


def squared_mean_distance(
    real: Float[Tensor, "*c n d"], synthetic: Float[Tensor, "*c m d"]
) -> Float[Tensor, "*c"]:
    """Return the squared distance of mean features (DM, equation 4; IDM's loss)."""
    return (synthetic.mean(-2) - real.mean(-2)).square().sum(-1)


def bacon_terms(
    real: Float[Tensor, "*c n d"],
    synthetic: Float[Tensor, "*c m d"],
    *,
    form: Form = "released",
    clip: Clip = "released",
    semantic: Float[Tensor, "*c"] | None = None,
) -> BaconTerms:
    """Return the Gaussian negative log-likelihood, total variation and CLIP terms.

    Args:
        real: features of at least two real images per class.
        synthetic: features of the synthetic images.
        form: ``released`` compares the two means and takes exp(standard deviation)
            for sigma, as the published code does. ``paper`` compares the synthetic
            mean with every real feature and averages (equations of section 3.3, with
            the sign of a loss and sigma squared under the logarithm); sigma is the
            standard deviation.
        clip: ``released`` is identically zero: the published code clips a difference
            of means of softmax vectors, and such a mean is 1/d on both sides.
            ``range`` is the paper's term: the part of the standardised difference
            outside [0, 1], squared. ``semantic`` takes the value of ``semantic``.
        semantic: the loss of each class by an image-text model; see
            ``training/clip_model.py``.

    Raises:
        ValueError: there are fewer than two real images per class, or ``clip`` is
            ``semantic`` and its value is missing.
    """
    if real.shape[-2] < 2:
        raise ValueError("BACON's sigma needs at least two real images per class")
    deviation = real.std(-2)
    mean = synthetic.mean(-2)
    if form == "released":
        log_sigma = deviation
        difference = (mean - real.mean(-2)).unsqueeze(-2)
    else:
        log_sigma = deviation.clamp_min(SIGMA_FLOOR).log()
        difference = mean.unsqueeze(-2) - real
    standardised = difference * torch.exp(-log_sigma).unsqueeze(-2)
    constant = (0.5 * math.log(2 * math.pi) + log_sigma).sum(-1)
    likelihood = constant + 0.5 * standardised.square().sum(-1).mean(-1)
    total_variation = 0.5 * difference.abs().sum(-1).mean(-1)
    return BaconTerms(
        likelihood, total_variation, _clip(standardised, clip, likelihood, semantic)
    )


def _clip(
    standardised: Float[Tensor, "*c n d"],
    clip: Clip,
    like: Float[Tensor, "*c"],
    semantic: Float[Tensor, "*c"] | None,
) -> Float[Tensor, "*c"]:
    if clip == "released":
        return torch.zeros_like(like)
    if clip == "range":
        outside = standardised - standardised.clamp(0, 1)
        return outside.square().sum(-1).mean(-1)
    if semantic is None:
        raise ValueError(
            "clip='semantic' needs the losses of an image-text model: pass semantic="
        )
    return semantic


class SquaredMeanDistance:
    """DM's and IDM's objective."""

    def __call__(self, matched: Matched) -> Float[Tensor, "c"]:
        """Return the loss of each class."""
        return squared_mean_distance(matched.real, matched.synthetic)


class Bacon:
    """BACON's objective: likelihood + weight * TV + (1 - weight) * CLIP.

    Args:
        form: see ``bacon_terms``.
        clip: see ``bacon_terms``.
        weight: lambda of the paper, in [0, 1]; 0.8 in the released code.
        score: needed for ``clip='semantic'``: computes one loss per class from
            images and class indices.
        likelihood: whether the likelihood counts; an ablation leaves it out.
    """

    def __init__(
        self,
        form: Form = "released",
        clip: Clip = "released",
        weight: float = 0.8,
        score: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        likelihood: bool = True,
    ) -> None:
        """Keep the options."""
        self.form: Form = form
        self.clip: Clip = clip
        self.weight = weight
        self.score = score
        self.likelihood = likelihood

    def __call__(self, matched: Matched) -> Float[Tensor, "c"]:
        """Return the loss of each class."""
        semantic = self.score(matched.images, matched.classes) if self.score else None
        terms = bacon_terms(
            matched.real,
            matched.synthetic,
            form=self.form,
            clip=self.clip,
            semantic=semantic,
        )
        others = self.weight * terms.total_variation + (1 - self.weight) * terms.clip
        return terms.likelihood + others if self.likelihood else others


class Sum:
    """The sum of objectives: ``bacon+idm`` adds BACON's terms to IDM's loss."""

    def __init__(self, *objectives: Objective) -> None:
        """Keep the objectives to add."""
        self.objectives = objectives

    def __call__(self, matched: Matched) -> Float[Tensor, "c"]:
        """Return the loss of each class."""
        return torch.stack([part(matched) for part in self.objectives]).sum(0)
