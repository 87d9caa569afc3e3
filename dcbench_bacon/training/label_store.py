"""Labels of every pass that are made once and read again, as in FKD.

A pass is a file of the results folder (``shared/labels-...``, in safetensors). It has
an entry per batch: the positions of the images, the numbers that decide crops, flips
and mixes, and the teachers' mean logits in half precision. Another file is the index.
All networks of a set see the same passes (Shen and Xing, arXiv:2112.01528; SRe2L).
"""

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any

import torch

from dcbench_bacon.augmentation import policies
from dcbench_bacon.augmentation.mixing import Mix
from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.dataset import sha256
from dcbench_bacon.training.labelling import mean_logits, weights_of
from dcbench_bacon.training.task import LabelledBatch, Task


class LabelStore:
    """The labelled passes over a set.

    Args:
        run: keeps the passes.
        task: the set, the protocol and the teachers, on the device of the run.
    """

    def __init__(self, run: Run, task: Task) -> None:
        """Make no pass yet."""
        self.run = run
        self.protocol = task.protocol
        decoded = task.synthetic.decode()
        self.images = decoded.images
        self.teachers = task.teachers
        self.augmentation = policies.build(self.protocol.augmentation, task.info)
        self.mixer = task.mixer

    @cached_property
    def name(self) -> str:
        """The beginning of the files' names: it identifies all that decides labels."""
        protocol = self.protocol
        decisive = (protocol.batch_size, protocol.augmentation, protocol.mixing)
        words = f"{self.run.cell} {decisive} {protocol.mixing_alpha}"
        identity = torch.frombuffer(bytearray(words.encode()), dtype=torch.uint8)
        content = sha256(self.images, identity, *weights_of(self.teachers))[:16]
        return f"labels-{self.run.cell}-{content}"

    def index(self) -> State:
        """Return what the store has, which is kept beside the passes."""
        size = bytes_of(self.batches(0))
        return self.run.once(
            f"{self.name}-index",
            lambda _: {
                "files": f"{self.name}-PASS",
                "images_per_pass": len(self.images),
                "bytes_per_pass": size,
                "batch_size": self.protocol.batch_size,
                "augmentation": self.protocol.augmentation,
                "mixing": self.protocol.mixing,
                "teachers": list(self.protocol.teachers),
            },
        )

    def batches(self, index: int) -> list[LabelledBatch]:
        """Return the batches of the pass of an index, made now or before."""
        content = self.run.once(f"{self.name}-{index:05}", self._make)
        return [self._read(entry) for entry in content["batches"]]

    def _make(self, run: Run) -> State:
        """Return the content of a pass, whose random streams are those of its name."""
        order = torch.randperm(
            len(self.images), generator=run.generator("order", "cpu")
        )
        drawing, pairing = (run.generator(n, "cpu") for n in ("augmentation", "mixing"))
        batches = []
        for index in torch.split(order, self.protocol.batch_size):
            draw = self.augmentation.draw(1, drawing, samples=len(index))
            mix = self.mixer.draw(len(index), pairing) if self.mixer else None
            seen = see(self.images, self.augmentation, index, draw, mix)
            logits = mean_logits(self.teachers, seen).half()
            entry = {"index": index, "draw": vars(draw), "logits": logits}
            batches.append({**entry, "mix": vars(mix) if mix else None})
        return {"batches": batches}

    def _read(self, entry: State) -> LabelledBatch:
        """Return a batch from its content in a file."""
        kind = type(self._drawn)
        draw = kind(**{field.name: entry["draw"][field.name] for field in fields(kind)})
        mix = None if entry["mix"] is None else Mix(**entry["mix"])
        return LabelledBatch(entry["index"], draw, mix, entry["logits"])

    @cached_property
    def _drawn(self) -> Any:
        """Some draw of the augmentation, which tells the type of all."""
        return self.augmentation.draw(1, torch.Generator(), samples=1)


def see(
    images: torch.Tensor,
    augmentation: Any,
    index: torch.Tensor,
    draw: Any,
    mix: Mix | None,
) -> torch.Tensor:
    """Return what the networks see of a batch: augmented, then mixed.

    Args:
        images: the decoded images of the set.
        augmentation: applies the draw.
        index: the positions of the images of the batch.
        draw: the numbers that decide the augmentation.
        mix: the numbers that decide the mixing; None for none.
    """
    chosen = images[index.to(images.device)][None]
    placed = draw.to(images.device) if hasattr(draw, "to") else draw
    seen: torch.Tensor = augmentation.apply(chosen, placed)
    return (mix.images(seen) if mix else seen)[0]


def bytes_of(batches: Sequence[LabelledBatch]) -> int:
    """Return the size of all that is stored of batches."""
    return sum(
        tensor.nbytes
        for batch in batches
        for tensor in (
            *(batch.positions, batch.logits, *vars(batch.draw).values()),
            *(vars(batch.mix).values() if batch.mix else ()),
        )
    )
