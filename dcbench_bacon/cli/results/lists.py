"""Lists of what exists, as text.

Most of them do not need torch, which is imported only where it is needed.
"""

from dcbench_bacon.exchange.formats import FORMATS, Format
from dcbench_bacon.plugins import DATASETS, METHODS, Registry
from dcbench_bacon.recipes import grids, protocols


def listing(what: str) -> str:
    """Return the names of a kind, each with a line about it.

    Args:
        what: ``methods``, ``datasets``, ``architectures``, ``protocols``,
            ``augmentations``, ``formats`` or ``grids``.
    """
    if what == "architectures":
        from dcbench_bacon.networks import (
            builder,
            pools,  # imported here, because networks need torch
        )

        names = builder.names()
        more = {
            "ConvNet...": "D<depth> W<width> AS|AR|AL|ASwish NN|BN|LN|IN|GN NP|MP|AP",
            "VGG11W..., ResNet18W...": "another width than 64, as in ResNet18W16BN",
            "torchvision:NAME": "a classifier of torchvision, without weights",
            "timm:NAME": "a classifier of timm (pip install timm), without weights",
        }
        return "\n".join([*names, "", _columns(more | pools.descriptions(len(names)))])
    if what == "augmentations":
        return _augmentations()
    if what == "protocols":
        return _columns(protocols.protocol_titles())
    if what == "grids":
        return _columns(grids.grid_titles())
    if what == "formats":
        return _columns({name: _format(format) for name, format in FORMATS.items()})
    registry: Registry = METHODS if what == "methods" else DATASETS
    return _columns({name: registry.summary(name) for name in registry.names()})


def _augmentations() -> str:
    """Return DSA operations and policies, each with a line about it."""
    from dcbench_bacon.augmentation import (
        kornia_modules,
        policies,  # imported here, because they need torch and Kornia
    )

    operations = {
        "none": "No augmentation.",
        **{
            name: entry.__doc__ or ""
            for name, entry in kornia_modules.OPERATIONS.items()
        },
    }
    listed = {
        name: f"{entry.title} ({entry.source})"
        for name, entry in policies.POLICIES.items()
    }
    return "\n".join(
        [
            "Operations of DSA, for `augmentation` and `protocol.augmentation`. Names",
            "are joined by _, as in color_crop_flip; each batch draws one of them.",
            "Several augmentations joined by +, as in none+autoaugment, are values of",
            "`protocol.augmentation`; each trains networks of its own.",
            "",
            _columns(operations),
            "",
            "Policies, for `protocol.augmentation` alone; each image draws its own.",
            "",
            _columns(listed),
        ]
    )


def _format(format: Format) -> str:
    """Return whether a format is read or written, and its title."""
    uses = ["read" * format.reads, "written" * format.writes]
    return f"{' and '.join(filter(None, uses)):<16}  {format.title}"


def _columns(lines: dict[str, str]) -> str:
    width = max(map(len, lines), default=0)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())
