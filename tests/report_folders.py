"""Results folders for the page of ``dcbench report``, friendly, hostile and large."""

from pathlib import Path
from typing import Any

import msgspec
import torch
from records import record

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.downstream_store import (
    Candidate,
    SetIdentity,
    Stage,
    continual_folder,
    search_folder,
)
from dcbench_bacon.exchange.adopt import facts
from dcbench_bacon.recipes.digests import distillation_digest
from dcbench_bacon.schema import Cell, Record
from dcbench_bacon.store import Store

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&$\\frac$ http://evil"
)
METHODS = ("random", "dm", "idm", "bacon")


def small(folder: Path, *, hostile: bool = False) -> Store:
    """A folder with several data sets, networks and presets, a failure and an image."""
    store = Store(folder)
    for dataset in ("mnist", "cifar10"):
        for number, method in enumerate(METHODS):
            for seed in (0, 1):
                cell = Cell(method, dataset, 10, seed)
                accuracies = (0.5 + 0.05 * number, 0.52 + 0.05 * number)
                store.write(record(cell, accuracies))
    for network in ("ConvNet", "MLP"):
        digest = f"0000000{len(network)}"
        cell = Cell("dm", "mnist", 1)
        store.write(
            record(cell, (0.4,), architecture=network, preset="quick", digest=digest)
        )
    _watch(store)
    store.write(record(Cell("dm", "svhn", 10), (), status="failed"))
    _use(store, HOSTILE if hostile else "res_DC.pt")
    if hostile:
        _write_hostile(store)
    _distil(store, record(Cell("dm", "mnist", 10), (0.5,)))
    return store


def _write_hostile(store: Store) -> None:
    """Records in which every text is HTML."""
    made = record(
        Cell(HOSTILE, HOSTILE, 10),
        (0.3, 0.4),
        architecture=HOSTILE,
        digest=HOSTILE,
        overrides={HOSTILE: HOSTILE},
    )
    texts = {
        name: HOSTILE
        for name, value in msgspec.structs.asdict(made.environment).items()
        if isinstance(value, str)
    }
    environment = msgspec.structs.replace(made.environment, **texts)
    protocol = msgspec.structs.replace(
        made.recipe.protocol, name=HOSTILE, architectures=(HOSTILE,)
    )
    recipe = msgspec.structs.replace(
        made.recipe, protocol=protocol, settings={HOSTILE: HOSTILE}
    )
    made = msgspec.structs.replace(
        made,
        environment=environment,
        recipe=recipe,
        name=HOSTILE,
        dataset_sha256=HOSTILE,
        distillation={HOSTILE: made.distillation["match"]},
    )
    two = (
        *made.evaluations,
        msgspec.structs.replace(made.evaluations[0], architecture="MLP"),
    )
    made = msgspec.structs.replace(made, evaluations=two)
    failed = msgspec.structs.replace(
        made, cell=Cell("dm", HOSTILE, 1), status="failed", error=HOSTILE
    )
    for number, each in enumerate((made, failed)):
        folder = store.root / ("records", "failures")[number]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hostile.json").write_bytes(msgspec.json.encode(each))


def large(folder: Path, count: int) -> Store:
    """A folder with many records, each of a recipe and a machine of its own."""
    store = Store(folder)
    (folder / "records").mkdir(parents=True)
    datasets = (
        "mnist",
        "fashion_mnist",
        "svhn",
        "cifar10",
        "cifar100",
        "tiny_imagenet",
    )
    for number in range(count):
        cell = Cell(
            METHODS[number % 4], datasets[number % 6], (1, 10, 50)[number % 3], number
        )
        accuracies = tuple((number * 7 + trial) % 997 / 1000 for trial in range(5))
        made = record(cell, accuracies, digest=f"{number:08x}")
        hashes = dict.fromkeys(
            ("dataset_sha256", "method_sha256", "synthetic_sha256"), f"{number:064x}"
        )
        made = msgspec.structs.replace(made, **{**hashes, "dataset_sha256": None})
        path = folder / "records" / f"{number}.json"
        path.write_bytes(msgspec.json.encode(made))
    return store


def _watch(store: Store) -> None:
    """Write a record with accuracies on the way, of a recipe with an override."""
    made = record(
        Cell("bacon", "mnist", 1),
        (0.6,),
        preset="quick",
        digest="0000000a",
        overrides={"tv_weight": "0.4"},
    )
    history = tuple(
        msgspec.structs.replace(made.evaluations[0], step=step, accuracy=step / 1000)
        for step in (0, 50)
    )
    store.write(msgspec.structs.replace(made, history=history))


def _use(store: Store, name: str) -> None:
    """Write records of continual learning and of an architecture search."""
    made = record(Cell("dm", "mnist", 10), (0.5, 0.6))
    evaluations = tuple(
        msgspec.structs.replace(each, validation=each.accuracy)
        for each in made.evaluations
    )
    recipe = msgspec.structs.replace(made.recipe, settings={"tasks": 5})
    source = SetIdentity(
        cell=made.cell, recipe="0" * 8, preset="paper", sha256="1" * 64, name=name
    )
    common: dict[str, Any] = {
        **{"dataset": "mnist", "dataset_sha256": "2" * 64, "recipe": recipe},
        **{"evaluations": evaluations, "environment": made.environment},
    }
    for count in (2, 4):
        classes = tuple(range(count))
        stage = Stage(source=source, order=0, classes=classes, **common)
        continual_folder(store).write(stage)
    for known in (source, None):
        for network in ("ConvNetD1W8", "ConvNetD2W8", "MLP"):
            tried = Candidate(source=known, architecture=network, **common)
            search_folder(store).write(tried)


def _distil(store: Store, made: Record) -> None:
    """Write the set of a record of MNIST."""
    info = facts("mnist", None)
    pixels = torch.linspace(-1, 1, 28 * 28).view(1, 1, 28, 28).repeat(100, 1, 1, 1)
    labels = torch.eye(10).repeat_interleave(10, 0)
    provenance = {"dataset": msgspec.to_builtins(info)}
    digest = distillation_digest(made.recipe)
    path = store.synthetic_path(made.cell, digest, made.dataset_sha256)
    synthetic_file.write(path, SyntheticSet(pixels, labels, provenance=provenance))
