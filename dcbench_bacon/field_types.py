"""The types of values in recipes and records. This module does not import torch."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, to_builtins
from msgspec.structs import fields

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
Use = Literal["continual", "nas", "slim"]
"""A downstream use of sets, and the folder of its records."""
IdentifiedBy = Literal["content", "sizes and times"]


_REDUCTION: tuple[Preset, ...] = ("paper", "quick", "demo")


def more_reduced(one: Preset, other: Preset) -> Preset:
    """Return the preset that is further from the published settings."""
    return max(one, other, key=_REDUCTION.index)


def without_later(struct: Struct, later: Collection[str]) -> dict[str, Any]:
    """Return the values of a struct without later fields that are at their default.

    Digests of these values stay what they were before the fields came.

    Args:
        struct: the values.
        later: the names of the fields that came later.
    """
    left_out = {
        field.name
        for field in fields(struct)
        if field.name in later and getattr(struct, field.name) == field.default
    }
    values: dict[str, Any] = to_builtins(struct)
    return {name: value for name, value in values.items() if name not in left_out}
