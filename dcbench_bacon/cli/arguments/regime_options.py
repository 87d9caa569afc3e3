"""The options of label regimes and of the budget of updates."""

from typing import get_args

import click

from dcbench_bacon.cli.arguments.decorators import options
from dcbench_bacon.field_types import Regime


class Budget(click.ParamType[int]):
    """A budget such as ``updates=1000``."""

    name = "budget"

    def convert(
        self,
        value: int | str,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int:
        """Return the number of updates."""
        if isinstance(value, int):
            return value
        kind, _, number = value.partition("=")
        if kind.strip() != "updates" or not number.strip().isdecimal():
            self.fail(f"{value!r}: write updates=N, such as updates=1000", param, ctx)
        if not int(number):
            self.fail("updates=0 trains nothing; give 1 or more updates", param, ctx)
        return int(number)


budget_option = click.option(
    "--budget",
    type=Budget(),
    metavar="updates=N",
    help="Train every network for N updates, whatever the size of the set; by default "
    "for the epochs of the protocol.",
)
regime_options = options(
    click.option(
        "--regime",
        type=click.Choice(get_args(Regime)),
        help="The labels of the evaluation: hard are classes (HL), soft is one vector "
        "per image that the teachers of the protocol make once (SL), renewed are their "
        "labels of every augmented batch (SL+KD). --set protocol.teachers=[...] names "
        "other teachers.",
    ),
    budget_option,
)
