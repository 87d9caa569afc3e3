"""The file formats of synthetic sets, and what a user states about a file.

This module imports little, because the command line needs it for ``--help``.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dcbench_bacon.errors import UsageError

_MOST_BYTES = 2**20  # largest size of a file of names
Labels = Literal["stored", "hard", "softmax"]


class Format(NamedTuple):
    """A file format of synthetic sets.

    Attributes:
        title: a line about its origin and content.
        reads: whether dcbench reads it.
        writes: whether dcbench writes it.
    """

    title: str
    reads: bool = True
    writes: bool = False


FORMATS = {
    "dcbench": Format("dcbench's own *.safetensors, with all facts", True, True),
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
    "dict": Format("torch.save or pickle of a dictionary of images and labels"),
    "npy": Format("images.npy with labels.npy beside it, or X.npy with y.npy"),
    "safetensors": Format("safetensors of any tool with images and labels"),
    "folder": Format("one folder per class, of images such as PNG", True, True),
    "picture": Format("one PNG of the whole set, one row per class", False, True),
}


_DERIVED = "needs_rate"  # of these options, from one of the protocol


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """The statements of the user about a file; None where nothing was stated.

    Attributes:
        format: name of the format of the file; it is guessed if None.
        dataset: the data set that the set was made from, as typed.
        index: index of the set among several in the file, from 0, or ``all``.
        partition: parts along each side: each image contains ``partition**2`` smaller
            ones.
        zca: whether the images are ZCA-whitened.
        pixels: whether the images are pixels, in [0, 1] or 0 to 255, and not
            normalised.
        statistics: the data set whose mean and std normalised the images.
        labels: how rows of labels are used: as stored, one-hot by argmax, or softmax
            of logits.
        learning_rate: the learning rate that was learned together with the images.
        classes: the class of the data set for each class of the file, in the file's
            order.
        name: name of the set in tables.
        as_method: the method whose evaluation is used for the set.
        needs_rate: whether networks are to train at the learned rate, so that a file
            without one is asked for it.
    """

    format: str | None = None
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
    needs_rate: bool = False

    @classmethod
    def pop_from(cls, given: dict[str, Any]) -> "ReadingOptions":
        """Take these options out of all options of a command."""
        names = [option.name for option in fields(cls) if option.name in given]
        return cls(**{name: given.pop(name) for name in names})

    @property
    def typed(self) -> dict[str, Any]:
        """The options that a user may have typed, by name."""
        return {name: value for name, value in vars(self).items() if name != _DERIVED}


def stated_classes(text: str) -> tuple[str, ...]:
    """Return the names that ``--classes`` gives, in a list or in a file.

    Args:
        text: names separated by commas, or the path of a file with one name per line.

    Raises:
        UsageError: the file is no text, or is larger than 1 MiB.
    """
    path = Path(text)
    try:
        if "," in text or not path.is_file():
            return tuple(name.strip() for name in text.split(",") if name.strip())
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(
                f"--classes {path}: the file is larger than {_MOST_BYTES} bytes; write "
                "one name per line and nothing else"
            )
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--classes {text:.200}: no list of names: {error}; give names separated "
            "by commas, or a text file with one name per line"
        ) from error
    return tuple(line.strip() for line in lines if line.strip())
