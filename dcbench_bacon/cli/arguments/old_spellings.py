"""Former spellings that work for one more release, hidden and with a note."""

from collections.abc import Callable
from typing import Any, get_args

import click

from dcbench_bacon.field_types import Preset

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

COMMANDS = {"profile": "time"}  # the old name of a command: its name now


def command_named(name: str) -> str:
    """Return the name of a command as it is now; print a note if that is another."""
    if name not in COMMANDS:
        return name
    _tell(f"dcbench {name}", f"dcbench {COMMANDS[name]}")
    return COMMANDS[name]


def formerly(old: str, now: str, parameter: str, **given: Any) -> Decorator:
    """Return a decorator that adds a hidden option, which sets another one.

    Args:
        old: the former name, such as ``--profile``.
        now: the name of the option that it sets.
        parameter: the parameter of that option.
        given: how the option is parsed, as ``click.option`` takes it.
    """

    def pass_on(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            _tell(old, now)
            context.default_map = {**(context.default_map or {}), parameter: value}

    return click.option(
        old,
        hidden=True,
        help=f"The former name of {now}.",
        expose_value=False,
        is_eager=True,  # so that it is read before the other
        callback=pass_on,
        **given,
    )


def former_preset(parameter: str, *, multiple: bool) -> Decorator:
    """Return a decorator that adds ``--profile``, the former name of ``--preset``."""
    kind = click.Choice(get_args(Preset))
    return formerly("--profile", "--preset", parameter, type=kind, multiple=multiple)


former_epochs = formerly("--passes", "--epochs", "epochs", type=click.IntRange(min=1))


def _tell(old: str, new: str) -> None:
    """Print a note about a new spelling."""
    click.echo(f"note: {old} is now {new}; the next release knows {new} only", err=True)
