"""Preprocessing and augmentation of images (knobs clip_transform and clip_images).

torch is imported when images are, since tables need the names of data sets only.
"""

from functools import partial

from ..method import knobs
from .image_cache import Cached
from .images import read

HOST_SIZE = 224  # pixels of DomainBed's images
OPENAI = ("bicubic", "shortest")  # resizing of OpenAI's CLIPs: (interpolation, mode)


def parse(kind):
    """Return (name, size) of the knob clip_transform: "host", "clip" or "clip@PIXELS".

    Raises:
        ValueError: the value is invalid.
    """
    rule = knobs.transform(kind)
    if rule:  # data sets are built before the algorithm checks knobs
        raise ValueError(f"clip_transform must be {rule}, got {kind!r}")
    name, _, size = kind.partition("@")
    return name, int(size or HOST_SIZE)


def transforms(kind, resizing=OPENAI, crop=knobs.CROP, flip=True):
    """Return the functions (square, augment, finish) for a value of clip_transform.

    "host" is DomainBed's preprocessing: resizing to 224 x 224 (bilinear), and augmentation by
    random crops, flips, colour jitter and grey.

    "clip" is the preprocessing of the CLIP. For OpenAI's, the shorter side is resized to S
    (bicubic), and the centre is cropped. Other CLIPs resize both sides ("squash"), or the longer
    side with a black border ("longest"). Its augmentation is random crops and flips.

    Args:
        kind: the value of clip_transform.
        resizing: (interpolation, mode) for "clip", as backbone_names.resizing returns them.
        crop: smallest share of the area that random crops of "clip" keep.
        flip: whether the augmentation of "clip" flips images.

    Returns:
        square: function PIL image -> PIL image of size S x S, deterministic.
        augment: function PIL image -> PIL image of size S x S, random.
        finish: function PIL image -> tensor (3, S, S) in ImageNet's normalisation.
    """
    from torchvision import transforms as t

    from ..method.preprocess import IMAGENET_MEAN, IMAGENET_STD

    name, size = parse(kind)
    finish = t.Compose([t.ToTensor(), t.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    if name == "host":
        colours = [t.ColorJitter(0.3, 0.3, 0.3, 0.3), t.RandomGrayscale()]
        crops = t.RandomResizedCrop(size, scale=(knobs.CROP, 1.0))
        augment = [crops, t.RandomHorizontalFlip(), *colours]
        return t.Resize((size, size)), t.Compose(augment), finish
    interpolation, mode = t.InterpolationMode(resizing[0]), resizing[1]
    if mode == "squash":
        square = t.Resize((size, size), interpolation=interpolation)
    elif mode == "longest":
        square = partial(_bordered, size=size, interpolation=interpolation)
    elif mode == "shortest":
        square = t.Compose([t.Resize(size, interpolation=interpolation), t.CenterCrop(size)])
    else:
        raise ValueError(f"resize mode must be 'shortest', 'longest' or 'squash', got {mode!r}")
    augment = [t.RandomResizedCrop(size, scale=(crop, 1.0), interpolation=interpolation)]
    augment += [t.RandomHorizontalFlip()] * flip
    return square, t.Compose(augment), finish


def quick_square(kind, resizing):
    """Return `square` as :func:`transforms`, for clip_images "fast" and "scaled"."""
    from .fast_images import Square

    name, size = parse(kind)
    return Square(size, *(("bilinear", "squash") if name == "host" else resizing))


def _bordered(image, size, interpolation):
    """Return a PIL image resized to a longer side of `size`, in the centre of a black square."""
    from torchvision.transforms import functional as f

    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return f.center_crop(f.resize(image, [height, width], interpolation), size)


def of_knobs(hparams):
    """Return (kind, resizing) for :func:`transforms`, from our knobs."""
    from ..models import backbone_names

    kind = hparams["clip_transform"]
    if parse(kind)[0] == "host":
        return kind, OPENAI  # "host" ignores it
    return kind, backbone_names.resizing(hparams["clip_backbone"])


def fit(dataset, test_envs, hparams, augment=True):
    """Set the transforms of a data set's environments from the knobs, and cache images if set.

    Args:
        dataset: a DomainBed data set with environments of Images or torchvision's ImageFolder.
        test_envs: indices of environments without augmentation.
        hparams: the knobs. Those of images (clip_transform, clip_crop, clip_images and so
            on) are only used for our methods.
        augment: whether to augment training environments, unless data_augmentation is false.
    """
    from torchvision.transforms import Compose

    from . import eight_bits, fast_images

    ours = knobs.are_ours(hparams)  # the host's algorithms may have their own clip_transform
    kind, resizing = of_knobs(hparams) if ours else ("host", OPENAI)
    cache = hparams["clip_cache"] if ours else ""
    speed = hparams["clip_images"] if ours else "exact"
    looks = (hparams["clip_crop"], hparams["clip_flip"]) if ours else ()
    square, random, finish = transforms(kind, resizing, *looks)
    size = parse(kind)[1]
    if speed != "exact":
        square = square if cache else quick_square(kind, resizing)
        random = Compose([fast_images.Crop(random.transforms[0]), *random.transforms[1:]])
    reader = partial(fast_images.Picture, scaled=speed == "scaled") if speed != "exact" else read
    dataset.input_shape = (3, size, size)
    dataset.is_fitted = True
    for i, env in enumerate(dataset.datasets):
        exif = env.exif = ours and hparams["clip_exif"]
        if hasattr(env, "loader"):  # that of ImageFolder makes 16-bit grey images white
            env.loader = partial(reader, exif=exif)
        env.reader = reader
        augmented = augment and hparams.get("data_augmentation", True) and i not in test_envs
        if cache:
            way = kind if resizing == OPENAI else "-".join((kind, *resizing))
            env = Cached(env, square, way, size, cache)
            dataset.datasets[i] = env
            env.transform = Compose([random, finish]) if augmented else finish
        else:
            env.transform = Compose([random if augmented else square, finish])
    eight_bits.leave_to_gpu(dataset)
