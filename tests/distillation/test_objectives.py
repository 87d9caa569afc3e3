"""Objectives against closed forms, distributions and loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcbench_bacon.distillation.objectives import (
    Bacon,
    Clip,
    Form,
    Matched,
    SquaredMeanDistance,
    Sum,
    bacon_terms,
    squared_mean_distance,
)


def features(
    seed: int = 0, real: int = 7, synthetic: int = 4, width: int = 5
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(real, width, generator=generator),
        torch.randn(synthetic, width, generator=generator) + 0.3,
    )


def test_squared_mean_distance_by_hand() -> None:
    real = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    synthetic = torch.tensor([[0.0, 0.0], [2.0, 2.0], [4.0, 1.0]])
    assert float(squared_mean_distance(real, synthetic)) == pytest.approx(0 + 4.0)


def test_likelihood_is_the_gaussian_negative_log_density() -> None:
    real, synthetic = features()
    normal = torch.distributions.Normal(real.mean(0), real.std(0).exp())
    density = normal.log_prob(synthetic.mean(0))  # type: ignore[no-untyped-call]
    expected = -density.sum()
    assert torch.isclose(bacon_terms(real, synthetic).likelihood, expected)


def test_likelihood_gradient_is_the_standardised_difference() -> None:
    real, synthetic = features()
    synthetic.requires_grad_()
    loss = bacon_terms(real, synthetic).likelihood
    (gradient,) = torch.autograd.grad(loss, synthetic)
    sigma = real.std(0).exp()
    expected = (synthetic.detach().mean(0) - real.mean(0)) / sigma**2 / len(synthetic)
    assert torch.allclose(gradient, expected.expand_as(synthetic), atol=1e-6)


def test_likelihood_is_finite_where_a_density_underflows() -> None:
    real, synthetic = features()
    far = (synthetic + 50 * real.std(0).exp().max()).requires_grad_()
    loss = bacon_terms(real, far).likelihood
    (gradient,) = torch.autograd.grad(loss, far)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("form", ["released", "paper"])
def test_released_clip_is_zero(form: Form) -> None:
    assert float(bacon_terms(*features(), form=form).clip) == 0


@pytest.mark.parametrize("clip", ["released", "range"])
def test_paper_form_against_loops(clip: Clip) -> None:
    real, synthetic = features()
    mean, sigma = synthetic.mean(0), real.std(0)
    nll = variation = outside = 0.0
    for row in real:
        for j in range(len(row)):
            z = float((mean[j] - row[j]) / sigma[j])
            nll += 0.5 * math.log(2 * math.pi * float(sigma[j]) ** 2) + z * z / 2
            variation += 0.5 * abs(float(mean[j] - row[j]))
            outside += (z - min(max(z, 0.0), 1.0)) ** 2
    terms = bacon_terms(real, synthetic, form="paper", clip=clip)
    k = len(real)
    assert float(terms.likelihood) == pytest.approx(nll / k, rel=1e-5)
    assert float(terms.total_variation) == pytest.approx(variation / k, rel=1e-5)
    assert float(terms.clip) == pytest.approx(
        outside / k if clip == "range" else 0, rel=1e-5
    )


def test_range_clip_of_means_in_the_released_form() -> None:
    real, synthetic = features()
    u = (synthetic.mean(0) - real.mean(0)) / real.std(0).exp()
    expected = sum(float(x - min(max(x, 0), 1)) ** 2 for x in u.tolist())
    terms = bacon_terms(real, synthetic, clip="range")
    assert float(terms.clip) == pytest.approx(expected, rel=1e-5)


def test_constant_features_stay_finite_in_the_paper_form() -> None:
    real = torch.ones(4, 3)
    synthetic = torch.zeros(2, 3, requires_grad=True)
    terms = bacon_terms(real, synthetic, form="paper", clip="range")
    (gradient,) = torch.autograd.grad(torch.stack(list(terms)).sum(), synthetic)
    assert torch.isfinite(gradient).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6), st.integers(1, 5), st.integers(1, 4))
def test_batched_classes_equal_one_at_a_time(
    seed: int, real: int, synthetic: int, classes: int
) -> None:
    pairs = [features(seed + c, real, synthetic) for c in range(classes)]
    both = [torch.stack(side) for side in zip(*pairs, strict=True)]
    for form in ("released", "paper"):
        for clip in ("released", "range"):
            batched = bacon_terms(*both, form=form, clip=clip)
            for c, pair in enumerate(pairs):
                single = bacon_terms(*pair, form=form, clip=clip)
                for whole, one in zip(batched, single, strict=True):
                    assert torch.allclose(whole[c], one, rtol=1e-5, atol=1e-6)


def test_semantic_takes_the_score_and_asks_for_it() -> None:
    score = torch.tensor(0.25)
    terms = bacon_terms(*features(), clip="semantic", semantic=score)
    assert float(terms.clip) == 0.25
    with pytest.raises(ValueError, match="image-text model"):
        bacon_terms(*features(), clip="semantic")


def test_one_real_image_has_no_deviation() -> None:
    with pytest.raises(ValueError, match="two real images"):
        bacon_terms(torch.ones(1, 3), torch.ones(2, 3))


def matched() -> Matched:
    real, synthetic = features()
    images = torch.zeros(1, len(synthetic), 1, 2, 2)
    return Matched(real[None], synthetic[None], images, torch.tensor([0]))


def test_objectives_weight_and_add_their_terms() -> None:
    step = matched()
    terms = bacon_terms(step.real, step.synthetic, clip="range")
    expected = terms.likelihood + 0.3 * terms.total_variation + 0.7 * terms.clip
    bacon = Bacon(clip="range", weight=0.3)
    assert torch.allclose(bacon(step), expected)
    without = Bacon(clip="range", weight=0.3, likelihood=False)
    assert torch.allclose(without(step), expected - terms.likelihood)
    both = Sum(SquaredMeanDistance(), bacon)(step)
    distance: Tensor = squared_mean_distance(step.real, step.synthetic)
    assert torch.allclose(both, expected + distance)
