"""Images with an alpha channel, shown on white."""

import numpy as np
from PIL import Image

_ALPHA = ("RGBA", "LA", "PA")


def opaque(image: Image.Image) -> Image.Image:
    """Return an image without transparency: itself, or composed over white.

    Dropping the alpha channel instead would show what was to be hidden; drawings whose
    content is all in it would be black.

    Raises:
        ValueError: nothing is to be seen on white, though the transparency varies.
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
        raise ValueError(
            "white on a transparent ground, which shows nothing on white; save it "
            "without transparency, on another ground"
        )
    return shown
