"""Label regimes: classes, labels made once by teachers, or labels for every batch.

Soft labels that were made once are rows of probabilities, as in a set that stores soft
labels, and are treated like these: mixed like the images, and softened by the
temperature of ``kl`` (see ``losses``).
"""

from dataclasses import replace

from jaxtyping import Float
from msgspec.structs import replace as changed
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.dataset import sha256
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.networks.base import Network
from dcbench_bacon.training.label_store import LabelStore, bytes_of
from dcbench_bacon.training.labelling import mean_logits, weights_of
from dcbench_bacon.training.task import Task

_LEAST = 1e-30  # the smallest probability of a soft label: its logarithm is finite
_LOGIT_BYTES = 2  # of one stored logit in half precision, as FKD stores them


def labelled(run: Run, task: Task) -> Task:
    """Return the task with the labels of its protocol in the set.

    Under ``labels = "hard"`` and ``"soft"`` the set has other labels afterwards, and
    the protocol asks for no others. Where the labels of every pass are stored, the task
    has them. Otherwise nothing changes.

    Args:
        run: keeps soft labels, which are made once for a set and its teachers.
        task: the task, on the device of the run.
    """
    if task.protocol.label_store:
        store = LabelStore(run, task)
        store.index()
        return task._replace(kept=store.batches)
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
    content = sha256(synthetic.images, *weights_of(teachers))[:16]
    name = f"labels-{run.cell}-{content}"

    def make(_: Run) -> State:
        labels = mean_logits(teachers, synthetic.images).double().softmax(1)
        return {"labels": labels.float().clamp_min(_LEAST)}

    labels: Tensor = run.once(name, make)["labels"]
    return labels.to(synthetic.labels.device)


def label_bytes(task: Task) -> int:
    """Return the size of the labels that each network of a task learns from.

    Args:
        task: the task before ``labelled``, or after it where labels are stored.

    Returns:
        One byte or more per image for classes, the size of the stored rows for soft
        labels and those of the set; and for labels that teachers make of every batch,
        what their logits take in half precision, with all that is stored beside them
        where they are.
    """
    if task.kept is not None:
        return task.protocol.epochs * bytes_of(task.kept(0))
    labels = task.synthetic.labels
    images, classes = len(labels) * task.synthetic.partition**2, labels.shape[1]
    sizes = {
        "hard": images * max(1, -(-(classes - 1).bit_length() // 8)),
        "soft": images * classes * labels.element_size(),
        "renewed": task.protocol.images_seen(images) * classes * _LOGIT_BYTES,
    }
    return sizes.get(task.protocol.regime, labels.nbytes)
