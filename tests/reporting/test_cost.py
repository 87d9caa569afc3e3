"""What sets cost, from records alone."""

import math

import msgspec
from records import record

from dcbench_bacon.reporting.numbers.contents import table_of
from dcbench_bacon.reporting.printing import rendering
from dcbench_bacon.schema import Cell, Record


def sized(made: Record, **fields: object) -> Record:
    """A record of a set of ten images with soft labels."""
    facts = {"synthetic_bytes": 51_200, "label_bytes": 20_000, "images": 10}
    return msgspec.structs.replace(made, **{**facts, **fields})


def test_bytes_updates_images_and_seconds_by_hand() -> None:
    cell = Cell("dm", "cifar10", 10)
    (row,) = table_of([sized(record(cell, (0.4, 0.5)))], "cost").frame.to_dict(
        "records"
    )
    assert (row["images"], row["set_bytes"], row["label_bytes"]) == (10, 51_200, 20_000)
    assert (row["updates"], row["images_seen"]) == (100, 512_000)
    assert (row["distillation_seconds"], row["evaluation_seconds"]) == (2.0, 3.0)
    text = rendering.render(table_of([sized(record(cell, (0.4,)))], "cost"), "md")
    for number in ("51.2", "20.0", "512,000", "3.21"):
        assert f" {number} " in text


def test_what_is_not_recorded_is_missing_and_no_zero() -> None:
    made = record(Cell("random", "cifar10", 10), (0.4,))
    (row,) = table_of([made], "cost").frame.to_dict("records")
    for name in ("updates", "images_seen", "distillation_seconds", "set_bytes"):
        assert math.isnan(row[name])
    assert (
        "Updates"
        not in rendering.render(table_of([made], "cost"), "md").split("\n-")[0]
    )


def test_the_record_of_a_run_tells_what_its_set_cost_wherever_it_is_evaluated() -> None:
    run = sized(record(Cell("dm", "cifar10", 10), (0.4,)), synthetic_sha256="5" * 64)
    protocol = msgspec.structs.replace(run.recipe.protocol, name="common", epochs=7)
    recipe = msgspec.structs.replace(run.recipe, protocol=protocol)
    evaluated = msgspec.structs.replace(
        run, recipe=recipe, digest="00000002", distillation={}
    )
    table = table_of([run, evaluated], "cost").frame
    assert set(table["protocol"]) == {"dc", "common"}
    assert set(table["distillation_seconds"]) == {2.0}
    other = msgspec.structs.replace(evaluated, synthetic_sha256="6" * 64)
    table = table_of([run, other], "cost").frame.set_index("protocol")
    assert math.isnan(table["distillation_seconds"]["common"])
