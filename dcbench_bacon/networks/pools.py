"""The evaluation pools of the literature, by the letters they are typed with.

They are those of ``get_eval_pool`` (``utils.py`` of VICO-UoE/DatasetCondensation),
which DM, IDM and BACON share. Records hold the plain names that a pool stands for.
"""

from collections.abc import Iterable, Sequence

from dcbench_bacon.networks import builder
from dcbench_bacon.schema import Recipe

SAME = {
    "S": "the network of the distillation, its batch norm replaced by instance norm",
    "SS": "the network of the distillation itself",
}
EVERY = "all"
POOLS: dict[str, tuple[str, ...]] = {
    "M": ("MLP", "ConvNet", "LeNet", "AlexNet", "VGG11", "ResNet18"),
    "B": ("ConvNetBN", "ConvNetASwishBN", "AlexNetBN", "VGG11BN", "ResNet18BN"),
    "W": ("ConvNetW32", "ConvNetW64", "ConvNetW128", "ConvNetW256"),
    "D": ("ConvNetD1", "ConvNetD2", "ConvNetD3", "ConvNetD4"),
    "A": ("ConvNetAS", "ConvNetAR", "ConvNetAL", "ConvNetASwish"),
    "P": ("ConvNetNP", "ConvNetMP", "ConvNetAP"),
    "N": ("ConvNetNN", "ConvNetBN", "ConvNetLN", "ConvNetIN", "ConvNetGN"),
}


def expand(
    names: Iterable[str], distilled_on: str, every: Sequence[str]
) -> tuple[str, ...]:
    """Replaces pools by their networks; each network once, in the order given.

    Args:
        names: of networks and pools; what is no pool stays as it is.
        distilled_on: the network that ``S`` and ``SS`` stand for.
        every: the networks that ``all`` stands for.
    """
    same = {"S": distilled_on.replace("BN", ""), "SS": distilled_on}
    choices = POOLS | {key: (name,) for key, name in same.items()}
    choices[EVERY] = tuple(every)
    found = (name for given in names for name in choices.get(given, (given,)))
    return tuple(dict.fromkeys(found))


def described(every: int) -> dict[str, str]:
    """What each letter stands for, in words.

    Args:
        every: the number of networks that ``all`` stands for.
    """
    lists = {key: ", ".join(pool) for key, pool in POOLS.items()}
    return {**SAME, **lists, EVERY: f"the {every} networks above"}


DISTILLED_ON = "ConvNet"  # stands in where a set was selected, not distilled


def check_architectures(names: Iterable[str]) -> None:
    """Makes sure that there is a network or a pool of each name.

    Raises:
        UsageError: there is none.
    """
    for name in plain(names, DISTILLED_ON):
        builder.check(name)


def distilled_on(found: Recipe) -> str:
    """The network of a recipe; for a method without one the field's default."""
    return str(found.settings.get("architecture") or DISTILLED_ON)


def plain(names: Iterable[str], source: str) -> tuple[str, ...]:
    """Names of networks in place of pools.

    Args:
        names: as they were typed.
        source: the network that the set was distilled on.
    """
    return expand(names, source, builder.names())
