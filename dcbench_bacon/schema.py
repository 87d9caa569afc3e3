"""What dcbench writes to disk, field by field; no torch is imported here.

Accuracies are fractions in [0, 1], durations seconds, sizes bytes. Fields are
only ever added, with a default, so that old records stay readable.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import asdict, replace

Positive = Annotated[int, Meta(ge=1)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Status = Literal["done", "failed", "diverged"]
Selection = Literal["final", "best_val", "best_test"]
CompileMode = Literal["auto", "on", "off"]
Precision = Literal["fp32", "tf32", "bf16"]
Profile = Literal["demo", "quick", "paper"]
Optimiser = Literal["sgd", "adamw"]
RateSchedule = Literal["drop", "cosine", "ssrs", "multistep"]
Loss = Literal["ce", "kl", "mse"]
MixingKind = Literal["none", "mixup", "cutmix"]
ResidualInit = Literal["default", "fan_out"]
AboveZero = Annotated[float, Meta(gt=0)]
# Of a side of an image: published sets have 2 or 3, and decoding takes the square.
MOST_PARTS = 4
Parts = Annotated[int, Meta(ge=1, le=MOST_PARTS)]
LabelKind = Literal["hard", "soft", "unknown"]


_REDUCTION: tuple[Profile, ...] = ("paper", "quick", "demo")


def more_reduced(one: Profile, other: Profile) -> Profile:
    """The profile whose numbers say less."""
    return max(one, other, key=_REDUCTION.index)


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
        class_names: one a class, in the order of the labels.
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


class Exemption(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a protocol does otherwise for one network; see ``Protocol``.

    Attributes:
        architecture: the network's name.
        augmentation: instead of the protocol's.
        epochs: instead of the protocol's.
        learning_rate: instead of the protocol's.
    """

    architecture: str
    augmentation: str | None = None
    epochs: Positive | None = None
    learning_rate: AboveZero | None = None


class Protocol(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a set is evaluated: fresh networks trained on it, tested on real data.

    The defaults are those of the published protocol ``dc``. A field added later must
    keep what it has always done as its default: a digest holds it only where it is
    set to something else (see ``recipe.digest``).

    Attributes:
        name: the protocol's name in ``protocols.toml``.
        architectures: the networks trained on the set.
        networks: fresh networks of each architecture.
        epochs: passes over the (decoded) set; see ``one_more_pass``.
        learning_rate: of the optimiser, before its schedule.
        momentum: of SGD; AdamW has betas 0.9 and 0.999.
        weight_decay: of the optimiser; AdamW's is decoupled from the gradient.
        batch_size: images a step.
        augmentation: DSA operations joined by ``_``, drawn a sample; empty for none;
            or the name of a policy of ``policies``.
        precision: of the networks' arithmetic; see ``precision``.
        selection: which pass counts: the last, the best on a validation split
            held out of train, or (optimistic) the best on test.
        measure_every: passes between measurements when selection is not final.
        validation: share of every class held out of train where ``held_out``.
        evaluate_every: distillation steps between evaluations on the way; 0 for none.
            When selection is not final, the best of these sets is kept.
        use_learned_rate: train at the learning rate that was distilled with the set,
            not at ``learning_rate``.
        one_more_pass: the last index is included, as in the published loop, so that
            ``epochs = 1000`` makes 1001 passes.
        optimiser: ``sgd`` or ``adamw``.
        decayed: the parameters whose weights decay: all, or those of more than one
            dimension (no biases, no norms).
        schedule: of the learning rate; see ``schedules``.
        smoothing: zeta of ``cosine`` and ``ssrs``: how many times as long as the
            training half a wave is; 1 is plain cosine, 2 ends at half the rate.
        warm_up: passes before ``cosine`` in which the rate rises from a hundredth.
        milestones: of ``multistep``, as shares of the passes.
        drop: factor of the rate at each milestone, and at ``drop``'s only one.
        loss: cross-entropy, Kullback-Leibler divergence from the labels, or squared
            error of logits; see ``losses``.
        temperature: of ``kl``, of labels and logits.
        temperature_squared: whether ``kl`` is multiplied by the temperature's square.
        original_weight: of a cross-entropy with the labels as they were before mixing,
            added to the loss; gamma of G-VBSM and EDC.
        teachers: networks trained on real images; the mean of their logits on the very
            batch that the student sees is its label. Without them the labels are those
            stored in the set.
        teacher_epochs: of the teachers' training; one less than the passes.
        mixing: of pairs of images of a batch; stored labels are mixed as the images.
        mixing_alpha: the share kept of an image follows Beta(alpha, alpha).
        ema: share of a moving average of the weights that is kept a step; the average
            is what is tested. 0 for none.
        learning_rates: candidates instead of ``learning_rate``; for each architecture
            the one of the best mean accuracy on the validation split counts.
        exemptions: what some of the networks are trained with instead.
        residual_init: how the convolutions of residual networks start: ``default`` as
            PyTorch's, or ``fan_out``, normal with a variance of 2 / fan-out (He et al.,
            ICCV 2015), as torchvision's ResNets.
        test_size: pixels a side to which real images are enlarged before their middle
            is tested; 0 tests them as they are.
    """

    name: str
    architectures: tuple[str, ...] = ("ConvNet",)
    networks: Positive = 5
    epochs: Positive = 1000
    learning_rate: AboveZero = 0.01
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Meta(ge=0)] = 5e-4
    batch_size: Positive = 256
    augmentation: str = "color_crop_cutout_flip_scale_rotate"
    precision: Precision = "tf32"
    selection: Selection = "final"
    measure_every: Positive = 50
    validation: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    evaluate_every: Annotated[int, Meta(ge=0)] = 0
    use_learned_rate: bool = False
    one_more_pass: bool = True
    optimiser: Optimiser = "sgd"
    decayed: Literal["all", "matrices"] = "all"
    schedule: RateSchedule = "drop"
    smoothing: Annotated[float, Meta(ge=1)] = 1.0
    warm_up: Annotated[int, Meta(ge=0)] = 0
    milestones: tuple[Fraction, ...] = ()
    drop: Annotated[float, Meta(gt=0, le=1)] = 0.1
    loss: Loss = "ce"
    temperature: AboveZero = 1.0
    temperature_squared: bool = False
    original_weight: Annotated[float, Meta(ge=0)] = 0.0
    teachers: tuple[str, ...] = ()
    teacher_epochs: Positive = 50
    mixing: MixingKind = "none"
    mixing_alpha: AboveZero = 1.0
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    learning_rates: tuple[AboveZero, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    residual_init: ResidualInit = "default"
    test_size: Annotated[int, Meta(ge=0)] = 0

    def of(self, architecture: str) -> "Protocol":
        """Return the protocol as it is for one network."""
        own = [each for each in self.exemptions if each.architecture == architecture]
        changes = {
            key: value
            for each in own
            for key, value in asdict(each).items()
            if key != "architecture" and value is not None
        }
        return replace(self, **changes) if changes else self

    @property
    def passes(self) -> int:
        """Passes over the set in all."""
        return self.epochs + self.one_more_pass

    @property
    def held_out(self) -> bool:
        """Whether something is chosen on a validation split held out of train."""
        return self.selection == "best_val" or bool(self.learning_rates)


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
    """The time spent in one named part of a stage's steps."""

    seconds: float
    calls: int


class Timing(Struct, frozen=True, kw_only=True):
    """What a stage cost.

    Attributes:
        seconds: in step bodies, without checkpoints and scheduled evaluations.
        steps: how many ran, resumed parts included.
        median: seconds of the median step.
        iqr: distance between the quartiles of seconds a step.
        images: images that went through a network, forward or backward.
        peak_bytes: device memory on a GPU, resident memory of the process on a CPU.
        phases: where the seconds went.
        step_flops: floating-point operations of a step, where they were counted.
        product_flops: operations a second of a large matrix product on the same
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
    """Where and with what a record was made."""

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
        status: ``diverged`` when a loss stopped being finite.
        digest: eight hex digits of the recipe, as in the file name.
        evaluations: one a network.
        distillation: the cost of making the set.
        evaluation: the cost of judging it, timed apart.
        dataset_sha256: of the pixels and labels of train and test, before whitening.
        method_sha256: of the source of the module that made the set.
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
