"""What counts as another method: code that decides its images, and nothing else."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcbench_bacon import code_identity
from dcbench_bacon.code_identity import code_sha256, source_file
from dcbench_bacon.plugins import METHODS, has_changed, method_sha256

FILES = {
    "ours/__init__.py": "",
    "ours/method.py": '''"""A method."""

import math
from typing import TYPE_CHECKING

from theirs.pipeline import run

from .sibling import HALF

if TYPE_CHECKING:
    from elsewhere import Anything


class Method:
    """Distils."""

    steps: int = 10
    """Updates."""

    def distill(self, rate: float) -> float:
        """Do it."""
        return run(rate) * HALF * math.pi
''',
    "ours/sibling.py": "HALF = 0.5\n",
    "ours/another.py": "TWICE = 2\n",
    "theirs/__init__.py": "",
    "theirs/pipeline.py": (
        "from theirs import objective\n\ndef run(rate):\n"
        "    from elsewhere import Anything\n    return objective.WEIGHT * rate\n"
    ),
    "theirs/objective.py": "WEIGHT = 3\n",
    "theirs/unused.py": "X = 1\n",
    "elsewhere.py": "Anything = 1\n",
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two packages and a module, importable."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("ours", "theirs"):
        sys.modules.pop(name, None)


def digest(tree: Path, edits: dict[str, tuple[str, str]]) -> str:
    """The identity of the method after edits, which are taken back."""
    for name, (old, new) in edits.items():
        text = FILES[name]
        assert old in text
        (tree / name).write_text(text.replace(old, new))
    found = code_sha256("ours.method", ("ours", "theirs"))
    code_identity._code.cache_clear()  # edits may fall into one tick of the clock
    for name in edits:
        (tree / name).write_text(FILES[name])
    return found


SAME = [
    ("ours/method.py", "import math\n", "import os\nimport math\n"),
    ("ours/method.py", "    from elsewhere", "    from ours"),
    ("ours/method.py", "if TYPE_CHECKING:\n    from elsewhere import Anything\n", ""),
    ("ours/method.py", '"""A method."""', '"""Another text."""'),
    ("ours/method.py", '    """Distils."""\n', ""),
    ("ours/method.py", '    """Updates."""\n', "    # Updates, said otherwise.\n"),
    ("ours/method.py", "rate: float) -> float", "rate: int) -> object"),
    ("ours/method.py", "steps: int", "steps: 'Positive'"),
    ("ours/method.py", "return run(rate)", "return  run( rate )"),
    ("theirs/pipeline.py", "def run(rate)", "def run(rate: float)"),
    ("theirs/pipeline.py", "    from elsewhere import Anything\n", "    pass\n"),
    ("theirs/objective.py", "WEIGHT", "# why\nWEIGHT"),
    ("theirs/unused.py", "X = 1", "X = 2"),
    ("ours/another.py", "TWICE = 2", "TWICE = 3"),
    ("elsewhere.py", "Anything = 1", "Anything = 2"),
]
OTHER = [
    ("ours/method.py", "steps: int = 10", "steps: int = 11"),
    ("ours/method.py", "* HALF", "+ HALF"),
    ("ours/method.py", "    steps: int = 10\n", ""),
    ("ours/sibling.py", "0.5", "0.25"),
    ("theirs/pipeline.py", "* rate", "* -rate"),
    ("theirs/pipeline.py", "def run(rate)", "def run(rate=1)"),
    ("theirs/objective.py", "3", "3.0"),
]


def test_what_decides_the_images_counts_and_nothing_else(tree: Path) -> None:
    before = digest(tree, {})
    for name, old, new in SAME:
        assert digest(tree, {name: (old, new)}) == before, (name, new)
    others = {digest(tree, {name: (old, new)}) for name, old, new in OTHER}
    assert len({before, *others}) == 1 + len(OTHER)


def test_a_module_that_moves_stays_the_same(tree: Path) -> None:
    before = digest(tree, {})
    (tree / "theirs/objective.py").rename(tree / "theirs/goal.py")
    after = digest(
        tree, {"theirs/pipeline.py": ("import objective", "import goal as objective")}
    )
    assert after == before


@pytest.mark.slow
def test_methods_depend_on_their_objective_pipeline_and_augmentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a constant more in a module; an import line more changes nothing."""
    decisive = {
        "dm": ("distillation.objectives", "distillation.pipeline", "augmentation.dsa"),
        "dsa": ("methods.dc", "distillation.gradients", "augmentation.siamese"),
        "bacon+idm": ("methods.bacon", "distillation.network_queue"),
        "mtt": ("distillation.unrolled",),
    }
    for method, modules in decisive.items():
        before = method_sha256(method)
        assert before.startswith("code:")
        for module in modules:
            found = {}
            original = source_file(f"dcbench_bacon.{module}")
            assert original is not None
            for line in ("import os\n", "CONSTANT = 1\n"):
                edited = tmp_path / f"{module}-{len(line)}.py"
                edited.write_text(original.read_text() + line)

                def instead(
                    name: str, changed: str = module, edited: Path = edited
                ) -> Path | None:
                    same = name == f"dcbench_bacon.{changed}"
                    return edited if same else source_file(name)

                with monkeypatch.context() as patch:
                    patch.setattr(code_identity, "source_file", instead)
                    found[line] = method_sha256(method)
            assert found["import os\n"] == before, (method, module)
            assert found["CONSTANT = 1\n"] != before, (method, module)


def test_identities_of_earlier_versions_tell_nothing() -> None:
    assert not has_changed("dm", None)
    assert not has_changed("dm", "0" * 64)
    assert not has_changed("dm", method_sha256("dm"))
    assert has_changed("dm", method_sha256("idm"))
    assert METHODS.path("bacon+dm") == "dcbench_bacon.methods.bacon_dm"
