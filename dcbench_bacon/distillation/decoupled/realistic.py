"""Realistic crops of real images: RDED (Sun et al., CVPR 2024).

Each candidate image gives its most realistic crop, which is the one with the lowest
cross-entropy of an observer for its class. The best of these are joined, ``factor``
along each side, to the images of a class.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.contract import Run, State
from dcbench_bacon.distillation.class_batches import RealImages
from dcbench_bacon.distillation.decoupled.crops import draw_boxes, resized_crops
from dcbench_bacon.distillation.decoupled.settings import CropSettings
from dcbench_bacon.distillation.decoupled.squeeze import Observers
from dcbench_bacon.runtime.compute.memory import images_per_call, send

STAGE = "score"


def realistic_images(
    run: Run, settings: CropSettings, observers: Observers
) -> Float[Tensor, "m c h w"]:
    """Return images of the most realistic crops, in class order.

    Args:
        run: the run, which supplies the real images.
        settings: the candidates, the crops and their arrangement.
        observers: the networks that judge crops, by the mean of their logits.

    Raises:
        UsageError: the factor does not divide the size, or the crops are too few.
    """
    learner = CropChoice(run, settings, observers)
    for step in run.steps(STAGE, learner.steps, state=learner):
        learner.step(step)
    return learner.images()


class CropChoice:
    """The best crop of each candidate image, and its cross-entropy.

    Args:
        run: the run, which supplies the real images.
        settings: the candidates, the crops and their arrangement.
        observers: the networks that judge crops.
    """

    def __init__(self, run: Run, settings: CropSettings, observers: Observers) -> None:
        """Draw the candidates of each class."""
        self.run = run
        self.settings = settings
        self.observers = observers
        self.real = RealImages(run)
        settings.check_crops(run.info.size, run.cell.ipc, self.real.largest)
        self.drawing = run.generator(f"{STAGE}/crops", device="cpu")
        drawn = self.real.draw(settings.candidates, run.generator(f"{STAGE}/images"))
        self.per_class = drawn.shape[1]
        self.index = drawn.flatten()
        self.losses = torch.full(self.index.shape, torch.inf, device=run.device)
        self.boxes = torch.zeros(
            len(self.index), 4, dtype=torch.int64, device=run.device
        )
        most = images_per_call(run.device, run.info.size)
        self.chunk = max(1, most // settings.crops)
        self.steps = -(-len(self.index) // self.chunk)

    @torch.no_grad()
    def step(self, step: int) -> None:
        """Find the best crops of some candidates."""
        settings, size = self.settings, self.run.info.size
        part = slice(step * self.chunk, (step + 1) * self.chunk)
        images, labels = self.real.labelled(self.index[part])
        count, crops = len(images), settings.crops
        drawn = draw_boxes(
            count * crops, size, settings.crop_area, self.drawing, aspect=(1.0, 1.0)
        )
        boxes = send(drawn, self.run.device)
        cut = resized_crops(
            images.repeat_interleave(crops, 0), boxes, size // settings.factor
        )
        logits = self.observers.mean_logits(_centred(cut, size))
        labels = labels.repeat_interleave(crops)
        losses = F.cross_entropy(logits, labels, reduction="none").view(count, crops)
        self.losses[part], best = losses.min(1)
        rows = torch.arange(count, device=best.device)
        self.boxes[part] = boxes.view(count, crops, 4)[rows, best]
        self.run.count(count * crops)

    def images(self) -> Float[Tensor, "m c h w"]:
        """Return the images of the best crops, in class order."""
        factor, ipc = self.settings.factor, self.run.cell.ipc
        chosen = self._best(ipc * factor**2)
        images, _ = self.real.labelled(self.index[chosen.flatten()])
        side = self.run.info.size // factor
        crops = resized_crops(images, self.boxes[chosen.flatten()], side)
        return tiled(torch.unflatten(crops, 0, (len(chosen), -1)), factor)

    def _best(self, count: int) -> Int64[Tensor, "c count"]:
        """Return the positions of the best candidates of each class, best first."""
        losses = self.losses.view(-1, self.per_class)
        position = torch.arange(self.per_class, device=losses.device)
        # A small class repeats its images; the repetitions do not count.
        again = position >= self.real.counts[:, None]
        order = losses.masked_fill(again, torch.inf).argsort(dim=1, stable=True)[
            :, :count
        ]
        first = torch.arange(len(losses), device=losses.device) * self.per_class
        return order + first[:, None]

    def state_dict(self) -> State:
        """Return the candidates, their best crops and the losses of these."""
        return {"index": self.index, "losses": self.losses, "boxes": self.boxes}

    def load_state_dict(self, state: State) -> None:
        """Restore a state that ``state_dict`` returned."""
        self.index.copy_(state["index"])
        self.losses.copy_(state["losses"])
        self.boxes.copy_(state["boxes"])


def tiled(crops: Float[Tensor, "k n c s s"], factor: int) -> Float[Tensor, "m c h w"]:
    """Return images of several crops each, in class order.

    Image j of a class has crop number ``i * ipc + j`` in cell i, row by row.

    Args:
        crops: for each class, its crops in their order.
        factor: the cells along each side of an image.
    """
    cells = torch.unflatten(crops, 1, (factor, factor, -1))
    classes, _, _, ipc, channels, side, _ = cells.shape
    joined = cells.permute(0, 3, 4, 1, 5, 2, 6)
    whole = factor * side
    return joined.reshape(classes * ipc, channels, whole, whole)


def _centred(images: Float[Tensor, "n c s s"], size: int) -> Float[Tensor, "n c h w"]:
    """Return images with zeros around them."""
    spare = size - images.shape[-1]
    before = spare // 2
    return F.pad(images, (before, spare - before, before, spare - before))
