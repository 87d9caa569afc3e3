"""The command line of dcbench; heavy modules load inside the commands."""

import io
import logging
import os
import sys
from typing import Any

import click

from dcbench_bacon import __version__
from dcbench_bacon.cli.arguments import old_spellings
from dcbench_bacon.cli.cells import downstream_commands, run_commands, set_commands
from dcbench_bacon.cli.endings import INTERRUPTED, fail, going_on
from dcbench_bacon.cli.machine import data_commands, machine_commands
from dcbench_bacon.cli.results import list_commands, plot_commands, report_commands
from dcbench_bacon.errors import (
    DcbenchError,
    InterruptedRunError,
    UsageError,
    guess,
)


class Commands(click.Group):
    """A group of commands that shows errors without a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the program; after an interruption, do not wait for threads of torch.

        A compilation that was left has processes that Python would wait for.
        """
        _write_whatever_can_be_shown()
        try:
            return super().main(*args, **extra)
        except SystemExit as end:
            if end.code == INTERRUPTED and not args and not extra:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(INTERRUPTED)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn errors that a user can mend into messages and codes."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            fail(str(error), 2)
        except InterruptedRunError as error:
            fail(f"{error}; {error.kept}. {going_on(noted=error.noted)}", INTERRUPTED)
        except DcbenchError as error:
            fail(str(error), 1)
        except KeyboardInterrupt:
            fail(f"interrupted at once. {going_on(noted=False)}", INTERRUPTED)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the named command; if there is none, name the nearest one."""
        args = [*map(old_spellings.command_named, args[:1]), *args[1:]]
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            near, known = guess(args[0], self.commands), ", ".join(self.commands)
            raise click.UsageError(
                f"no such command {args[0]!r}.{near} There are: {known}", ctx
            )
        return super().resolve_command(ctx, args)


def _write_whatever_can_be_shown() -> None:
    """Make the terminal show ``?`` for characters that its encoding does not have.

    A result must not be lost because a table has a sign such as ± or a path has bytes
    that are no text.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "DCBENCH",
        "max_content_width": 100,
    },
    epilog="Start with `dcbench run`: a demo that ends within 90 seconds.",
)
@click.version_option(__version__, prog_name="dcbench")
@click.option("-v", "--verbose", is_flag=True, help="Also print debugging messages.")
def main(verbose: bool) -> None:
    """Distil image data sets, evaluate them fairly, print the tables."""
    level = logging.DEBUG if verbose else logging.WARNING
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dcbench_bacon").setLevel(level)


for _command in (
    run_commands.run,
    set_commands.evaluate,
    set_commands.convert,
    downstream_commands.continual,
    downstream_commands.nas,
    downstream_commands.slim,
    set_commands.quality,
    report_commands.table,
    plot_commands.plot,
    report_commands.report,
    list_commands.status,
    run_commands.time,
    list_commands.list_,
    list_commands.show,
    data_commands.data,
    list_commands.check,
    machine_commands.doctor,
    machine_commands.cache,
    machine_commands.completion,
):
    main.add_command(_command)
