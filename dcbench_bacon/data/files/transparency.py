"""The conversion of images with transparency to opaque ones."""

import numpy as np
from PIL import Image

from dcbench_bacon.errors import UnsuitableImageError

_ALPHA = ("RGBA", "LA", "PA")


def opaque(image: Image.Image) -> Image.Image:
    """Return an image without transparency: itself, or composed over white.

    If the alpha channel were only dropped, hidden content would show, and drawings
    whose content is all in the alpha channel would be black.

    Raises:
        UnsuitableImageError: the transparency varies, but nothing is visible on white.
    """
    if image.mode not in _ALPHA and "transparency" not in image.info:
        return image
    grey = image.mode in ("1", "L", "LA")
    layers = image.convert("RGBA")
    alpha = np.asarray(layers.getchannel("A"))
    if alpha.min() == 255:
        return layers.convert("L" if grey else "RGB")
    white = Image.new("RGBA", image.size, "white")
    shown = Image.alpha_composite(white, layers).convert("L" if grey else "RGB")
    pixels = np.asarray(shown)
    if alpha.min() < alpha.max() and pixels.min() == pixels.max():
        raise UnsuitableImageError(
            "its content is white on a transparent background, so that it cannot be "
            "seen; save it without transparency, on another background"
        )
    return shown
