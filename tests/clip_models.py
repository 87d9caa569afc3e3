"""Small image-text models of random weights."""

from typing import Any

import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, set_model_preprocess_cfg

from dcbench_bacon.schema import DatasetInfo
from dcbench_bacon.training.clip_model import SemanticScore

CPU = torch.device("cpu")
VISION = {
    "layers": 1,
    "width": 32,
    "head_width": 16,
    "patch_size": 8,
    "image_size": 16,
}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
PREPROCESS = {"size": (16, 16), "mode": "RGB", "mean": MEAN, "std": STD}


def info(channels: int = 3) -> DatasetInfo:
    return DatasetInfo(
        name="pets",
        title="Pets",
        classes=3,
        channels=channels,
        size=8,
        mean=(0.5, 0.4, 0.3)[:channels],
        std=(0.3, 0.2, 0.25)[:channels],
        class_names=("cat", "green_frog", "ocean liner"),
    )


def tiny_clip(seed: int = 0) -> Any:
    """A model of random weights, the same for a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIP(16, CLIPVisionCfg(**VISION), CLIPTextCfg(**TEXT))
    set_model_preprocess_cfg(model, PREPROCESS)
    return model


def tokenizer() -> Any:
    return open_clip.SimpleTokenizer()


def score(channels: int = 3) -> SemanticScore:
    return SemanticScore(tiny_clip(), tokenizer(), info(channels), CPU)
