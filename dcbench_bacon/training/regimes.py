"""Label regimes: classes, labels made once by teachers, or labels for every batch.

Soft labels that were made once are rows of probabilities, as in a set that stores soft
labels, and are treated like these: mixed like the images, and softened by the
temperature of ``kl`` (see ``losses``).
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from msgspec.structs import replace as changed
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.dataset import sha256
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.networks.base import Network
from dcbench_bacon.runtime.compute.memory import images_per_call
from dcbench_bacon.training.task import Task

_LEAST = 1e-30  # the smallest probability of a soft label: its logarithm is finite
_LOGIT_BYTES = 2  # of one stored logit in half precision, as FKD stores them


@torch.no_grad()
def mean_logits(
    teachers: tuple[Network, ...], images: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n k"]:
    """Return the plain mean of the teachers' logits.

    Args:
        teachers: the networks, of which there is at least one.
        images: normalised images.
    """
    demand = max(teacher.memory_demand for teacher in teachers)
    most = images_per_call(images.device, images.shape[-1], demand)
    pieces = torch.split(images, most)
    logits = [
        torch.cat([teacher.eval()(piece) for piece in pieces]) for teacher in teachers
    ]
    return torch.stack(logits).mean(0)


def labelled(run: Run, task: Task) -> Task:
    """Return the task with the labels of its protocol in the set.

    Under ``labels = "hard"`` and ``"soft"`` the set has other labels afterwards, and
    the protocol asks for no others. Otherwise nothing changes.

    Args:
        run: keeps soft labels, which are made once for a set and its teachers.
        task: the task, on the device of the run.
    """
    if task.protocol.labels == "own":
        return task
    decoded = task.synthetic.decode()
    labels = (
        _classes(decoded)
        if task.protocol.labels == "hard"
        else _probabilities(run, decoded, task.teachers)
    )
    return task._replace(
        synthetic=replace(decoded, labels=labels),
        protocol=changed(task.protocol, labels="own", teachers=()),
        teachers=(),
    )


def _classes(synthetic: SyntheticSet) -> Float[Tensor, "m k"]:
    """Return the class of each image as a row with a single one."""
    labels = synthetic.labels
    return F.one_hot(labels.argmax(1), labels.shape[1]).to(labels.dtype)


def _probabilities(
    run: Run, synthetic: SyntheticSet, teachers: tuple[Network, ...]
) -> Float[Tensor, "m k"]:
    """Return what teachers make of each image, without a probability of zero."""
    weights = [value for each in teachers for value in each.state_dict().values()]
    name = f"labels-{run.cell}-{sha256(synthetic.images, *weights)[:16]}"

    def make(_: Run) -> State:
        labels = mean_logits(teachers, synthetic.images).double().softmax(1)
        return {"labels": labels.float().clamp_min(_LEAST)}

    labels: Tensor = run.once(name, make)["labels"]
    return labels.to(synthetic.labels.device)


def label_bytes(task: Task) -> int:
    """Return the size of the labels that each network of a task learns from.

    Args:
        task: the task before ``labelled``.

    Returns:
        One byte or more per image for classes, the size of the stored rows for soft
        labels and those of the set; and for labels that teachers make of every batch,
        what their logits would take in half precision.
    """
    labels = task.synthetic.labels
    images, classes = len(labels) * task.synthetic.partition**2, labels.shape[1]
    sizes = {
        "hard": images * max(1, -(-(classes - 1).bit_length() // 8)),
        "soft": images * classes * labels.element_size(),
        "renewed": task.protocol.images_seen(images) * classes * _LOGIT_BYTES,
    }
    return sizes.get(task.protocol.regime, labels.nbytes)
