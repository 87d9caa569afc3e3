"""Marks at published numbers, and the footnotes that they refer to."""

from collections.abc import Mapping
from typing import Any

from dcbench_bacon.reporting.literature.published import EVALUATIONS, UNKNOWN
from dcbench_bacon.reporting.wording import LETTERS, OBSTACLES, REMARKS


class Footnotes:
    """The footnotes of a table and their marks, in the order of their use."""

    def __init__(self) -> None:
        """Start without a footnote."""
        self.texts: list[str] = []

    def marks(self, row: Mapping[Any, Any]) -> str:
        """Return the marks of a row of a summary."""
        behind = EVALUATIONS[row["published_evaluation"]]
        network = row["published_architecture"]
        without = {
            "evaluation": "unknown" if behind.protocol == UNKNOWN else "evaluation",
            "network": "unstated" if network == "unstated" else "network",
        }
        obstacles = row["not_compared"].split()
        # A recipe of another kind is reason enough; further letters would hide it.
        decisive = [name for name in obstacles if name in ("preset", "settings")]
        obstacles = decisive[:1] or obstacles
        texts = [OBSTACLES[without.get(name, name)] for name in obstacles]
        texts += [REMARKS[name] for name in row["remarks"].split()]
        fields = {
            **{"title": behind.title, "architecture": network},
            "teachers": ", ".join(behind.teachers) or "none",
            "augmentation": behind.augmentation,
        }
        return "".join(self.mark(text.format(**fields)) for text in texts)

    def mark(self, text: str) -> str:
        """Return the mark of a sentence."""
        if text not in self.texts:
            self.texts.append(text)
        return _letter(self.texts.index(text))

    def lines(self) -> list[str]:
        """Return the sentences, each after its mark."""
        return [f"{_letter(i)} {text}" for i, text in enumerate(self.texts)]


def _letter(number: int) -> str:
    """Return a raised letter; two letters beyond the end of the alphabet."""
    more, rest = divmod(number, len(LETTERS))
    return (_letter(more - 1) if more else "") + list(LETTERS)[rest]
