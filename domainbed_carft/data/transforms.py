"""The two ways of fitting images to a square, and their augmentation (knob clip_transform)."""

from functools import partial

from ..method import knobs
from ..method.preprocess import IMAGENET_MEAN, IMAGENET_STD
from .image_cache import Cached
from .images import read

HOST_SIZE = 224  # pixels, of DomainBed's image folders


def parse(kind):
    """Return (name, size) of the knob clip_transform: "host", "clip" or "clip@PIXELS"."""
    rule = knobs.transform(kind)
    if rule:  # data sets are built before the algorithm checks all knobs
        raise ValueError(f"clip_transform must be {rule}, got {kind!r}")
    name, _, size = kind.partition("@")
    return name, int(size or HOST_SIZE)


def transforms(kind):
    """Return (square, augment, finish), functions for a value of clip_transform.

    square: PIL image -> PIL image of fixed size, the same every time.
    augment: PIL image -> PIL image of that size, at random, from an image of any size.
    finish: PIL image -> tensor (3, S, S) in ImageNet's normalisation, which preprocess.ClipInput
    undoes whatever the kind is.

    "host" is DomainBed's: squash to 224 x 224 (bilinear); random crops, flips, colour jitter, grey.
    "clip" is CLIP's own: shorter side to S (bicubic), centre crop; random crops and flips.
    """
    from torchvision import transforms as t

    name, size = parse(kind)
    finish = t.Compose([t.ToTensor(), t.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    crop, flip = {"scale": (0.7, 1.0)}, t.RandomHorizontalFlip()
    if name == "host":
        colours = [t.ColorJitter(0.3, 0.3, 0.3, 0.3), t.RandomGrayscale()]
        augment = [t.RandomResizedCrop(size, **crop), flip, *colours]
        return t.Resize((size, size)), t.Compose(augment), finish
    bicubic = t.InterpolationMode.BICUBIC
    square = t.Compose([t.Resize(size, interpolation=bicubic), t.CenterCrop(size)])
    return (
        square,
        t.Compose([t.RandomResizedCrop(size, interpolation=bicubic, **crop), flip]),
        finish,
    )


def fit(dataset, test_envs, hparams, augment=True):
    """Set the transforms of a data set's environments, from the knobs; cache them where asked.

    Args:
        dataset: a DomainBed data set whose environments are Images or torchvision's ImageFolder.
        test_envs: indices that are never augmented.
        hparams: clip_transform, clip_cache and clip_exif are read where the knobs are those of
            one of our methods, and data_augmentation with `augment`.
        augment: whether the data set augments at all.
    """
    from torchvision.transforms import Compose

    ours = knobs.are_ours(hparams)  # a host's own algorithm may have a clip_transform of its own
    kind = hparams["clip_transform"] if ours else "host"
    cache = hparams["clip_cache"] if ours else ""
    square, random, finish = transforms(kind)
    size = parse(kind)[1]
    dataset.input_shape = (3, size, size)
    dataset.is_fitted = True
    for i, env in enumerate(dataset.datasets):
        exif = env.exif = ours and hparams["clip_exif"]
        if hasattr(env, "loader"):  # ImageFolder's would make greys of 16 bits white
            env.loader = partial(read, exif=exif)
        augmented = augment and hparams.get("data_augmentation", True) and i not in test_envs
        if cache:
            env = Cached(env, square, kind, size, cache)
            dataset.datasets[i] = env
            env.transform = Compose([random, finish]) if augmented else finish
        else:
            env.transform = Compose([random if augmented else square, finish])
