"""Images that are held in memory, as tensors."""

import torch

from ..method.preprocess import IMAGENET_MEAN, IMAGENET_STD

MEAN, STD = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))


class InMemoryImages(torch.utils.data.Dataset):
    """uint8 images (N, 3, H, W) and labels (N,), normalised like DomainBed's image folders.

    Args:
        images: the images.
        labels: the labels.
        classes: the class names.
        root: name of the environment.
        augment: function of a uint8 image, or None.
        contexts: {group: (N,) indices of the context of each image}.
    """

    def __init__(self, images, labels, classes, root, augment=None, contexts=None):
        self.images, self.labels, self.classes, self.root = images, labels, classes, root
        self.augment, self.contexts = augment, contexts
        self.ready = _normalised(images) if augment is None else None

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if self.ready is not None:
            image = self.ready[index]
        else:
            image = _normalised(self.augment(self.images[index]))
        return image, int(self.labels[index])


def _normalised(images):
    """Return uint8 images (..., 3, H, W) as float32 in ImageNet's normalisation."""
    return (images.float() / 255 - MEAN) / STD
