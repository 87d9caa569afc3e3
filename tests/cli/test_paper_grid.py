"""The command that people meet the product by, from files to the six-column table."""

from pathlib import Path

import msgspec
import pytest
from commandline import found, invoke
from dataset_files import write_paper

from dcbench_bacon.cli.arguments.options import PAPER_DATASETS
from dcbench_bacon.plugins import DATASETS

MANY = 5  # classes of the two large data sets, so that the test is short
NETWORK = "ConvNetD1W1"
REDUCED = {
    **{"steps": 1, "batch_real": 2, "architecture": NETWORK, "augmentation": "none"},
    **{"queue_size": 1, "queue_start": 1, "queue_train_steps": 1, "queue_batch": 8},
    **{"protocol.epochs": 1, "protocol.networks": 1, "protocol.batch_size": 512},
    "protocol.augmentation": "none",
}
TITLES = ("MNIST", "Fashion-MNIST", "SVHN", "CIFAR-10", "CIFAR-100", "Tiny-ImageNet")
METHODS = ("random", "dm", "idm", "bacon")
ROWS = ("Random", "DM", "IDM", "BACON", "Gain over Random", "Ratio (%)")


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the six data sets."""
    monkeypatch.setenv("DCBENCH_CACHE", str(tmp_path / "cache"))
    for name in ("cifar100", "tiny_imagenet"):
        module = DATASETS.module(name)
        few = {"classes": MANY, "class_names": module.INFO.class_names[:MANY]}
        monkeypatch.setattr(module, "INFO", msgspec.structs.replace(module.INFO, **few))
    root = tmp_path / "data"
    root.mkdir()
    write_paper(root, per_class=50, many=MANY)
    return root


@pytest.mark.slow
def test_the_papers_grid_ends_in_the_six_column_table(
    paper: Path, tmp_path: Path
) -> None:
    reduced = [
        word for pair in REDUCED.items() for word in ("--set", "{}={}".format(*pair))
    ]
    given = [
        *("--methods", "bacon,idm,dm,random", "--datasets", "all", "--ipc", "1,10,50"),
        *("--preset", "demo", "--architectures", NETWORK, *reduced),
        *("--data-root", str(paper), "--no-download", "--device", "cpu"),
    ]
    output = tmp_path / "results"
    done = invoke("run", *given, "--output", output)
    assert done.exit_code == 0, done.output
    records = found(output)
    assert len(records) == 4 * 6 * 3
    assert {record.cell.dataset for record in records} == set(PAPER_DATASETS)

    heading, blocks = table_in(done.output)
    assert heading == ["IPC", "Method", *TITLES]
    assert list(blocks) == ["1", "10", "50"]
    for ipc, block in blocks.items():
        assert list(block) == list(ROWS)
        for column, dataset in enumerate(PAPER_DATASETS):
            means = {
                record.cell.method: round(100 * record.evaluations[0].accuracy, 1)
                for record in records
                if (record.cell.dataset, str(record.cell.ipc)) == (dataset, ipc)
            }
            for title, method in zip(ROWS, METHODS, strict=False):
                cell = block[title][column]
                assert cell.lstrip("*<ins>").startswith(f"{means[method]:.1f}")
                assert cell.startswith("**") == (means[method] == max(means.values()))
            others = max(means[method] for method in METHODS[1:])
            gain = float(block["Gain over Random"][column])
            assert gain == pytest.approx(others - means["random"], abs=0.11)
    assert "(64.9" in blocks["1"]["Random"][0]  # as published, marked as no comparison
    for note in ("Preset demo: a reduced recipe", str(output / "records")):
        assert note in done.output

    words = ("--layout", "paper", "--gain-over", "random", "--preset", "demo")
    again = invoke("table", *words, "--output", output)
    assert table_in(again.output) == (heading, blocks)


def table_in(text: str) -> tuple[list[str], dict[str, dict[str, list[str]]]]:
    """The headings of a table in Markdown, and its rows by block and name."""
    heading, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    )
    blocks: dict[str, dict[str, list[str]]] = {}
    for ipc, name, *cells in rows:
        if ipc:
            blocks[ipc] = {}
        blocks[list(blocks)[-1]][name] = cells
    return heading, blocks
