"""Networks whose nearest boundary is known in closed form."""

import numpy as np
import torch
from torch import nn


class Affine(nn.Module):
    """logits = W x + b, the clean images well inside of [0, 1]."""

    def __init__(self, classes=5, shape=(2, 6, 7), seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        size = int(np.prod(shape))
        self.weight = nn.Parameter(torch.randn(classes, size, generator=draw))
        self.images = 0.4 + 0.2 * torch.rand(12, *shape, generator=draw)
        self.bias = nn.Parameter(-(self.weight @ self.images.flatten(1).T).mean(1).detach())

    def forward(self, images):
        return images.flatten(1) @ self.weight.T + self.bias

    def batch(self):
        return self.images, self(self.images).argmax(1)

    def distances(self, power):
        """Distance of every image to the nearest other class, in the norm dual to `power`, and that class."""
        images, labels = self.batch()
        logits = self(images).detach()
        rows = torch.arange(len(images))
        gap = logits[rows, labels][:, None] - logits
        normals = self.weight.detach()[labels][:, None] - self.weight.detach()
        distance = gap / normals.norm(p=power, dim=2)
        distance[rows, labels] = torch.inf
        return distance.min(1)


def scored(weights, threshold):
    """Two logits, of which the second is larger where the weighted sum of an image exceeds the threshold."""

    def model(x):
        score = (x * weights).flatten(1).sum(1) - threshold
        return torch.stack([-score, score], 1)

    return model
