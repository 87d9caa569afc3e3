"""Files of before count epochs without the last one; they stay what they were."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from dcbench_bacon import earlier_files, store
from dcbench_bacon.downstream_store import Stage
from dcbench_bacon.errors import RecordError
from dcbench_bacon.field_types import RateSchedule
from dcbench_bacon.protocol import Exemption, Protocol
from dcbench_bacon.recipes import digests, protocols
from dcbench_bacon.schema import Cell, Recipe, Record

RESULTS = Path(__file__).resolve().parents[1] / "results"


def first(**protocol: Any) -> dict[str, Any]:
    """A recipe of the first version."""
    return {"settings": {}, "protocol": {"name": "dc", **protocol}, "profile": "demo"}


def test_epochs_of_the_first_version_get_their_last_one() -> None:
    dropping = earlier_files.recipe(first(epochs=300, teacher_epochs=50)).protocol
    assert (dropping.epochs, dropping.teacher_epochs) == (301, 51)
    cosine = first(epochs=300, one_more_pass=False, schedule="cosine")
    assert earlier_files.recipe(cosine).protocol.epochs == 300
    special = {"architecture": "MLP", "epochs": 9}
    plain = {"architecture": "LeNet", "augmentation": "none"}
    exempt = earlier_files.recipe(first(epochs=3, exemptions=[special, plain]))
    assert [entry.epochs for entry in exempt.protocol.exemptions] == [10, None]
    assert exempt.preset == "demo"


def test_typed_and_other_counts_of_the_first_version_get_their_last_one() -> None:
    document = first(epochs=7) | {"overrides": {"protocol.epochs": "7", "steps": "7"}}
    document["settings"] = {"network_epochs": 50, "steps": 50}
    recipe = earlier_files.recipe(document)
    assert recipe.overrides == {"protocol.epochs": "8", "steps": "7"}
    assert recipe.settings == {"network_epochs": 51, "steps": 50}


def test_the_second_version_is_read_as_it_is_written() -> None:
    recipe = Recipe(settings={"network_epochs": 5}, protocol=Protocol(name="dc"))
    assert earlier_files.recipe(msgspec.to_builtins(recipe)) == recipe


@pytest.mark.parametrize(
    "document",
    [
        *(None, [], {}, {"protocol": 3, "settings": {}}, {"version": 3}),
        first(epochs="many") | {"settings": []},
        first(exemptions=7),
        first(exemptions=[3]),
        first(epochs=-5),
        first(one_more_pass="x"),
    ],
)
def test_what_is_no_recipe_is_refused(document: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        earlier_files.recipe(document)


def test_committed_records_keep_their_digests() -> None:
    paths = [*RESULTS.glob("**/records/*.json")]
    assert len(paths) > 100
    versions = set()
    for path in paths:
        record = store.read(path)
        versions.add(msgspec.json.decode(path.read_bytes())["version"])
        assert record.version == 2
        if record.recipe.settings or record.cell.method == "random":
            assert digests.digest(record.recipe) == record.digest, path
    assert 1 in versions


def test_a_record_without_a_readable_recipe_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content in (b'{"recipe": 3}', b'{"version": 1}', b"[]", b'{"version": 9}'):
        path.write_bytes(content)
        with pytest.raises(RecordError, match=r"x\.json"):
            store.read(path)


@pytest.mark.parametrize(
    ("name", "digest"),
    [("dc", "462a0564be62"), ("rded", "85efac8a4b8f"), ("reference", "ec375c59ab25")],
)
def test_digests_of_downstream_records_stay_the_same(name: str, digest: str) -> None:
    """The digests are those of version 0.1 for the same trainings."""
    cell = Cell("whole", "cifar10", 1)
    protocol = protocols.protocol(cell, protocols.Request(protocol=name))
    recipe = Recipe(settings={"tasks": 5, "network_epochs": 3}, protocol=protocol)
    stage = Stage(
        dataset="cifar10",
        dataset_sha256="ab",
        source=None,
        recipe=recipe,
        order=0,
        classes=(1, 2),
    )
    assert stage.digest == digest


def test_digests_are_those_of_the_first_version() -> None:
    """Of everything that counts epochs, under both kinds of schedules."""
    special = Exemption(architecture="MLP", epochs=9)
    settings: dict[str, Any] = {"network_epochs": 51, "steps": 3}
    found = []
    schedules: tuple[RateSchedule, ...] = ("drop", "cosine")
    for schedule in schedules:
        protocol = Protocol(
            name="x",
            epochs=101,
            teacher_epochs=11,
            exemptions=(special,),
            schedule=schedule,
        )
        found.append(digests.digest(Recipe(settings=settings, protocol=protocol)))
    assert found == ["b92b715e", "b6276d90"]


def test_a_record_of_today_is_read_back(tmp_path: Path) -> None:
    path = next(RESULTS.glob("paper/records/*.json"))
    record = store.read(path)
    (tmp_path / "r.json").write_bytes(msgspec.json.encode(record))
    assert store.read(tmp_path / "r.json") == record
    assert isinstance(record, Record)
