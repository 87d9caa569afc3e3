"""Former spellings that work for one more release, hidden and with a note."""

from collections.abc import Callable
from typing import Any, get_args

import click

from dcbench_bacon.field_types import Preset

COMMANDS = {"profile": "time"}  # the old name of a command: its name now


def command_named(name: str) -> str:
    """Return the name of a command as it is now; print a note if that is another."""
    if name not in COMMANDS:
        return name
    _tell(f"dcbench {name}", f"dcbench {COMMANDS[name]}")
    return COMMANDS[name]


def with_profile(function: Callable[..., Any], *, multiple: bool) -> Callable[..., Any]:
    """Add a hidden ``--profile``, which sets the option ``--preset``.

    Args:
        function: the function of a command.
        multiple: whether the option may be repeated.
    """

    def pass_on(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            _tell("--profile", "--preset")
            preset = {"presets" if multiple else "preset": value}
            context.default_map = {**(context.default_map or {}), **preset}

    return click.option(
        "--profile",
        type=click.Choice(get_args(Preset)),
        multiple=multiple,
        hidden=True,
        help="The former name of --preset.",
        expose_value=False,
        is_eager=True,  # so that it is read before --preset
        callback=pass_on,
    )(function)


def _tell(old: str, new: str) -> None:
    """Print a note about a new spelling."""
    click.echo(f"note: {old} is now {new}; the next release knows {new} only", err=True)
