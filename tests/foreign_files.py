"""Files of other tools, made as their code makes them."""

import argparse
import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

CLASSES, IPC, SIZE = 10, 2, 8  # of digits
SOFT = torch.rand(CLASSES * IPC, CLASSES, generator=torch.Generator().manual_seed(3))
SOFT = SOFT / SOFT.sum(1, keepdim=True)
REPEATABLE = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def images(seed: int = 0) -> Tensor:
    """Normalised images in the order of their classes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(CLASSES * IPC, 1, SIZE, SIZE, generator=generator)


def labels() -> Tensor:
    """As VICO's main.py makes them."""
    rows = np.array([np.ones(IPC) * i for i in range(CLASSES)])
    return torch.tensor(rows, dtype=torch.long, requires_grad=False).view(-1)


def res(path: Path, experiments: int = 5) -> Path:
    """VICO, IDM, BACON: main.py's ``save_name``."""
    data_save = []
    for seed in range(experiments):
        image_syn = images(seed).requires_grad_(True)
        pair = [image_syn.detach().cpu(), labels().detach().cpu()]
        data_save.append([copy.deepcopy(each) for each in pair])
    accuracies = {"ConvNet": [np.float64(0.25), np.mean([0.25, 0.5])] * experiments}
    torch.save({"data": data_save, "accs_all_exps": accuracies}, path)
    return path


def best(path: Path) -> Path:
    """IDM, BACON: the pickle of a tuple of CUDA tensors, as torch 1.11 names them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        path.write_bytes(pickle.dumps((images(), labels())))
    assert b"cuda:0" in path.read_bytes()
    return path


def mtt(folder: Path, rate: float | None = None, parts: int = 1) -> Path:
    """MTT's distill.py, and DATM's learned rate."""
    folder.mkdir()
    torch.save(labels(), folder / "labels_best.pt")
    if rate is not None:
        torch.save(torch.tensor(rate), folder / "lr_best.pt")
    if parts == 1:
        torch.save(images(), folder / "images_best.pt")
        return folder / "images_best.pt"
    for part, piece in enumerate(torch.chunk(images(), parts)):
        torch.save(piece.clone(), folder / f"images_best_{part}.pt")
    return folder / "images_best_0.pt"


def idc(path: Path) -> Path:
    """IDC's condense.py: pixels in [0, 1]."""
    torch.save([images().sigmoid(), labels()], path)
    return path


def tuple_(path: Path) -> Path:
    """What anybody would save."""
    torch.save([images(), labels()], path)
    return path


def dd(path: Path) -> Path:
    """Wang's train_distilled_image.py: steps of images, labels and rates."""
    steps = [(images(s), labels(), torch.tensor(0.01 * (s + 1))) for s in range(3)]
    torch.save(steps, path)
    return path


def pair(folder: Path, name: str = "digits_IPC2_normalize") -> Path:
    """DC-BENCH's random selection."""
    torch.save(images(), folder / f"{name}_images.pt")
    torch.save(labels(), folder / f"{name.removesuffix('_normalize')}_labels.pt")
    return folder / f"{name}_images.pt"


def kip(path: Path) -> Path:
    """KIP: channels last, labels around a tenth below zero."""
    nhwc = images().permute(0, 2, 3, 1).numpy()
    centred = np.eye(CLASSES, dtype=np.float32)[labels().numpy()] - 0.1
    np.savez(path, images=nhwc, labels=centred)
    return path


def dd_ranking(path: Path) -> Path:
    """A bare tensor in the order of classes."""
    torch.save(images(), path)
    return path


def npz(path: Path) -> Path:
    """What anybody would write."""
    np.savez_compressed(path, images=images().numpy(), labels=labels().numpy())
    return path


def dictionary(path: Path) -> Path:
    """A dictionary, with the options of the program beside the data."""
    options = argparse.Namespace(lr=0.1, device=torch.device("cuda"), root=path.parent)
    torch.save({"images": images(), "labels": labels(), "args": options}, path)
    return path


def npy(folder: Path) -> Path:
    """Two arrays."""
    np.save(folder / "my_images.npy", images().numpy())
    np.save(folder / "my_labels.npy", labels().numpy())
    return folder / "my_images.npy"


def safetensors(path: Path) -> Path:
    """Safetensors without dcbench's header."""
    save_file({"images": images(), "labels": labels()}, path)
    return path


def folder(path: Path) -> Path:
    """torchvision's ImageFolder of greyscale PNG files."""
    pixels = (images().sigmoid() * 255).to(torch.uint8)
    for number, (image, label) in enumerate(zip(pixels, labels(), strict=True)):
        place = path / f"{label:03}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(place / f"{number}.png")
    return path


MAKERS: dict[str, Callable[[Path], Path]] = {
    "vico": lambda root: res(root / "res_DSA_digits_ConvNet_2ipc.pt"),
    "best": lambda root: best(root / "acc_0.5.pkl"),
    "mtt": lambda root: mtt(root / "mtt"),
    "idc": lambda root: idc(root / "data_best.pt"),
    "tuple": lambda root: tuple_(root / "mine.pt"),
    "dd": lambda root: dd(root / "results.pth"),
    "pair": pair,
    "kip": lambda root: kip(root / "kip.npz"),
    "dd_ranking": lambda root: dd_ranking(root / "syn.pt"),
    "npz": lambda root: npz(root / "set.npz"),
    "dict": lambda root: dictionary(root / "saved.pt"),
    "npy": npy,
    "safetensors": lambda root: safetensors(root / "theirs.safetensors"),
    "folder": lambda root: folder(root / "pictures"),
}


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with a few of its bytes changed."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, len(content) - 1))
        changed[place] = draw(st.integers(0, 255))
    return bytes(changed)


class Bomb:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.target,)
