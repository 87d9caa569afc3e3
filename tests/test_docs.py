"""What the documentation generates or repeats agrees with the code it is about."""

import ast
import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from dcbench_bacon import schema

TREE = Path(__file__).resolve().parents[1]
DOCS = TREE / "docs"

# A few words of each row that the page must have, in the column `here`.
DEPARTURES = {
    "bacon": ["equal where the density does not underflow", "`range` is the paper's"],
    "bacon+dm": ["BACON's loss in DM's pipeline"],
    "bacon+idm": ["IDM's loss plus BACON's terms"],
    "dc": ["a ConvNet of depth 4, as DC-BENCH"],
    "cda": ["those of `sre2l`"],
    "dm": ["so that all classes have batches of one size"],
    "dsa": ["those of `dc`"],
    "edc": ["on as in the paper", "not exchanged", '`category="per_class"`'],
    "gvbsm": ["start at the first value", "one cell"],
    "herding": ["`features` may be `pixels` or `clip`"],
    "idm": [
        "exact closed form of that loop",
        "`accuracy_unit`, `meter_reset_interval`",
        "drawn with replacement",
        "four different images",
    ],
    "k_center": ["those of `herding`"],
    "k_means": ["those of `herding`"],
    "mtt": [
        "drawn with replacement",
        "copies",
        "held above a hundredth of its start",
        "by CIFAR-100's",
        "depth 4",
    ],
    "rded": ["trained as SRe2L's for CIFAR-100", "counts once"],
    "sre2l": ["floats", "antialiased"],
}
ELSEWHERE = {"soft_labels": 7, "evaluation": 9, "downstream": 3}


def module_of(name: str) -> ModuleType:
    """A module beside the pages."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """What mkdocs calls; needs no mkdocs until it is called."""
    return module_of("hooks")


def test_the_picture_of_a_table_is_what_the_command_prints() -> None:
    committed = (DOCS / "table.svg").read_text(encoding="utf-8")
    texts = [
        re.findall(r">([^<]*)</text>", svg)
        for svg in (committed, module_of("pictures").picture())
    ]
    assert texts[0] == texts[1], "run python docs/pictures.py"
    assert "BACON" in committed
    assert "url(" not in re.sub(r"url\(#", "", committed)  # it requests nothing


def test_the_page_of_departures_has_every_row(hooks: ModuleType) -> None:
    text = (DOCS / "departures.md").read_text(encoding="utf-8")
    page = hooks.on_page_markdown(text)
    assert "<!--" not in page
    rows = page.splitlines()
    for method, phrases in DEPARTURES.items():
        own = [row for row in rows if row.startswith(f"| `{method}` |")]
        assert all(any(phrase in row for row in own) for phrase in phrases), method
    for kind, count in ELSEWHERE.items():
        assert len(hooks.departures(kind)) >= count
        assert all(row.published and row.here for row in hooks.departures(kind))


def test_a_departure_without_its_three_fields_is_refused(
    hooks: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    for block in ("Departures: none to speak of.", f"{hooks.HEADING}\n    - a | b"):
        path.write_text(f'"""Mine: a method.\n\n{block}\n"""\n')
        with pytest.raises(ValueError, match=re.escape(str(path))):
            list(hooks.of_method(path))


def test_every_field_of_a_record_is_described() -> None:
    for name, struct in vars(schema).items():
        if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
            continue
        if struct.__module__ != schema.__name__:
            continue
        block = inspect.getdoc(struct).partition("Attributes:\n")[2]  # type: ignore[union-attr]
        described = re.findall(r"^    (\w+): \S", block, re.M)
        assert set(described) == set(struct.__struct_fields__), name


def test_the_way_of_a_run_exists() -> None:
    text = (DOCS / "contributing.md").read_text(encoding="utf-8")
    hops = re.findall(r"^\| (\d+) \| `([\w/.]+)` \| `(\w+)` \|", text, re.M)
    assert [int(number) for number, *_ in hops] == list(range(1, len(hops) + 1))
    assert 8 <= len(hops) <= 12
    for _, file, name in hops:
        tree = ast.parse((TREE / file).read_text(encoding="utf-8"))
        kinds = (ast.FunctionDef, ast.ClassDef)
        names = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
        assert name in names, f"{file} has no {name}"


def test_the_results_that_pages_link_to_exist() -> None:
    for page in DOCS.glob("*.md"):
        for path in re.findall(
            r"\]\((\.\./results/[^)]+)\)", page.read_text(encoding="utf-8")
        ):
            assert (DOCS / path).is_file(), f"{page.name}: {path}"


def test_notebooks_are_pages_with_their_outputs(hooks: ModuleType) -> None:
    paths = sorted((DOCS / "notebooks").glob("*.ipynb"))
    assert [path.stem for path in paths] == ["distil", "evaluate", "tables"]
    text = "\n".join(map(hooks.notebook_page, paths))
    assert text.count("data:image/png;base64,") == 2
    assert text.count("<table") >= 4
    assert "Traceback" not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distil", "evaluate", "tables"])
def test_notebooks_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ipykernel", "nbclient"):
        pytest.importorskip(module, reason=f"{module} is missing: pip install .[docs]")
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebooks = importlib.import_module("notebooks")
    done = notebooks.run(DOCS / "notebooks" / f"{name}.ipynb")
    assert any(cell.get("outputs") for cell in done.cells)
