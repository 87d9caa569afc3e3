"""Unrolled training: a student network, differentiated by its synthetic images."""

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
        index: positions of the images in the set, on the images' device.
        draw: one DSA operation, with parameters for each image.
    """

    index: Int64[Tensor, "n"]
    draw: Draw


class StudentMatch(NamedTuple):
    """The loss of a student, and its gradients by the images and the rate."""

    loss: Float[Tensor, ""]
    images: Float[Tensor, "m c h w"]
    rate: Float[Tensor, ""]


class Products(NamedTuple):
    """The product of the slope and a vector, and its two derivatives.

    Attributes:
        value: the product, s.
        vector: its derivative by the parameters.
        images: its derivative by the images.
    """

    value: Float[Tensor, ""]
    vector: Float[Tensor, "p"]
    images: Float[Tensor, "n c h w"]


class Student:
    """Steps of SGD on synthetic images, and the gradient through them.

    With v_0 the start, g the gradient of the cross-entropy and a the learning rate, the
    student is v_(i+1) = v_i - a g(v_i, x_i), and the loss is |v_N - target|^2 divided
    by |v_0 - target|^2. Its gradient is computed backwards, step by step: with u_N the
    derivative of the loss by v_N and s_i the product of g(v_i, x_i) and u_(i+1),

        u_i = u_(i+1) - a ds_i/dv_i,   by x_i: -a ds_i/dx_i,   by a: -s_i, summed.

    With ``recompute``, the student first takes all steps without a graph and keeps its
    parameters alone; the graph of each step is built again on the way back. Memory is
    then bounded by N + 6 vectors of parameters and the twice differentiated graph of
    one step on ``most`` images, whatever N and the batch are: a larger batch is split
    into pieces, which is exact for networks that treat images one by one. Without
    ``recompute``, the graph of all steps is kept, which saves one forward and one
    backward pass per step.

    Args:
        flat: the architecture; its parameters are not used.
        labels: the class of each synthetic image.
        augmentation: augmentation of the images of each step.
        recompute: whether each step's graph is built again on the way back.
        most: largest number of images in one piece.
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
        """Keep the network, the labels and the options."""
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
        """Train the student and return its loss with the gradients.

        Args:
            pair: the expert's parameters at the start and at the target.
            images: the synthetic images.
            rate: the student's learning rate.
            batches: the images of each student step.
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
        """Build the graph of all steps and differentiate it."""
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
        """Go forward without a graph, then back with the graph of one step each."""
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
            (slope,) = torch.autograd.grad(augmented, leaf, products.images)
            to_images.sub_(rate * slope)
            to_rate.sub_(products.value)
        return StudentMatch(rest.square().sum() / scale, to_images, to_rate)

    def _augment(self, images: Tensor, batch: StudentBatch) -> Float[Tensor, "n c h w"]:
        """Return the augmented images of one step."""
        return self.augmentation.apply(images[batch.index][None], batch.draw)[0]

    def _loss(
        self, vector: Float[Tensor, "p"], images: Tensor, index: Tensor
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the images of one step."""
        views = self.flat.views(vector[None])
        parameters = {name: view[0] for name, view in views.items()}
        logits = functional_call(self.flat.network, parameters, (images,))
        return F.cross_entropy(logits, self.labels[index])

    def _pieces(
        self, images: Tensor, index: Tensor
    ) -> list[tuple[Tensor, Tensor, float]]:
        """Return pieces of the images with their indices and shares of the step."""
        pieces = zip(
            *(torch.split(tensor, self.most) for tensor in (images, index)), strict=True
        )
        return [(piece, places, len(places) / len(index)) for piece, places in pieces]

    def _slope(
        self, vector: Tensor, images: Tensor, index: Tensor
    ) -> Float[Tensor, "p"]:
        """Return the gradient of the loss by the parameters."""
        vector = vector.detach().requires_grad_()
        total = torch.zeros_like(vector)
        for piece, places, share in self._pieces(images, index):
            loss = share * self._loss(vector, piece, places)
            total += torch.autograd.grad(loss, vector)[0]
        return total.detach()

    def _products(
        self, vector: Tensor, images: Tensor, index: Tensor, ahead: Float[Tensor, "p"]
    ) -> Products:
        """Return the slope times the vector ``ahead``, and its derivatives."""
        vector = vector.detach().requires_grad_()
        value, to_vector, to_images = 0 * ahead[0], torch.zeros_like(ahead), []
        for piece, places, share in self._pieces(images, index):
            leaf = piece.detach().requires_grad_()
            # A view, because FlopCounterMode refuses leaves as inputs.
            loss = share * self._loss(vector, leaf.view_as(leaf), places)
            (slope,) = torch.autograd.grad(loss, vector, create_graph=True)
            product = slope @ ahead
            by_vector, by_leaf = torch.autograd.grad(product, (vector, leaf))
            value = value + product.detach()
            to_vector += by_vector
            to_images.append(by_leaf)
        return Products(value, to_vector, torch.cat(to_images))
