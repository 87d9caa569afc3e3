"""The file formats of synthetic sets, by name; imports nothing heavy."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dcbench_bacon.errors import UsageError

_MOST_BYTES = 2**20  # of a file of names
Labels = Literal["stored", "hard", "softmax"]


class Format(NamedTuple):
    """What a format is and where it comes from.

    Attributes:
        title: a line about it.
        reads: whether sets are imported from it.
        writes: whether sets are exported to it.
    """

    title: str
    reads: bool = True
    writes: bool = False


FORMATS = {
    "dcbench": Format("dcbench's own *.safetensors, which say everything", True, True),
    "vico": Format("res_*.pt of DC, DSA, DM, IDM, BACON, DataDAM", True, True),
    "best": Format("best pickles of IDM and BACON: acc_*.pkl"),
    "mtt": Format("images_best.pt and labels_best.pt of MTT, TESLA, DATM", True, True),
    "idc": Format("data_best.pt of IDC and DREAM: images in [0, 1] and targets"),
    "tuple": Format("torch.save of [images, labels] by anyone, normalised or pixels"),
    "dd": Format("steps of Wang's dataset distillation: images, labels, rates"),
    "pair": Format("DC-BENCH's *_images.pt and *_labels.pt: K-means and random"),
    "kip": Format("npz of KIP: images with channels last, real-valued labels"),
    "dd_ranking": Format("DD-Ranking's image tensor, labels.pt beside it", True, True),
    "npz": Format("numpy arrays images and labels, and what they mean", True, True),
    "folder": Format("a folder for each class, of images such as PNG", True, True),
    "picture": Format("one PNG of the whole set, a row a class", False, True),
}


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What the user says about a file; none where nothing was said.

    Attributes:
        form: the name of its format; a guess without it.
        dataset: the data set it was made from, as typed.
        index: which of several sets in the file, or ``all``.
        partition: each image holds ``partition**2`` smaller ones.
        zca: whether the images are ZCA-whitened.
        pixels: whether the images are pixels, in [0, 1] or 0 to 255, not normalised.
        statistics: the data set whose mean and std normalised the images.
        labels: what to make of labels: one-hot by argmax, or softmax of logits.
        learning_rate: learned together with the images.
        classes: of the data set, for each class of the file in the file's order.
        name: what tables call the set.
        as_method: the method whose evaluation judges the set.
    """

    form: str | None = None
    dataset: str | None = None
    index: int | Literal["all"] | None = None
    partition: int | None = None
    zca: bool | None = None
    pixels: bool | None = None
    statistics: str | None = None
    labels: Labels | None = None
    learning_rate: float | None = None
    classes: tuple[str, ...] | None = None
    name: str | None = None
    as_method: str | None = None

    @classmethod
    def taken(cls, given: dict[str, Any]) -> "Claims":
        """Takes the claims out of the options of a command."""
        names = [each.name for each in fields(cls) if each.name in given]
        return cls(**{name: given.pop(name) for name in names})


def stated_classes(text: str) -> tuple[str, ...]:
    """Return the names that ``--classes`` gives, in a list or in a file.

    Args:
        text: names separated by commas, or the path of a file with a name in each line.

    Raises:
        UsageError: the file is no text or is absurdly large.
    """
    path = Path(text)
    try:
        if "," in text or not path.is_file():
            return tuple(name.strip() for name in text.split(",") if name.strip())
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"--classes {path}: larger than {_MOST_BYTES} bytes")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"--classes {text:.200}: no list of names: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())
