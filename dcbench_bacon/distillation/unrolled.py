"""A student: a network trained on synthetic images, differentiated by them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from dcbench_bacon.augmentation.siamese import Augmentation, Draw
from dcbench_bacon.networks.flat_parameters import FlatNetwork


@dataclass(frozen=True)
class StudentBatch:
    """The synthetic images of one student step.

    Attributes:
        index: which, on their device.
        draw: one DSA operation, with parameters for each of them.
    """

    index: Int64[Tensor, "n"]
    draw: Draw


class StudentMatch(NamedTuple):
    """The loss of a student and its gradients."""

    loss: Float[Tensor, ""]
    images: Float[Tensor, "m c h w"]
    rate: Float[Tensor, ""]


class Products(NamedTuple):
    """s = slope times a vector, and its derivatives by parameters and images."""

    value: Float[Tensor, ""]
    vector: Float[Tensor, "p"]
    images: Float[Tensor, "n c h w"]


class Student:
    """Steps of SGD on synthetic images, and the gradient through them.

    With v_0 the start, g the gradient of the cross-entropy and a the learning rate, the
    student is v_(i+1) = v_i - a g(v_i, x_i), and the loss |v_N - target|^2 divided by
    |v_0 - target|^2. Its gradient goes back step by step: with u_N its derivative by
    v_N and s_i the product of g(v_i, x_i) and u_(i+1),

        u_i = u_(i+1) - a ds_i/dv_i,   by x_i: -a ds_i/dx_i,   by a: -s_i, summed.

    With ``recompute`` the student first goes all the way without a graph, keeping its
    parameters alone, and the graph of each step is built again on the way back. Memory
    is then bounded by N + 6 vectors of parameters and the twice differentiated graph of
    one step on ``most`` images, whatever N and the batch: larger batches go piece by
    piece, which is exact for networks that treat images one by one. Without it, the
    graph of all steps is kept: faster by a forward and a backward pass a step.

    Args:
        flat: the design; its parameters are not used.
        labels: the class of each synthetic image.
        augmentation: of the images of a step.
        recompute: see above.
        most: images in one piece.
    """

    def __init__(
        self,
        flat: FlatNetwork,
        labels: Int64[Tensor, "m"],
        augmentation: Augmentation,
        *,
        recompute: bool = True,
        most: int = 2**31,
    ) -> None:
        """Keeps the parts."""
        self.flat = flat
        self.labels = labels
        self.augmentation = augmentation
        self.recompute = recompute
        self.most = most

    def __call__(
        self,
        pair: tuple[Float[Tensor, "p"], Float[Tensor, "p"]],
        images: Float[Tensor, "m c h w"],
        rate: Float[Tensor, ""],
        batches: Sequence[StudentBatch],
    ) -> StudentMatch:
        """Trains the student, and differentiates where it ends.

        Args:
            pair: parameters of the expert, to start from and to end at.
            images: the synthetic images.
            rate: the student's learning rate.
            batches: one a step.
        """
        find = self._step_by_step if self.recompute else self._at_once
        return find(pair, images, rate, batches)

    def _at_once(
        self,
        pair: tuple[Tensor, Tensor],
        images: Tensor,
        rate: Tensor,
        batches: Sequence[StudentBatch],
    ) -> StudentMatch:
        """Builds the graph of all steps and goes back through it."""
        start, target = pair
        vector = start.detach().requires_grad_()
        images, rate = images.detach().requires_grad_(), rate.detach().requires_grad_()
        for batch in batches:
            loss = self._loss(vector, self._augment(images, batch), batch.index)
            (slope,) = torch.autograd.grad(loss, vector, create_graph=True)
            vector = vector - rate * slope
        distance = (vector - target).square().sum() / (start - target).square().sum()
        gradients = torch.autograd.grad(distance, (images, rate))
        return StudentMatch(distance.detach(), *gradients)

    def _step_by_step(
        self,
        pair: tuple[Tensor, Tensor],
        images: Tensor,
        rate: Tensor,
        batches: Sequence[StudentBatch],
    ) -> StudentMatch:
        """Goes forward without a graph, then back with that of one step at a time."""
        start, target = pair
        path = [start]
        for batch in batches:
            with torch.no_grad():
                augmented = self._augment(images, batch)
            path.append(path[-1] - rate * self._slope(path[-1], augmented, batch.index))
        scale = (start - target).square().sum()
        rest = path.pop() - target
        ahead = 2 / scale * rest  # the derivative by the parameters after the step
        to_images, to_rate = torch.zeros_like(images), torch.zeros_like(rate)
        for batch in reversed(batches):
            leaf = images.detach().requires_grad_()
            augmented = self._augment(leaf, batch)
            products = self._products(
                path.pop(), augmented.detach(), batch.index, ahead
            )
            ahead = ahead - rate * products.vector
            (own,) = torch.autograd.grad(augmented, leaf, products.images)
            to_images.sub_(rate * own)
            to_rate.sub_(products.value)
        return StudentMatch(rest.square().sum() / scale, to_images, to_rate)

    def _augment(self, images: Tensor, batch: StudentBatch) -> Float[Tensor, "n c h w"]:
        """The images of a step."""
        return self.augmentation.apply(images[batch.index][None], batch.draw)[0]

    def _loss(
        self, vector: Float[Tensor, "p"], images: Tensor, index: Tensor
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy of images."""
        views = self.flat.views(vector[None])
        parameters = {name: view[0] for name, view in views.items()}
        logits = functional_call(self.flat.network, parameters, (images,))
        return F.cross_entropy(logits, self.labels[index])

    def _pieces(
        self, images: Tensor, index: Tensor
    ) -> list[tuple[Tensor, Tensor, float]]:
        """Images and which they are, with their share of the step."""
        pieces = zip(
            *(torch.split(each, self.most) for each in (images, index)), strict=True
        )
        return [(some, which, len(which) / len(index)) for some, which in pieces]

    def _slope(
        self, vector: Tensor, images: Tensor, index: Tensor
    ) -> Float[Tensor, "p"]:
        """The gradient of the loss by the parameters."""
        vector = vector.detach().requires_grad_()
        total = torch.zeros_like(vector)
        for some, which, share in self._pieces(images, index):
            loss = share * self._loss(vector, some, which)
            total += torch.autograd.grad(loss, vector)[0]
        return total.detach()

    def _products(
        self, vector: Tensor, images: Tensor, index: Tensor, ahead: Float[Tensor, "p"]
    ) -> Products:
        """The slope times a vector, and the derivatives of that."""
        vector = vector.detach().requires_grad_()
        value, to_vector, to_images = 0 * ahead[0], torch.zeros_like(ahead), []
        for some, which, share in self._pieces(images, index):
            leaf = some.detach().requires_grad_()
            # A view, since a counter of operations refuses leaves as inputs.
            loss = share * self._loss(vector, leaf.view_as(leaf), which)
            (slope,) = torch.autograd.grad(loss, vector, create_graph=True)
            product = slope @ ahead
            by_vector, by_leaf = torch.autograd.grad(product, (vector, leaf))
            value = value + product.detach()
            to_vector += by_vector
            to_images.append(by_leaf)
        return Products(value, to_vector, torch.cat(to_images))
