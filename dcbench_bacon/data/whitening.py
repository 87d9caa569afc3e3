"""ZCA whitening of a data set, as MTT does it (Cazenavette et al., CVPR 2022).

The statistics come from the pixels of the whole train split, in [0, 1], as mean and
standard deviation do, also where images are held out of it for validation; train and
test are whitened with them, and a set that is distilled from such images lies in the
same space. They are fitted once for a data set and kept in the user's cache
(``~/.cache/dcbench/whitening``, or where ``DCBENCH_WHITENING`` says).
"""

import hashlib
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float32, UInt8
from kornia.enhance import linear_transform, zca_mean
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dcbench_bacon.data.dataset import Dataset, sha256, standardize
from dcbench_bacon.data.synthetic import Split, SyntheticSet
from dcbench_bacon.runtime.files import cache_folder, write_atomically

logger = logging.getLogger(__name__)


EPS = 0.1  # added to the variances; distill.py's
PIECE = 10_000  # images in one product


class Whitening(NamedTuple):
    """Whitened images are (x - mean) matrix, with x the flat pixels in [0, 1]."""

    mean: Float32[Tensor, "1 d"]
    matrix: Float32[Tensor, "d d"]

    @property
    def sha256(self) -> str:
        """Of both; equal up to rounding is not the same."""
        return sha256(*self)

    def apply(self, images: UInt8[Tensor, "n c h w"]) -> Float32[Tensor, "n c h w"]:
        """Whitens images."""
        whitened = torch.empty(images.shape, device=images.device)
        pieces = (torch.split(each, PIECE) for each in (images, whitened))
        for pixels, place in zip(*pieces, strict=True):
            place.copy_(linear_transform(pixels / 255, self.matrix, self.mean))
        return whitened

    def undo(self, images: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n c h w"]:
        """Pixels of whitened images; distilled ones may lie outside [0, 1]."""
        flat: Tensor = torch.linalg.solve(self.matrix, images.flatten(1).T)
        return (flat.T + self.mean).view_as(images)


def fit(images: UInt8[Tensor, "n c h w"]) -> Whitening:
    """Finds mean and matrix; takes about 8 bytes a value of ``images``.

    With C the covariance, the matrix is the symmetric root of the inverse of C + eps.
    """
    matrix, mean, _ = zca_mean(images / 255, eps=EPS)
    return Whitening(mean, matrix)


def whiten(dataset: Dataset) -> Dataset:
    """The same data set with whitened images: float32, as networks take them."""
    whitening = _kept(dataset)
    marked = f"{dataset.fingerprint} ZCA {EPS}"
    return replace(
        dataset,
        train=_split(dataset.train, whitening),
        test=_split(dataset.test, whitening),
        fingerprint=hashlib.sha256(marked.encode()).hexdigest(),
        zca={"eps": EPS, "sha256": whitening.sha256},
        before_whitening=dataset.fingerprint,
    )


def unwhiten(synthetic: SyntheticSet, dataset: Dataset) -> SyntheticSet:
    """A whitened set as normalised images, to look at or to hand to others.

    Args:
        synthetic: distilled from whitened images.
        dataset: what it was distilled from, not whitened.
    """
    pixels = _kept(dataset).undo(synthetic.images)
    provenance = {**synthetic.provenance, "zca": None}
    images = standardize(pixels, dataset.info)
    return replace(synthetic, images=images, provenance=provenance)


def _split(split: Split, whitening: Whitening) -> Split:
    return Split(whitening.apply(split.images), split.labels)


def _kept(dataset: Dataset) -> Whitening:
    """The statistics of a data set: from the cache, or fitted and put there."""
    device = dataset.train.images.device
    images = dataset.fingerprint[:16]
    name = f"{dataset.info.name}-{images}-{EPS:g}-{device.type}.safetensors"
    path = _folder() / name
    try:
        stored = load(path.read_bytes())
        return Whitening(*(stored[key].to(device) for key in Whitening._fields))
    except FileNotFoundError:
        logger.info("fitting the ZCA whitening of %s", dataset.info.name)
    except (SafetensorError, OSError, KeyError) as error:
        logger.warning("%s is made anew: %s", path, error)
    found = fit(dataset.train.images)
    write_atomically(path, save(found._asdict()))
    return found


def _folder() -> Path:
    kept = os.environ.get("DCBENCH_WHITENING") or cache_folder("whitening")
    return Path(kept).expanduser()
