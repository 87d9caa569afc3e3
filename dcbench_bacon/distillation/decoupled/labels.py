"""Relabel: the labels that are stored with the images of a decoupled method.

Protocols with teachers label each batch of an evaluation anew and do not read them.
"""

from dataclasses import replace

import msgspec
from jaxtyping import Float
from torch import Tensor

from dcbench_bacon.contract import Run
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.class_batches import in_class_order
from dcbench_bacon.distillation.decoupled.settings import ObserverSettings
from dcbench_bacon.distillation.decoupled.squeeze import Observers


def labelled_set(
    run: Run,
    settings: ObserverSettings,
    observers: Observers,
    images: Float[Tensor, "m c h w"],
) -> SyntheticSet:
    """Return images with their labels and the origins of their observers.

    Args:
        run: the run of the cell.
        settings: the kind of labels.
        observers: the networks that label the images where labels are soft.
        images: normalised images in class order.
    """
    hard = in_class_order(
        images.clone(),
        run.info,
        provenance={"observers": msgspec.to_builtins(observers.origins)},
    )
    if settings.labels == "hard":
        return hard
    logits = observers.mean_logits(images) / settings.label_temperature
    return replace(hard, labels=logits.softmax(1))
