"""DSA: DC with differentiable siamese augmentation (Zhao & Bilen, ICML 2021).

Each class and step draws one augmentation A, and DC's distance is taken between the
gradients of A(R) and A(S). The network's training on the synthetic images and the
evaluation are augmented as well, with parameters drawn for every image.

Departures (what | published code | here):
    - those of ``dc``
"""

from .dc import DC


class DSA(DC):
    """Matches the gradients of real and synthetic images augmented alike."""
