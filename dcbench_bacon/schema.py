"""The records that dcbench writes, field by field. This module does not import torch.

Accuracies are fractions in [0, 1], durations are in seconds and sizes in bytes. Fields
are only ever added, with a default, so that old records stay readable.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from dcbench_bacon.field_types import (
    Fraction,
    IdentifiedBy,
    LabelKind,
    Positive,
    Preset,
    Status,
)
from dcbench_bacon.protocol import Protocol


class DatasetInfo(Struct, frozen=True, kw_only=True):
    """The facts of a data set.

    Attributes:
        name: the name that users type.
        title: the name that tables print.
        classes: the number of classes.
        channels: the number of channels of an image, 1 or 3.
        size: the height and width of the square images in pixels.
        mean: the mean of the train pixels scaled to [0, 1], per channel.
        std: the standard deviation of the train pixels scaled to [0, 1], per channel.
        class_names: one name per class, in the order of the labels.
    """

    name: str
    title: str
    classes: Positive
    channels: Positive
    size: Positive
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]


class Cell(Struct, frozen=True, order=True):
    """One combination of method, data set, images per class and seed.

    Attributes:
        method: the name of the method, for example ``bacon+idm``.
        dataset: the name of the data set.
        ipc: the number of synthetic images per class; 0 for the whole train split.
        seed: the number of the repetition; every random stream derives from the cell.
    """

    method: str
    dataset: str
    ipc: Annotated[int, Meta(ge=0)]
    seed: Annotated[int, Meta(ge=0)] = 0

    def __str__(self) -> str:
        """Return the text that file names and progress lines use."""
        return f"{self.dataset}-ipc{self.ipc}-{self.method}-s{self.seed}"


class Evaluation(Struct, frozen=True, kw_only=True):
    """The result of one network that was trained on the set and tested on real images.

    Attributes:
        architecture: the name of the network, as ``networks.builder.build`` takes it.
        trial: the index of the network among those of its architecture and
            augmentation, from 0.
        accuracy: the accuracy on the test split, in [0, 1].
        epoch: the index, from 0, of the epoch after which the accuracy was measured.
        validation: the accuracy on the held-out split after that epoch, in [0, 1]; None
            where nothing was held out.
        step: the distillation step at which the set was evaluated; None for the
            finished set.
        seconds: the duration of training and testing.
        learning_rate: the rate that the network was trained with, before its schedule.
            Older records have it only where the protocol has several candidates.
        augmentation: the augmentation of the training, where the protocol has several;
            None where it has one.
    """

    architecture: str
    trial: Annotated[int, Meta(ge=0)]
    accuracy: Fraction
    epoch: int
    seconds: float
    validation: Fraction | None = None
    step: int | None = None
    learning_rate: float | None = None
    augmentation: str | None = None


class Phase(Struct, frozen=True):
    """The time spent in one named part of a stage's steps.

    Attributes:
        seconds: the total over all steps.
        calls: the number of times that the part was entered.
    """

    seconds: float
    calls: int


class Timing(Struct, frozen=True, kw_only=True):
    """The cost of a stage in time and memory.

    Attributes:
        seconds: the time in the bodies of steps, without checkpoints and scheduled
            evaluations.
        steps: the number of timed steps, those before an interruption included.
        median: the seconds of the median step.
        iqr: the distance in seconds between the first and the third quartile of the
            time per step.
        images: the number of images that went through a network, forward or backward.
        peak_bytes: the peak of device memory on a GPU, or of the process's resident
            memory on a CPU.
        phases: the time per named part of the steps.
        step_flops: the floating-point operations per step; None where they were not
            counted.
        product_flops: the floating-point operations per second of a large matrix
            product on the same device in the same run; None where it was not measured.
        warm_up: the seconds of the first steps, which are not timed, compilation
            included.
        compilation: whether networks were compiled, or the reason why not.
        graphs: the number of launches of CUDA graphs by the process that ended the
            stage.
    """

    seconds: float = 0.0
    steps: int = 0
    median: float = 0.0
    iqr: float = 0.0
    images: int = 0
    peak_bytes: int = 0
    phases: dict[str, Phase] = field(default_factory=dict)
    step_flops: float | None = None
    product_flops: float | None = None
    warm_up: float = 0.0
    compilation: str = ""
    graphs: int = 0


class Environment(Struct, frozen=True, kw_only=True):
    """The software and the machine that made a record.

    Attributes:
        dcbench: the version of dcbench.
        git_commit: the commit of the checkout, with ``+`` if files had changed; None
            outside a checkout.
        python: the version of Python.
        torch: the version of PyTorch.
        device: the name of the GPU, or of the processor with its number of cores.
        cuda: the version of CUDA that PyTorch uses; None on a CPU.
        threads: the number of CPU threads that PyTorch computes with.
        platform: the operating system and its version.
        utc: the time at which the record was made, in ISO 8601, UTC.
    """

    dcbench: str
    git_commit: str | None
    python: str
    torch: str
    device: str
    cuda: str | None
    threads: int
    platform: str
    utc: str


Scalar = bool | int | float | str | None
Value = Scalar | tuple[Scalar, ...]
"""The value of a hyper-parameter, also a list of them such as the names of networks."""


class Recipe(Struct, frozen=True, kw_only=True, rename={"preset": "profile"}):
    """Everything that decides a cell's numbers apart from the cell itself.

    Attributes:
        version: the version of this layout; ``earlier_files`` reads the first one.
        settings: the values of the method's hyper-parameters.
        protocol: the protocol by which the set is evaluated.
        preset: ``paper`` for the published settings. Tables leave out records of
            ``demo`` and ``quick`` unless the user asks for them. Files call this field
            ``profile``.
        overrides: the values that ``--set`` changed, by key, as typed.
    """

    version: Literal[2] = 2
    settings: dict[str, Value]
    protocol: Protocol
    preset: Preset = "paper"
    overrides: dict[str, str] = field(default_factory=dict)

    def whole_number(self, key: str) -> int:
        """Return a setting that is a whole number; 0 where the method has none."""
        value = self.settings.get(key)
        return value if isinstance(value, int) else 0


class Record(Struct, frozen=True, kw_only=True):
    """The result of one cell that has run.

    Attributes:
        version: the version of this layout.
        cell: the cell that has run.
        recipe: the settings and the protocol that it has run with.
        digest: eight hex digits of the recipe, as in the file name.
        status: ``done``, ``failed``, or ``diverged`` if a loss or an image stopped
            being finite.
        environment: the software and the machine that it has run on.
        evaluations: one evaluation of the finished set per network.
        history: the evaluations during distillation, one per network and evaluated
            step.
        distillation: the cost of making the set, by stage.
        evaluation: the cost of evaluating the set, by stage.
        dataset_sha256: the hash of the pixels and labels of train and test, before
            whitening; that of the names, sizes and times of image files where
            ``identified_by`` says so.
        identified_by: what ``dataset_sha256`` is the hash of.
        method_sha256: the hash of the code that made the set, see
            ``plugins.method_sha256``; without the prefix ``code:``, that of the bytes
            of the method's module alone.
        synthetic_sha256: the hash of the images, labels and partition that were
            evaluated.
        synthetic_bytes: the size of images and labels as stored.
        label_bytes: the size of the labels as stored.
        label_kind: ``hard`` if each label is a single class, ``soft`` if not, and
            ``unknown`` in older records.
        teachers: how each network that labels the images was trained.
        name: the name that tables print instead of the method, for a set from a file of
            another tool: the name in that file, or the one that the user gave.
        images: the number of images in the set, as stored.
        per_class: the smallest and the largest number of images per class; a soft label
            counts as its largest entry.
        stored_accuracies: the accuracies that the authors of a file stored with the
            set, by network, as fractions in [0, 1].
        error: the type and message of the error if the cell did not finish.
        traceback: the traceback of that error; the middle of a very long one is
            omitted.
        validation_sha256: the hash of the train images that were held out; None where
            nothing was held out, and in older records.
        titles: the names that tables print for the method and the data set, by their
            names in ``cell``; empty in older records.
        whitening_sha256: the hash of the ZCA whitening of the data set, which differs
            by rounding between machines; None where nothing was whitened, and in older
            records.
        regime: where the labels of the evaluation come from, see
            ``protocol.Protocol.regime``; empty in older records.
        taught_bytes: the size of the labels that each network learned from, see
            ``training.regimes.label_bytes``; None in older records.
    """

    version: Literal[2] = 2
    cell: Cell
    recipe: Recipe
    digest: str
    status: Status
    environment: Environment
    evaluations: tuple[Evaluation, ...] = ()
    history: tuple[Evaluation, ...] = ()
    distillation: dict[str, Timing] = field(default_factory=dict)
    evaluation: dict[str, Timing] = field(default_factory=dict)
    dataset_sha256: str | None = None
    method_sha256: str | None = None
    synthetic_sha256: str | None = None
    synthetic_bytes: int | None = None
    label_bytes: int | None = None
    label_kind: LabelKind = "unknown"
    teachers: tuple[dict[str, Any], ...] = ()
    error: str | None = None
    traceback: str | None = None
    name: str = ""
    images: int | None = None
    per_class: tuple[int, int] | None = None
    stored_accuracies: dict[str, tuple[Fraction, ...]] = field(default_factory=dict)
    validation_sha256: str | None = None
    titles: dict[str, str] = field(default_factory=dict)
    whitening_sha256: str | None = None
    regime: str = ""
    taught_bytes: int | None = None
    identified_by: IdentifiedBy = "content"
