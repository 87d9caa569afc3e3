"""The evaluation pools of the literature, by the letters that users type.

They are those of ``get_eval_pool`` (``utils.py`` of VICO-UoE/DatasetCondensation),
which DM, IDM and BACON share. Records contain the names of the networks of a pool.
"""

from collections.abc import Iterable, Sequence

from dcbench_bacon.networks import builder
from dcbench_bacon.networks.pool_names import EVERY, POOLS
from dcbench_bacon.schema import Recipe

SAME = {
    "S": "the network of the distillation, its batch norm replaced by instance norm",
    "SS": "the network of the distillation itself",
}


def expand(
    names: Iterable[str], distilled_on: str, every: Sequence[str]
) -> tuple[str, ...]:
    """Return the names with pools replaced by their networks, each network once.

    Args:
        names: names of networks and pools; the order is kept.
        distilled_on: the network that ``S`` and ``SS`` mean.
        every: the networks that ``all`` means.
    """
    same = {"S": distilled_on.replace("BN", ""), "SS": distilled_on}
    choices = POOLS | {key: (name,) for key, name in same.items()}
    choices[EVERY] = tuple(every)
    networks = (name for given in names for name in choices.get(given, (given,)))
    return tuple(dict.fromkeys(networks))


def descriptions(every: int) -> dict[str, str]:
    """Return a description of each pool by its letter.

    Args:
        every: the number of networks that ``all`` means.
    """
    lists = {key: ", ".join(pool) for key, pool in POOLS.items()}
    return {**SAME, **lists, EVERY: f"the {every} networks above"}


DISTILLED_ON = "ConvNet"  # for a set that was selected without a network


def check_architectures(names: Iterable[str]) -> None:
    """Make sure that each name is a network or a pool.

    Raises:
        UsageError: a name is neither; the message lists the networks.
    """
    for name in network_names(names, DISTILLED_ON):
        builder.check(name)


def distilled_on(recipe: Recipe) -> str:
    """Return the network of a recipe, or ``DISTILLED_ON`` if it has none."""
    return str(recipe.settings.get("architecture") or DISTILLED_ON)


def network_names(names: Iterable[str], source: str) -> tuple[str, ...]:
    """Return the names of networks for names of networks and pools.

    Args:
        names: the names as typed.
        source: the network that the set was distilled on.
    """
    return expand(names, source, builder.names())
