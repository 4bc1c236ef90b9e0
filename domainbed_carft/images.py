"""Images of our data sets: files to RGB, the two ways of fitting them to a square, augmentation."""

import os
import warnings

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError

from .hparams import CHECKS
from .preprocess import IMAGENET_MEAN, IMAGENET_STD

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
HOST_SIZE = 224  # pixels, of DomainBed's image folders


class Images(torch.utils.data.Dataset):
    """Images read when asked for, and what trainers and `evaluate` must know of them.

    Args:
        items: N paths, or arrays (H, W, 3) of bytes.
        targets: N labels, indices into `classes`.
        classes: K names, as they go into prompts; the same in every environment of a data set.
        root: folder, or name, of the environment; its last part names the domain.
        label_set: the labels among which this environment is scored; None: all K.
        accepts: {label: labels that count as right for it}, for labels with several.
        border: pixels cut off each side.

    `transform` (PIL image -> tensor) is set by :func:`fit`.
    """

    transform = None

    def __init__(self, items, targets, classes, root, label_set=None, accepts=None, border=0):
        self.items, self.targets, self.classes, self.root = items, targets, classes, root
        self.label_set, self.accepts, self.border = label_set, accepts or {}, border

    def __len__(self):
        return len(self.targets)

    def image(self, index):
        """Return the PIL image, RGB, in its own size."""
        item = self.items[index]
        image = Image.fromarray(item) if isinstance(item, np.ndarray) else read(item)
        if self.border:
            width, height = image.size
            image = image.crop(
                (self.border, self.border, width - self.border, height - self.border)
            )
        return image

    def __getitem__(self, index):
        return self.transform(self.image(index)), self.targets[index]


def read(path):
    """Return an image file as a PIL image, RGB.

    A file that is cut short is filled up with grey, as DomainBed does; `doctor --data --decode`
    names such files.

    Raises:
        ValueError: no image, an empty file, or one with more pixels than Pillow takes for safe.
    """
    # as DomainBed does for the whole process: some downloads are cut short
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return to_rgb(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large an image: {error}. Scale it down.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if not os.path.exists(path):
            raise ValueError(
                f"No file {path}: moved or deleted since the folder was read?"
            ) from None
        size = os.path.getsize(path)
        raise ValueError(
            f"{path} ({size} bytes) is no image that can be read: {error}. Restore or remove it."
        ) from error


def to_rgb(image):
    """Return a PIL image as RGB: what Pillow's conversion gives, but for 16 bits.

    Greys of 16 bits (modes I;16 and I) are scaled, v·255/65535; Pillow would cut them off at 255,
    which makes such images white. Transparency is dropped, as DomainBed does.
    """
    if image.mode.startswith("I"):
        grey = np.asarray(image, dtype=np.float64) * (255 / 65535)
        image = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def parse(kind):
    """Return (name, size) of the knob clip_transform: "host", "clip" or "clip@PIXELS"."""
    rule = CHECKS["clip_transform"](kind)
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
        hparams: clip_transform and clip_cache are read, and data_augmentation with `augment`.
        augment: whether the data set augments at all.
    """
    from torchvision.transforms import Compose

    kind = hparams.get("clip_transform", "host")
    square, random, finish = transforms(kind)
    size = parse(kind)[1]
    dataset.input_shape = (3, size, size)
    dataset.is_fitted = True
    for i, env in enumerate(dataset.datasets):
        if hasattr(env, "loader"):  # ImageFolder's would make greys of 16 bits white
            env.loader = read
        augmented = augment and hparams.get("data_augmentation", True) and i not in test_envs
        if hparams.get("clip_cache"):
            from .cache import Cached

            env = Cached(env, square, kind, size, hparams["clip_cache"])
            dataset.datasets[i] = env
            env.transform = Compose([random, finish]) if augmented else finish
        else:
            env.transform = Compose([random if augmented else square, finish])


def by_class(folder, classes):
    """Return (paths, labels) of the images in folder/CLASS/, sorted; label i is classes[i].

    Subfolders are searched, as torchvision does. Files that are no images by their ending are left
    out with a warning that counts and names them.

    Raises:
        ValueError: a class without images.
    """
    paths, labels, others = [], [], []
    for label, name in enumerate(classes):
        before = len(paths)
        for parent, folders, files in os.walk(os.path.join(folder, name), followlinks=True):
            folders.sort()
            for file in sorted(files):
                path = os.path.join(parent, file)
                is_image = file.lower().endswith(ENDINGS) and not file.startswith("._")
                (paths if is_image else others).append(path)
        if len(paths) == before:
            raise ValueError(f"No images in {os.path.join(folder, name)} ({', '.join(ENDINGS)})")
        labels += [label] * (len(paths) - before)
    if others:
        shown = ", ".join(others[:3]) + (" ..." if len(others) > 3 else "")
        warnings.warn(f"{len(others)} files are left out, no images: {shown}", stacklevel=3)
    return paths, labels


def folders_in(path):
    """Return the names of the folders in a folder, sorted."""
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
