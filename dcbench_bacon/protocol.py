"""How a set is evaluated, field by field; no torch is imported here."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from dcbench_bacon.field_types import (
    AboveZero,
    Fraction,
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
        batch_size: images per step.
        augmentation: names of DSA operations joined by ``_``, of which each batch draws
            one and each image its parameters; or the name of a policy; empty for none.
        precision: of the networks' arithmetic.
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
        schedule: of the learning rate: ``drop`` once, after half the passes;
            ``cosine``; ``ssrs``, a cosine for five sixths of the passes and then a
            line to zero; or ``multistep``, at the milestones.
        smoothing: zeta of ``cosine`` and ``ssrs``: how many times as long as the
            training half a wave is; 1 is plain cosine, 2 ends at half the rate.
        warm_up: passes before ``cosine`` in which the rate rises from a hundredth.
        milestones: of ``multistep``, as shares of the passes.
        drop: factor of the rate at each milestone, and at ``drop``'s only one.
        loss: cross-entropy, Kullback-Leibler divergence from the labels, or squared
            error of logits.
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
        ema: share of a moving average of the weights that each step keeps; the average
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
