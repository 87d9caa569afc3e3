"""The evaluation protocol, field by field. This module does not import torch."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from dcbench_bacon.field_types import (
    AboveZero,
    Fraction,
    Labelling,
    Loss,
    MixingKind,
    Optimiser,
    Positive,
    Precision,
    RateSchedule,
    ResidualInit,
    Selection,
)


class Exemption(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a protocol that differ for one network; see ``Protocol``.

    Attributes:
        architecture: the name of the network.
        augmentation: replaces the protocol's; None keeps it.
        epochs: replaces the protocol's; None keeps it.
        learning_rate: replaces the protocol's; None keeps it.
    """

    architecture: str
    augmentation: str | None = None
    epochs: Positive | None = None
    learning_rate: AboveZero | None = None


class Protocol(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The way a set is evaluated: fresh networks train on it and classify real images.

    The defaults are those of the published protocol ``dc``. The default of a field that
    is added later must be the behaviour before it was added, because a digest contains
    such a field only where its value differs from the default (see
    ``recipes.digests``).

    Attributes:
        name: the name of the protocol in ``protocols.toml``.
        architectures: the names of the networks that are trained on the set.
        networks: the number of fresh networks per architecture, 1 or more.
        epochs: the number of passes over the decoded set. The published loop of ``dc``
            counts to 1000 inclusive, which is 1001 epochs.
        learning_rate: the rate of the optimiser before its schedule, above 0.
        momentum: the momentum of SGD, in [0, 1). AdamW always has betas 0.9 and 0.999.
        weight_decay: the weight decay of the optimiser, 0 or more; that of AdamW is
            decoupled from the gradient.
        batch_size: the number of images per step.
        augmentation: the names of DSA operations joined by ``_``, one of which is drawn
            per batch, with parameters drawn per image; or the name of a policy; or
            empty for no augmentation. Several of these joined by ``+`` each train
            ``networks`` networks of their own.
        precision: the precision of the networks' arithmetic: ``fp32``, ``tf32`` or
            ``bf16``.
        selection: the epoch whose accuracy counts: ``final`` is the last one,
            ``best_val`` the best on a validation split held out of train, and
            ``best_test`` the best on test, which is optimistic.
        measure_every: the number of epochs between measurements, unless ``selection``
            is ``final``.
        validation: the share of each class that is held out of train, in (0, 1), where
            ``held_out`` is true.
        evaluate_every: the number of distillation steps between evaluations during
            distillation; 0 for none. Unless ``selection`` is ``final``, the best of
            these sets is kept.
        use_learned_rate: whether networks train at the learning rate that was distilled
            with the set instead of ``learning_rate``.
        optimiser: ``sgd`` or ``adamw``.
        decayed: the parameters that weight decay applies to: ``all``, or ``matrices``,
            those of more than one dimension (no biases and no norms).
        schedule: the schedule of the learning rate: ``drop`` lowers it once, after half
            the epochs; ``cosine``; ``ssrs`` is a cosine for five sixths of the epochs
            and then a line to zero; ``multistep`` lowers it at the milestones.
        smoothing: zeta of ``cosine`` and ``ssrs``, 1 or more: the length of half a wave
            divided by that of the training. 1 is the usual cosine; 2 ends at half the
            rate.
        warm_up: the number of epochs before ``cosine`` in which the rate rises linearly
            from a hundredth of ``learning_rate``.
        milestones: the milestones of ``multistep``, as shares of the epochs in [0, 1].
        drop: the factor by which the rate falls at each milestone of ``multistep``, and
            at the middle of ``drop``, in (0, 1].
        loss: ``ce`` is the cross-entropy, ``kl`` the Kullback-Leibler divergence from
            the labels, and ``mse`` the squared error of the logits.
        temperature: the number that ``kl`` divides the logits and the labels' logits
            by, above 0.
        temperature_squared: whether ``kl`` is multiplied by the square of the
            temperature.
        original_weight: the weight of a cross-entropy with the labels before mixing,
            which is added to the loss; 0 or more. It is gamma of G-VBSM and EDC.
        teachers: the names of networks that are trained on real images. The mean of
            their logits on the batch that the student sees is the label of that batch,
            unless ``labels`` says otherwise. Without teachers, the labels are those
            stored in the set.
        labels: ``own`` are the labels that are stored in the set or, with teachers,
            theirs for every batch; ``hard`` are the classes of the largest stored
            labels; ``soft`` are the teachers' probabilities for each image of the set
            as it is, made once before the training.
        teacher_epochs: the number of epochs in the teachers' training.
        mixing: how pairs of images in a batch are mixed: ``none``, ``mixup`` or
            ``cutmix``. Stored labels are mixed like the images.
        mixing_alpha: alpha, above 0, of the distribution Beta(alpha, alpha) of the
            share of an image that is kept.
        ema: the share, in [0, 1), of the moving average of the weights that each step
            keeps; the averaged network is tested. 0 for no average.
        learning_rates: candidates for ``learning_rate``. For each architecture, the
            candidate with the best mean accuracy on the validation split counts.
        exemptions: the settings that differ for some of the networks.
        residual_init: how the convolutions of residual networks are initialised:
            ``default`` as in PyTorch, or ``fan_out``, normal with a variance of
            2 / fan-out (He et al., ICCV 2015), as in torchvision's ResNets.
        test_size: the pixels along a side to which real images are enlarged before
            their middle is tested; 0 tests them at their own size.
        updates: the number of updates of each network, whatever the size of the set; 0
            for those of ``epochs``. The updates are divided evenly among the epochs,
            so that schedules and measurements are the same for every set.
        label_store: whether the teachers' labels of every epoch are made once for all
            networks and stored in half precision with the crops, flips and mixes.
    """

    name: str
    architectures: tuple[str, ...] = ("ConvNet",)
    networks: Positive = 5
    epochs: Positive = 1001
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
    teacher_epochs: Positive = 51
    mixing: MixingKind = "none"
    mixing_alpha: AboveZero = 1.0
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    learning_rates: tuple[AboveZero, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    residual_init: ResidualInit = "default"
    test_size: Annotated[int, Meta(ge=0)] = 0
    labels: Labelling = "own"
    updates: Annotated[int, Meta(ge=0)] = 0
    label_store: bool = False

    def of(self, architecture: str) -> "Protocol":
        """Return the protocol with the exemptions of one network applied."""
        exemptions = [
            exemption
            for exemption in self.exemptions
            if exemption.architecture == architecture
        ]
        changes = {
            key: value
            for exemption in exemptions
            for key, value in asdict(exemption).items()
            if key != "architecture" and value is not None
        }
        return replace(self, **changes) if changes else self

    @property
    def under_each(self) -> tuple["Protocol", ...]:
        """One protocol per augmentation that ``augmentation`` names, in its order."""
        names = self.augmentation.split("+")
        return tuple(replace(self, augmentation=name) for name in names)

    @property
    def regime(self) -> str:
        """Where the labels come from: ``own``, or a label regime.

        The regimes are ``hard`` (HL), ``soft`` (SL) and ``renewed`` (SL+KD: the
        teachers label every batch), as in arXiv:2604.18811.
        """
        if self.labels == "own" and self.teachers:
            return "renewed"
        return self.labels

    @property
    def title(self) -> str:
        """The name in tables: with the regime and the budget where they are chosen."""
        chosen: list[str] = [] if self.labels == "own" else [self.labels]
        chosen += [f"{self.updates} updates"] if self.updates else []
        chosen += ["stored labels"] * self.label_store
        return ", ".join([self.name, *chosen])

    def updates_before(self, index: int, images: int) -> int:
        """Return the number of updates before the epoch of an index.

        Args:
            index: the index of the epoch, from 0.
            images: the number of images in the decoded set.
        """
        if self.updates:
            return index * self.updates // self.epochs
        return index * -(-images // self.batch_size)

    def images_seen(self, images: int) -> int:
        """Return how many images the training of a network takes, one by one.

        Args:
            images: the number of images in the decoded set.
        """
        if self.updates:
            return self.updates * min(images, self.batch_size)
        return self.epochs * images

    @property
    def held_out(self) -> bool:
        """Whether a choice is made on a validation split that is held out of train."""
        return self.selection == "best_val" or bool(self.learning_rates)


# The fields that came after the digests of whole protocols.
LATER_FIELDS = frozenset({"labels", "updates", "label_store"})
