"""Image-text models of open_clip: embeddings of images, and agreement with a prompt.

The semantic score is an addition to BACON's options. It is not in the paper.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.data.dataset import denormalize
from dcbench_bacon.errors import UsageError
from dcbench_bacon.schema import DatasetInfo

PROMPT = "a photo of a {}"


def load_model(name: str, weights: str, option: str) -> Any:
    """Return a model of open_clip with its weights.

    Args:
        name: the name of the model, such as ``ViT-B-32``.
        weights: a local file, or the name of weights that open_clip may download.
        option: the setting that needs the model, for messages.

    Raises:
        UsageError: there is no such model, or its weights are not given or not found.
    """
    import open_clip

    if not weights:
        raise UsageError(
            f"{option} needs weights: --set clip_weights=FILE (or a name of "
            "open_clip's, such as laion2b_s34b_b79k, where there is a network)"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not Path(weights).is_file() and weights not in tags:
        raise UsageError(
            f"--set clip_weights={weights}: no such file, and not a name of "
            f"weights for {name}. There are: {', '.join(tags) or 'none'}"
        )
    try:
        return open_clip.create_model(name, pretrained=weights)
    except Exception as error:  # a damaged file can make a loader raise anything
        raise UsageError(
            f"--set clip_model={name}, clip_weights={weights}: "
            f"{type(error).__name__}: {error}"
        ) from error


class ImageEncoder:
    """The image encoder of an open_clip model, for the images of a data set.

    Args:
        model: an open_clip model, whose parameters are frozen.
        info: the facts of the data set, to undo its normalisation.
        device: the device on which the model runs.
    """

    def __init__(self, model: Any, info: DatasetInfo, device: torch.device) -> None:
        """Move the model to the device and keep its image size and statistics."""
        self.info = info
        self.model = model.to(device).eval().requires_grad_(False)
        side = model.visual.image_size
        self.size: int = side if isinstance(side, int) else side[0]
        mean, std = model.visual.image_mean, model.visual.image_std
        self.mean = torch.tensor(mean or (0.0,) * 3, device=device).view(3, 1, 1)
        self.std = torch.tensor(std or (1.0,) * 3, device=device).view(3, 1, 1)

    def encode(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the embeddings of images as vectors of length one.

        Args:
            images: images normalised with the data set's statistics; gradients flow
                through.
        """
        flat = denormalize(images, self.info).clamp(0, 1).expand(-1, 3, -1, -1)
        resized = F.interpolate(
            flat, size=(self.size, self.size), mode="bicubic", align_corners=False
        )
        encoded = self.model.encode_image((resized - self.mean) / self.std)
        return F.normalize(encoded, dim=-1)


class SemanticScore(ImageEncoder):
    """One minus the cosine similarity of images and the prompt of their class.

    Args:
        model: an open_clip model, whose parameters are frozen.
        tokenizer: returns the tokens of texts.
        info: the facts of the data set, for its statistics and class names.
        device: the device on which the model runs.
    """

    def __init__(
        self, model: Any, tokenizer: Any, info: DatasetInfo, device: torch.device
    ) -> None:
        """Encode the prompts of the classes."""
        super().__init__(model, info, device)
        names = [name.replace("_", " ") for name in info.class_names]
        with torch.no_grad():
            tokens = tokenizer([PROMPT.format(name) for name in names]).to(device)
            self.text = F.normalize(model.encode_text(tokens), dim=-1)

    @classmethod
    def load(
        cls, name: str, weights: str, info: DatasetInfo, device: torch.device
    ) -> "SemanticScore":
        """Return the score by a model of open_clip.

        Args:
            name: the name of the model, such as ``ViT-B-32``.
            weights: a local file, or the name of weights that open_clip may download.
            info: the facts of the data set.
            device: the device on which the model runs.

        Raises:
            UsageError: there is no such model, or its weights are not given or not
                found.
        """
        import open_clip

        model = load_model(name, weights, "clip='semantic'")
        return cls(model, open_clip.get_tokenizer(name), info, device)

    def __call__(
        self, images: Float[Tensor, "c m ch h w"], classes: Int64[Tensor, "c"]
    ) -> Float[Tensor, "c"]:
        """Return the mean score per class, from 0 for perfect agreement to 2.

        Args:
            images: images normalised with the data set's statistics, one row per class;
                gradients flow through.
            classes: the index of the class of each row.
        """
        encoded = self.encode(images.flatten(0, 1))
        directions = torch.unflatten(encoded, 0, images.shape[:2])
        agreement = (directions * self.text[classes].unsqueeze(1)).sum(-1)
        return 1 - agreement.mean(1)
