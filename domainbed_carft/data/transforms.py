"""The two ways of fitting images to a square, and their augmentation (knob clip_transform)."""

from functools import partial

from ..method import knobs
from ..method.preprocess import IMAGENET_MEAN, IMAGENET_STD
from ..models import backbone_names
from .image_cache import Cached
from .images import read

HOST_SIZE = 224  # pixels, of DomainBed's image folders
OPENAI = ("bicubic", "shortest")  # how OpenAI's CLIPs resize: interpolation, mode


def parse(kind):
    """Return (name, size) of the knob clip_transform: "host", "clip" or "clip@PIXELS"."""
    rule = knobs.transform(kind)
    if rule:  # data sets are built before the algorithm checks all knobs
        raise ValueError(f"clip_transform must be {rule}, got {kind!r}")
    name, _, size = kind.partition("@")
    return name, int(size or HOST_SIZE)


def transforms(kind, resizing=OPENAI):
    """Return (square, augment, finish), functions for a value of clip_transform.

    Args:
        kind: the value.
        resizing: (interpolation, mode) of "clip", as backbone_names.resizing says them of a CLIP.

    square: PIL image -> PIL image of fixed size, the same every time.
    augment: PIL image -> PIL image of that size, at random, from an image of any size.
    finish: PIL image -> tensor (3, S, S) in ImageNet's normalisation, which preprocess.ClipInput
    undoes whatever the kind is.

    "host" is DomainBed's: squash to 224 x 224 (bilinear); random crops, flips, colour jitter, grey.
    "clip" is the CLIP's own: of OpenAI's the shorter side to S (bicubic), centre crop; of others
    both sides to S ("squash"), or the longer one, with a black border ("longest"). Random crops
    and flips.
    """
    from torchvision import transforms as t

    name, size = parse(kind)
    finish = t.Compose([t.ToTensor(), t.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    crop, flip = {"scale": (0.7, 1.0)}, t.RandomHorizontalFlip()
    if name == "host":
        colours = [t.ColorJitter(0.3, 0.3, 0.3, 0.3), t.RandomGrayscale()]
        augment = [t.RandomResizedCrop(size, **crop), flip, *colours]
        return t.Resize((size, size)), t.Compose(augment), finish
    interpolation, mode = t.InterpolationMode(resizing[0]), resizing[1]
    if mode == "squash":
        square = t.Resize((size, size), interpolation=interpolation)
    elif mode == "longest":
        square = partial(_bordered, size=size, interpolation=interpolation)
    elif mode == "shortest":
        square = t.Compose([t.Resize(size, interpolation=interpolation), t.CenterCrop(size)])
    else:
        raise ValueError(f"A CLIP resizes by 'shortest', 'longest' or 'squash', not {mode!r}")
    augment = [t.RandomResizedCrop(size, interpolation=interpolation, **crop), flip]
    return square, t.Compose(augment), finish


def _bordered(image, size, interpolation):
    """Return a PIL image with its longer side at `size`, in the centre of a black square."""
    from torchvision.transforms import functional as f

    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return f.center_crop(f.resize(image, [height, width], interpolation), size)


def of_knobs(hparams):
    """Return (kind, resizing) of our knobs: the CLIP's own resizing, where clip_transform asks."""
    kind = hparams["clip_transform"]
    if parse(kind)[0] == "host":
        return kind, OPENAI  # which "host" does not heed
    return kind, backbone_names.resizing(hparams["clip_backbone"])


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
    kind, resizing = of_knobs(hparams) if ours else ("host", OPENAI)
    cache = hparams["clip_cache"] if ours else ""
    square, random, finish = transforms(kind, resizing)
    size = parse(kind)[1]
    dataset.input_shape = (3, size, size)
    dataset.is_fitted = True
    for i, env in enumerate(dataset.datasets):
        exif = env.exif = ours and hparams["clip_exif"]
        if hasattr(env, "loader"):  # ImageFolder's would make greys of 16 bits white
            env.loader = partial(read, exif=exif)
        augmented = augment and hparams.get("data_augmentation", True) and i not in test_envs
        if cache:
            way = kind if resizing == OPENAI else "-".join((kind, *resizing))
            env = Cached(env, square, way, size, cache)
            dataset.datasets[i] = env
            env.transform = Compose([random, finish]) if augmented else finish
        else:
            env.transform = Compose([random if augmented else square, finish])
