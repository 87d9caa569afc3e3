"""The choices of the decoupled family: SRe2L, CDA, RDED, G-VBSM and EDC."""

from typing import Annotated, Literal

from msgspec import Meta

from dcbench_bacon.contract import Settings
from dcbench_bacon.distillation.pipeline import Count, Momentum, NonNegative, Rate
from dcbench_bacon.errors import UsageError
from dcbench_bacon.field_types import AboveZero, Fraction, Positive, Precision
from dcbench_bacon.training.settings import SmoothTraining

Share = Annotated[float, Meta(gt=0, le=1)]
"""A share of an image's area, above 0 and at most 1."""


class ObserverSettings(Settings, frozen=True, kw_only=True):
    """The observers, which are networks trained on real images, and the labels.

    Attributes:
        observers: the architectures of the observers, as ``networks.build`` takes them.
        observer_passes: the passes of each observer over the train split.
        observer_lr: the learning rate of the observers' SGD before its schedule.
        observer_momentum: the momentum of the observers' SGD.
        observer_weight_decay: the weight decay of the observers' SGD.
        observer_batch: the real images per step of the observers.
        observer_schedule: ``cosine`` (to zero) or ``constant``.
        observer_warm_up: the passes before ``cosine`` in which the rate rises linearly
            from a hundredth.
        observer_augmentation: DSA operations joined by ``_`` or the name of a policy,
            for the observers' training and for the statistics of real images.
        precision: the arithmetic of the observers; see ``runtime.compute.precision``.
        labels: ``hard`` stores the class of each image; ``soft`` stores the
            probabilities of the observers' mean logits for the image.
        label_temperature: the number that divides the mean logits of soft labels.
    """

    observers: Annotated[tuple[str, ...], Meta(min_length=1)] = ("ResNet18BN",)
    observer_passes: Positive = 200
    observer_lr: Rate = 0.1
    observer_momentum: Momentum = 0.9
    observer_weight_decay: NonNegative = 5e-4
    observer_batch: Positive = 128
    observer_schedule: Literal["cosine", "constant"] = "cosine"
    observer_warm_up: Count = 0
    observer_augmentation: str = "cifar"
    precision: Precision = "tf32"
    labels: Literal["hard", "soft"] = "hard"
    label_temperature: AboveZero = 1.0

    def training(self, architecture: str) -> SmoothTraining:
        """Return how the observer of an architecture is trained."""
        return SmoothTraining(
            architecture=architecture,
            epochs=self.observer_passes,
            learning_rate=self.observer_lr,
            momentum=self.observer_momentum,
            weight_decay=self.observer_weight_decay,
            batch_size=self.observer_batch,
            augmentation=self.observer_augmentation,
            precision=self.precision,
            schedule=self.observer_schedule,
            warm_up=self.observer_warm_up,
        )


class CropSettings(ObserverSettings, frozen=True, kw_only=True):
    """The choice of realistic crops of real images, as RDED makes it.

    Attributes:
        candidates: the real images per class that are looked at (``mipc``).
        crops: the random crops of each of them (``num-crop``).
        crop_area: the least share of an image's area that a crop covers.
        factor: the crops along each side of a synthetic image; it divides the size.
    """

    candidates: Positive = 300
    crops: Positive = 5
    crop_area: Share = 0.08
    factor: Positive = 1

    def check_crops(self, size: int, ipc: int, largest: int) -> None:
        """Make sure that the crops fill the images.

        Args:
            size: the pixels along a side of an image.
            ipc: the images per class to make.
            largest: the images of the largest class.

        Raises:
            UsageError: the factor does not divide the size, or the crops are too few.
        """
        if size % self.factor:
            raise UsageError(
                f"factor {self.factor} does not divide the image size {size}; choose "
                "one that does, such as --set factor=1"
            )
        needed = ipc * self.factor**2
        if needed > min(self.candidates, largest):
            raise UsageError(
                f"ipc {ipc} at factor {self.factor} needs {needed} crops per class, "
                f"each of another image, not {min(self.candidates, largest)}: raise "
                "--set candidates, or lower --set factor or --ipc"
            )


class RecoverySettings(CropSettings, frozen=True, kw_only=True):
    """The optimisation of synthetic images by what observers make of them.

    Attributes:
        steps: the updates of each batch of images; the learning rate falls to zero over
            them as a cosine.
        image_lr: the learning rate of Adam (betas 0.5 and 0.9) on normalised images.
        recover_batch: the most images that are optimised together.
        blocks: into how many blocks the images of each class are divided before batches
            are cut, class by class, from each block. 1 is class by class (G-VBSM); 0
            stands for ``ipc`` blocks, so that no batch has two images of a class
            (SRe2L).
        init: standard normal noise, real images, or the crops of RDED.
        view: what a step sees of the images: ``none`` all, ``shift`` a crop after
            padding by an eighth of the size, ``resized`` a part that is enlarged. All
            images of a batch share the crop and the flip of a step.
        view_area: the least share of the area that ``resized`` shows.
        curriculum: how the least share falls from 1 to ``view_area`` while a batch is
            optimised: ``none`` (it is ``view_area`` throughout), ``step``, ``linear``
            or ``cosine`` (CDA).
        milestone: the share of the steps after which it has fallen.
        mirrored: whether half of the views are mirrored.
        jitter: the most pixels by which a view is rolled along either axis, after the
            crop and the flip.
        jitter_signed: whether rolls go both ways instead of one.
        matched: the layers whose inputs have statistics to match: ``norms`` are the
            batch norms, ``all`` the batch norms and convolutions.
        statistics_weight: the weight of the statistics, r.
        first_weight: the factor of the first matched layer.
        statistics_momentum: the share, in [0, 1), of the moving average that each
            statistic keeps in a step; its gradient is that of the present statistic.
        drop_rate: the probability with which a step leaves out a convolution.
        patch: the side in pixels of the cells of patch statistics; maps that are
            smaller are one cell.
        category: whether statistics are also matched by class: ``none``, ``pooled``
            (those of the batch with the mean of its classes' targets) or ``per_class``.
        global_share: the weight of the statistics of all classes; the rest is that of
            the statistics by class. EDC's alpha.
        category_variance: ``image`` is the mean variance inside images, ``total`` adds
            the variance between images.
        flatness_weight: the weight of the divergence from the moving average of the
            images; 0 for none.
        flatness_momentum: the share that this average keeps in a step, in [0, 1).
        flatness_temperature: the number that divides both logits.
        flatness_reversed: whether the moving average is the first argument of the
            divergence.
        density_weight: the weight of the densification of each class, which flattens
            the spectrum of its images; 0 for none.
        density_temperature: the number that divides the eigenvalues of the target.
        tv_weight: the weight of the total variation; 0 for none.
        norm_weight: the weight of the mean norm of the images; 0 for none.
        compat_bugs: whether two faults of the published code are reproduced: moving
            averages that start at zero, and class targets whose means and variances of
            patches are exchanged.
    """

    steps: Positive = 1000
    image_lr: Rate = 0.25
    recover_batch: Positive = 100
    blocks: Count = 0
    init: Literal["noise", "real", "rded"] = "noise"
    view: Literal["none", "shift", "resized"] = "none"
    view_area: Share = 0.08
    curriculum: Literal["none", "step", "linear", "cosine"] = "none"
    milestone: Fraction = 1.0
    mirrored: bool = False
    jitter: Count = 0
    jitter_signed: bool = False
    matched: Literal["norms", "all"] = "norms"
    statistics_weight: NonNegative = 0.01
    first_weight: NonNegative = 10.0
    statistics_momentum: Momentum = 0.0
    drop_rate: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    patch: Positive = 4
    category: Literal["none", "pooled", "per_class"] = "none"
    global_share: Fraction = 0.5
    category_variance: Literal["image", "total"] = "image"
    flatness_weight: NonNegative = 0.0
    flatness_momentum: Momentum = 0.99
    flatness_temperature: AboveZero = 4.0
    flatness_reversed: bool = False
    density_weight: NonNegative = 0.0
    density_temperature: AboveZero = 4.0
    tv_weight: NonNegative = 0.0
    norm_weight: NonNegative = 0.0
    compat_bugs: bool = False

    @property
    def needs_real_statistics(self) -> bool:
        """Whether the running statistics of batch norms are not enough."""
        return self.matched == "all" or self.category != "none"
