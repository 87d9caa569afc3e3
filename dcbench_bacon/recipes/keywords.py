"""From keyword arguments of Python to what is asked of recipes."""

from collections.abc import Mapping
from typing import Any

import msgspec

from dcbench_bacon.errors import UsageError
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.recipes.protocols import Request


def request_from(
    preset: str,
    protocol: str | None,
    architectures: tuple[str, ...],
    settings: Mapping[str, Any],
    regime: str | None = None,
) -> Request:
    """Return what keyword arguments ask of recipes, as ``--set`` would.

    Args:
        preset: ``paper``, ``quick`` or ``demo``.
        protocol: of the evaluation; None for the default.
        architectures: that are trained on the set; those of the protocol if empty.
        settings: values by key of a recipe.
        regime: the label regime; None for that of the protocol.

    Raises:
        UsageError: there is no such preset, protocol or regime.
    """
    try:
        return request_of(
            "paper",
            preset=preset,
            overrides=tuple(f"{key}={_text(value)}" for key, value in settings.items()),
            architectures=architectures,
            protocol=protocol,
            regime=regime,
        )
    except msgspec.ValidationError as error:
        if regime is not None and "regime" in str(error):
            message = f"regime {regime!r}: choose hard, soft or renewed"
        else:
            message = f"preset {preset!r}: choose paper, quick or demo"
        raise UsageError(message) from error


def _text(value: Any) -> str:
    """Return a value as it is typed after ``--set``."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
