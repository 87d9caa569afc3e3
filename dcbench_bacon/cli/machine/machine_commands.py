"""The commands about this machine: ``doctor``, ``cache`` and ``completion``."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dcbench_bacon.cli.arguments.options import (
    data_root_option,
    device_option,
    output_option,
)
from dcbench_bacon.runtime.monitoring.notice import noticed

if TYPE_CHECKING:
    from dcbench_bacon.cli.machine.doctor import Finding


@click.command(epilog="Example: dcbench doctor --data-root /data")
@device_option
@data_root_option
@output_option
def doctor(device: str, data_root: Path | None, output: Path) -> None:
    """Check this machine: each line says ok, or what is wrong and the remedy.

    The exit status is 0 if every line says ok, else 1.
    """
    with noticed(_say, "loading PyTorch"):
        from dcbench_bacon.cli.machine.doctor import examined

    raise SystemExit(show(examined(device, data_root, output)))


def show(findings: "Iterable[Finding]") -> int:
    """Print findings as they come; return the exit status, 0 if all is well."""
    well = True
    for finding in findings:
        well &= finding.ok
        click.echo(finding.line)
    return 0 if well else 1


@click.group(
    epilog="""\b
Examples:
  dcbench cache list
  dcbench cache clear decoded compiled
  DCBENCH_CACHE=/scratch/dcbench dcbench run ...     keeps all of it elsewhere
"""
)
def cache() -> None:
    """List or clear what is kept between runs and can be made again.

    DCBENCH_CACHE names the folder of it all; by default it is ~/.cache/dcbench.
    """


@cache.command(name="list", epilog="Example: dcbench cache list")
def list_() -> None:
    """List the caches with their sizes."""
    from dcbench_bacon.cli.sizes import size
    from dcbench_bacon.runtime.disk.caches import CACHES

    for cache in CACHES:
        click.echo(
            f"{cache.name:<10} {size(cache.size):>10}  {cache.folder}: {cache.title}"
        )


@cache.command(epilog="Example: dcbench cache clear decoded compiled")
@click.argument("names", nargs=-1, required=True, metavar="NAME...|all")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(names: tuple[str, ...], yes: bool) -> None:
    """Remove caches; the next run that needs them makes them again."""
    from dcbench_bacon.cli.sizes import size
    from dcbench_bacon.runtime.disk.caches import CACHES, cache_named

    chosen = list(CACHES) if "all" in names else [cache_named(name) for name in names]
    for cache in chosen:
        before = cache.size
        question = f"Remove {cache.folder} ({size(before)})?"
        if not cache.folder.exists():
            click.echo(f"{cache.name}: empty")
        elif yes or click.confirm(question):
            cache.clear()
            click.echo(f"{cache.name}: {size(before)} removed")


@click.command(
    epilog="""\b
Examples:
  echo 'eval "$(dcbench completion bash)"' >> ~/.bashrc
  dcbench completion zsh > "${fpath[1]}/_dcbench"
  dcbench completion fish > ~/.config/fish/completions/dcbench.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and names in a shell.

    Methods, data sets, networks and protocols are completed, also in lists such as
    bacon,idm.
    """
    from click.shell_completion import get_completion_class

    kind: Any = get_completion_class(shell)
    program = kind(context.find_root().command, {}, "dcbench", "_DCBENCH_COMPLETE")
    click.echo(program.source_template % program.source_vars())


def _say(line: str) -> None:
    """Show a line on standard error."""
    click.echo(line, err=True)
