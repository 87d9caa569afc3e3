"""What dcbench writes to disk, field by field; no torch is imported here.

Accuracies are fractions in [0, 1], durations seconds, sizes bytes. Fields are
only ever added, with a default, so that old records stay readable.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from dcbench_bacon.field_types import Fraction, LabelKind, Positive, Profile, Status
from dcbench_bacon.protocol import Protocol


class DatasetInfo(Struct, frozen=True, kw_only=True):
    """The facts of a data set.

    Attributes:
        name: the name typed at the prompt.
        title: the name printed in tables.
        classes: the number of classes.
        channels: 1 or 3.
        size: height and width in pixels.
        mean: per channel, of train pixels scaled to [0, 1].
        std: per channel, of train pixels scaled to [0, 1].
        class_names: one per class, in the order of the labels.
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
    """One box of the grid, before it has run.

    Attributes:
        method: the method's name as typed, for example ``bacon+idm``.
        dataset: the data set's name.
        ipc: synthetic images per class; 0 for the whole train split.
        seed: which repetition; every random stream derives from the cell.
    """

    method: str
    dataset: str
    ipc: Annotated[int, Meta(ge=0)]
    seed: Annotated[int, Meta(ge=0)] = 0

    def __str__(self) -> str:
        """The name that file names and progress lines use."""
        return f"{self.dataset}-ipc{self.ipc}-{self.method}-s{self.seed}"


class Evaluation(Struct, frozen=True, kw_only=True):
    """One network trained on the set and tested on real data.

    Attributes:
        architecture: its name, as ``networks.build`` takes it.
        trial: which of the networks of that architecture.
        accuracy: on the test split.
        epoch: index of the pass the accuracy was taken after.
        validation: accuracy on the held-out split at that pass, if there is one.
        step: the distillation step of the set that was evaluated.
        seconds: training and testing.
        learning_rate: the one it was trained with, before its schedule; records made
            before this was kept have it only where the protocol has several.
    """

    architecture: str
    trial: Annotated[int, Meta(ge=0)]
    accuracy: Fraction
    epoch: int
    seconds: float
    validation: Fraction | None = None
    step: int | None = None
    learning_rate: float | None = None


class Phase(Struct, frozen=True):
    """The time spent in one named part of a stage's steps.

    Attributes:
        seconds: in all steps.
        calls: how often the part was entered.
    """

    seconds: float
    calls: int


class Timing(Struct, frozen=True, kw_only=True):
    """What a stage cost.

    Attributes:
        seconds: in step bodies, without checkpoints and scheduled evaluations.
        steps: how many ran, resumed parts included.
        median: seconds of the median step.
        iqr: distance between the quartiles of the seconds per step.
        images: images that went through a network, forward or backward.
        peak_bytes: device memory on a GPU, resident memory of the process on a CPU.
        phases: where the seconds went.
        step_flops: floating-point operations of a step, where they were counted.
        product_flops: operations per second of a large matrix product on the same
            device in the same run.
        warm_up: seconds of the steps that were left out, compilation included.
        compilation: whether networks were compiled, or why not.
        graphs: launches of CUDA graphs, by the process that ended the stage.
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
    """Where and with what a record was made.

    Attributes:
        dcbench: the version of dcbench.
        git_commit: of the checkout, with ``+`` where files had changed; none outside a
            checkout.
        python: the version of Python.
        torch: the version of PyTorch.
        device: the name of the GPU, or of the processor with its number of cores.
        cuda: the version of CUDA that PyTorch uses; none on a CPU.
        threads: those PyTorch computes with.
        platform: the operating system.
        utc: when the record was made.
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


class Recipe(Struct, frozen=True, kw_only=True):
    """Everything that decides a cell's numbers apart from the cell itself.

    Attributes:
        settings: the method's hyper-parameters in force.
        protocol: how the set is evaluated.
        profile: ``paper`` for published settings; records of ``demo`` and ``quick``
            enter no paper table unless asked for.
        overrides: what ``--set`` changed.
    """

    settings: dict[str, bool | int | float | str | None]
    protocol: Protocol
    profile: Profile = "paper"
    overrides: dict[str, str] = field(default_factory=dict)


class Record(Struct, frozen=True, kw_only=True):
    """One cell after it has run.

    Attributes:
        version: of this layout.
        cell: what has run.
        recipe: how it has run.
        digest: eight hex digits of the recipe, as in the file name.
        status: ``diverged`` when a loss stopped being finite.
        environment: where it has run.
        evaluations: one per network.
        history: evaluations on the way, one per network and step that was evaluated.
        distillation: the cost of making the set.
        evaluation: the cost of judging it, timed apart.
        dataset_sha256: of the pixels and labels of train and test, before whitening.
        method_sha256: of the code that made the set, see ``plugins.method_sha256``;
            without the prefix ``code:``, of the bytes of the method's module alone.
        synthetic_sha256: of the images, labels and partition that were evaluated.
        synthetic_bytes: of images and labels as stored.
        label_bytes: of the labels among them.
        label_kind: ``hard`` when every row is one class alone; older records do not
            know it.
        teachers: how the networks that label the images were trained.
        name: what tables call the set instead of its method, where it was read from
            a file of another tool: that of the file, or the user's.
        images: how many the set has, as stored.
        per_class: the fewest and the most of a class; soft labels count as their
            largest entry.
        stored_accuracies: fractions, by network, that the authors of a file stored
            with the set.
        error: type and message when the cell did not finish.
        traceback: where that happened; the middle of a very long one is left out.
    """

    version: Literal[1] = 1
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
