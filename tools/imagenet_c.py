"""Make ImageNet-C from a folder of images, with the package imagecorruptions.

    pip install imagecorruptions 'numpy<2' 'setuptools<82'
    python tools/imagenet_c.py DATA/imagenet/val DATA/imagenet-c
    carft evaluate --run DIR --suite imagenet-c --data_dir DATA

It writes OUTPUT/CORRUPTION/SEVERITY/CLASS/NAME for each image INPUT/CLASS/NAME, like the authors'
make_imagenet_c.py (hendrycks/robustness at e0377d4): shorter side 256, centre 224 x 224, JPEG of
quality 85. Images that are there already are kept.

Each image gets a seed of its own, from its path, corruption and severity, so that the result does
not depend on the order. imagecorruptions 1.1.2 draws its impulse noise from a generator of
scikit-image that numpy's seed does not set. Here that generator gets the seed, too. The official
images were drawn without a known seed, so accuracies on these differ slightly from official ones.

The package needs an environment of its own, since it does not run with numpy 2. It passes an
argument to scikit-image's gaussian filter that 0.20 removed, which is translated here.
"""

import argparse
import contextlib
import functools
import hashlib
import inspect
import os
import sys

import numpy as np
from PIL import Image

SEVERITIES = (1, 2, 3, 4, 5)
ENDINGS = (".jpeg", ".jpg", ".png", ".ppm", ".bmp")


def seed_of(*parts):
    """Return a seed below 2**32 for an image, from any texts and numbers."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def fitted(image):
    """Return a PIL image as the authors prepare it: RGB, shorter side 256, centre 224 x 224."""
    image = image.convert("RGB")
    width, height = image.size
    short = min(width, height)
    size = int(256 * width / short), int(256 * height / short)
    image = image.resize(size, Image.BILINEAR)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    return image.crop((left, top, left + 224, top + 224))


@contextlib.contextmanager
def seeded(package, seed):
    """Context in which all draws of imagecorruptions follow the seed."""
    np.random.seed(seed)
    module, util = package.corruptions, package.corruptions.sk.util
    noise, gaussian = util.random_noise, module.gaussian
    names = inspect.signature(noise).parameters
    name = next(name for name in ("rng", "seed", "random_state") if name in names)
    util.random_noise = functools.partial(noise, **{name: seed})
    if "multichannel" not in inspect.signature(gaussian).parameters:
        module.gaussian = functools.partial(_gaussian, gaussian)
    try:
        yield
    finally:
        util.random_noise, module.gaussian = noise, gaussian


def _gaussian(gaussian, image, *args, multichannel=False, **kwargs):
    return gaussian(image, *args, channel_axis=-1 if multichannel else None, **kwargs)


def corrupted(image, corruption, severity, seed, package):
    """Return a corrupted PIL image, the same for the same seed."""
    with seeded(package, seed):
        array = package.corrupt(np.asarray(image), severity=severity, corruption_name=corruption)
    return Image.fromarray(array)


def pictures(folder):
    """Return the sorted paths CLASS/NAME of the images in a folder.

    Raises:
        ValueError: there are none.
    """
    found = [
        os.path.join(name, file)
        for name in sorted(os.listdir(folder))
        if os.path.isdir(os.path.join(folder, name)) and not name.startswith(".")
        for file in sorted(os.listdir(os.path.join(folder, name)))
        if file.lower().endswith(ENDINGS) and not file.startswith(".")
    ]
    if not found:
        raise ValueError(f"no images in {folder}. Expected {folder}/CLASS/IMAGE")
    return found


def make(source, target, corruptions, package):
    """Write the corrupted images, and return how many were written."""
    n = 0
    for path in pictures(source):
        image = None
        for corruption in corruptions:
            for severity in SEVERITIES:
                file = os.path.join(target, corruption, str(severity), path)
                if os.path.exists(file):
                    continue
                if image is None:
                    with Image.open(os.path.join(source, path)) as opened:
                        image = fitted(opened)
                seed = seed_of(path.replace(os.sep, "/"), corruption, severity)
                os.makedirs(os.path.dirname(file), exist_ok=True)
                made = corrupted(image, corruption, severity, seed, package)
                made.save(f"{file}.part", "JPEG", quality=85, optimize=True)
                os.replace(f"{file}.part", file)
                n += 1
    return n


def main(argv=None):
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("input", help="INPUT/CLASS/IMAGE, such as imagenet/val")
    parser.add_argument("output", help="the folder imagenet-c")
    parser.add_argument("--corruptions", nargs="+", help="default: the 15 of ImageNet-C")
    args = parser.parse_args(argv)
    if not os.path.isdir(args.input):
        parser.error(f"no folder {args.input}")
    try:
        import imagecorruptions as package
        import imagecorruptions.corruptions
    except ImportError as error:
        parser.error(f"imagecorruptions cannot be imported ({error}): see the top of this file")
    known = package.get_corruption_names("all")
    for name in args.corruptions or ():
        if name not in known:
            parser.error(f"unknown corruption {name!r}. Known: {', '.join(known)}")
    names = args.corruptions or package.get_corruption_names()
    try:
        n = make(args.input, args.output, names, package)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{n} images written to {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
