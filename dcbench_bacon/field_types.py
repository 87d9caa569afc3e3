"""The types of values in recipes and records. This module does not import torch."""

from typing import Annotated, Literal

from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Status = Literal["done", "failed", "diverged"]
Selection = Literal["final", "best_val", "best_test"]
CompileMode = Literal["auto", "on", "off"]
Precision = Literal["fp32", "tf32", "bf16"]
Preset = Literal["demo", "quick", "paper"]
Optimiser = Literal["sgd", "adamw"]
RateSchedule = Literal["drop", "cosine", "ssrs", "multistep"]
Loss = Literal["ce", "kl", "mse"]
Labelling = Literal["own", "hard", "soft"]
Regime = Literal["hard", "soft", "renewed"]
MixingKind = Literal["none", "mixup", "cutmix"]
ResidualInit = Literal["default", "fan_out"]
AboveZero = Annotated[float, Meta(gt=0)]
# The largest number of parts along a side of an image. Published sets have 2 or 3, and
# decoding makes as many images as the square of this number.
MOST_PARTS = 4
Parts = Annotated[int, Meta(ge=1, le=MOST_PARTS)]
LabelKind = Literal["hard", "soft", "unknown"]
IdentifiedBy = Literal["content", "sizes and times"]


_REDUCTION: tuple[Preset, ...] = ("paper", "quick", "demo")


def more_reduced(one: Preset, other: Preset) -> Preset:
    """Return the preset that is further from the published settings."""
    return max(one, other, key=_REDUCTION.index)
