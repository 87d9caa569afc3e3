"""The ZCA whitening of a data set as in MTT (Cazenavette et al., CVPR 2022).

The statistics come from the pixels of the whole train split, in [0, 1], even where
images are held out of it for validation; the same is true of mean and standard
deviation. Train and test are whitened with them, and a set that is distilled from
whitened images is whitened too. The statistics are fitted once per data set and kept in
the user's cache (``~/.cache/dcbench/whitening``, or the folder ``DCBENCH_WHITENING``).
"""

import hashlib
import logging
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
from dcbench_bacon.data.splits import Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import OutputError
from dcbench_bacon.runtime.disk.caches import WHITENING
from dcbench_bacon.runtime.disk.files import write_atomically
from dcbench_bacon.runtime.disk.locks import lock_of

logger = logging.getLogger(__name__)


EPS = 0.1  # added to the variances, as in MTT's distill.py
PIECE = 10_000  # images per matrix product


class Whitening(NamedTuple):
    """The map from flat pixels x in [0, 1] to whitened images, (x - mean) matrix."""

    mean: Float32[Tensor, "1 d"]
    matrix: Float32[Tensor, "d d"]

    @property
    def sha256(self) -> str:
        """The hash of both tensors; values that differ by rounding have another one."""
        return sha256(*self)

    def apply(self, images: UInt8[Tensor, "n c h w"]) -> Float32[Tensor, "n c h w"]:
        """Return the whitened images of pixels from 0 to 255."""
        whitened = torch.empty(images.shape, device=images.device)
        pieces = (torch.split(tensor, PIECE) for tensor in (images, whitened))
        for pixels, place in zip(*pieces, strict=True):
            place.copy_(linear_transform(pixels / 255, self.matrix, self.mean))
        return whitened

    def undo(self, images: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n c h w"]:
        """Return the pixels of whitened images; they may be outside [0, 1]."""
        flat: Tensor = torch.linalg.solve(self.matrix, images.flatten(1).T)
        return (flat.T + self.mean).view_as(images)


def fit(images: UInt8[Tensor, "n c h w"]) -> Whitening:
    """Return the whitening of images, which takes about 8 bytes per pixel value.

    The matrix is the symmetric square root of the inverse of C + eps, where C is the
    covariance.
    """
    matrix, mean, _ = zca_mean(images / 255, eps=EPS)
    return Whitening(mean, matrix)


def whiten(dataset: Dataset) -> Dataset:
    """Return the data set with whitened images of type float32."""
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
    """Return a whitened set as normalised images, for pictures and other tools.

    Args:
        synthetic: a set that was distilled from whitened images.
        dataset: the data set that it was distilled from, not whitened.
    """
    pixels = _kept(dataset).undo(synthetic.images)
    provenance = {**synthetic.provenance, "zca": None}
    images = standardize(pixels, dataset.info)
    return replace(synthetic, images=images, provenance=provenance)


def other_fit(synthetic: SyntheticSet, dataset: Dataset) -> bool:
    """Return whether a set was whitened with another matrix than a data set is.

    Fits of the same images differ by rounding between devices and versions, so that
    the matrix is no part of the fingerprint of the images: a set must stay readable
    after the matrix was fitted again.

    Args:
        synthetic: a whitened set.
        dataset: the whitened data set that it is tested on.
    """
    stated = (synthetic.provenance.get("zca") or {}).get("sha256")
    return stated is not None and stated != (dataset.zca or {}).get("sha256")


def _split(split: Split, whitening: Whitening) -> Split:
    return split.resident().changed(whitening.apply)


def _kept(dataset: Dataset) -> Whitening:
    """Return the whitening of a data set from the cache, or fit it and add it.

    Processes that ask at the same time wait for one to fit it, because two fits may
    differ by rounding. If the cache cannot be written to, nothing is kept.
    """
    device = dataset.train.device
    images = dataset.fingerprint[:16]
    name = f"{dataset.info.name}-{images}-{EPS:g}-{device.type}.safetensors"
    path = WHITENING.folder / name
    if stored := _stored(path, device):
        return stored
    lock = lock_of(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        logger.warning("the ZCA whitening is not kept: %s", error)
        return fit(dataset.train.resident().images)
    try:
        if stored := _stored(path, device, tell=True):  # another process fitted it
            return stored
        logger.info("fitting the ZCA whitening of %s", dataset.info.name)
        whitening = fit(dataset.train.resident().images)
        write_atomically(path, save(whitening._asdict()))
    except OutputError as error:
        logger.warning("the ZCA whitening is not kept: %s", error)
    finally:
        lock.release()
    return whitening


def _stored(
    path: Path, device: torch.device, *, tell: bool = False
) -> Whitening | None:
    """Return the whitening in a file, or None if it is missing or damaged."""
    try:
        stored = load(path.read_bytes())
        return Whitening(*(stored[key].to(device) for key in Whitening._fields))
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError) as error:
        if tell:
            logger.warning("%s is made anew: %s", path, error)
        return None
