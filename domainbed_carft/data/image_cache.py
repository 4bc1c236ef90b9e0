"""Cache of decoded and fitted images, with one file per environment (knob clip_cache).

N images of S x S pixels take 3·N·S² bytes, or 150,528 per image at 224 pixels. The file is a
memory-mapped .npy, so processes on one machine share it and read only what they need.
"""

import contextlib
import hashlib
import os
import socket
import sys

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..base import environment, files, workers
from ..base.packed import is_packed
from . import images


class Cached:
    """An environment with fitted images from the cache.

    Args:
        env: Images, or torchvision's ImageFolder.
        square: deterministic function PIL image -> PIL image of size x size.
        kind: name of the function, for the name of the file.
        size: size in pixels.
        folder: cache folder, created if needed.

    Raises:
        ValueError: an image cannot be read, or the folder cannot be written.
    """

    transform = None

    def __init__(self, env, square, kind, size, folder):
        self.env, self.root, self.classes = env, env.root, env.classes
        self.targets = env.targets
        self.label_set = getattr(env, "label_set", None)
        self.accepts = getattr(env, "accepts", {})
        self.file = _built(env, square, kind, size, os.path.expanduser(folder))
        self._array = None

    def __len__(self):
        return len(self.targets)

    def __getstate__(self):  # spawned workers map the file themselves
        return {**self.__dict__, "_array": None}

    def __getitem__(self, index):
        if self._array is None:
            self._array = np.load(self.file, mmap_mode="r")
        return self.transform(Image.fromarray(np.array(self._array[index]))), self.targets[index]


def key(env, kind, size):
    """Return the hash in the name of an environment's file.

    It depends on the paths, sizes and modification times of image files or of the files that images
    are in (or on pixels of images in memory), and on kind, size and exif.
    """
    shape = (kind, size, getattr(env, "border", 0), len(env))
    shape += ("exif",) if getattr(env, "exif", False) else ()
    digest = hashlib.sha256(repr(shape).encode())
    stats = {}  # of files that hold many images
    for item in _items(env):
        if isinstance(item, np.ndarray):
            digest.update(item.tobytes())
        elif is_packed(item):
            found = stats.get(item.file) or stats.setdefault(item.file, os.stat(item.file))
            digest.update(repr((item, found.st_size, found.st_mtime_ns)).encode())
        else:
            found = os.stat(item)
            digest.update(repr((str(item), found.st_size, found.st_mtime_ns)).encode())
    return digest.hexdigest()[:32]


def _items(env):
    if hasattr(env, "samples"):  # ImageFolder
        return [path for path, _ in env.samples]
    return env.items


class _Squares:
    """Fitted images of an environment as arrays (S, S, 3)."""

    def __init__(self, env, square):
        self.env, self.square = env, square

    def __len__(self):
        return len(self.env)

    def __getitem__(self, i):
        env = self.env
        if hasattr(env, "samples"):  # ImageFolder
            image = images.read(env.samples[i][0], getattr(env, "exif", False))
        else:
            image = env.image(i)
        return np.array(self.square(image))


def _built(env, square, kind, size, folder):
    """Return the path of the environment's file, which is built if there is no whole one."""
    shape = (len(env), size, size, 3)
    name = os.path.basename(os.path.normpath(str(env.root)))
    file = os.path.join(folder, f"{name}_{kind}_{key(env, kind, size)}.npy")
    if _is_whole(file, shape):
        return file
    try:
        os.makedirs(folder, exist_ok=True)
        with files.alone(file) as held:
            if not _is_whole(file, shape):
                if os.path.exists(file):
                    print(f"{file} is damaged: it is made anew", file=sys.stderr)
                _build(env, square, size, file, held)
    except OSError as error:
        raise ValueError(f"The cache {folder} (clip_cache) cannot be written: {error}") from error
    return file


def _is_whole(file, shape):
    """Return whether a file has all of its images, as far as its size tells."""
    try:
        return np.load(file, mmap_mode="r").shape == shape
    except (FileNotFoundError, NotADirectoryError, ValueError, EOFError):
        return False


def _build(env, square, size, file, held):
    import torch

    n = len(env)
    print(f"Caching {n} images in {file}: {n * size * size * 3 / 1e9:.1f} GB", file=sys.stderr)
    folder, name = os.path.split(file)
    here = f"{name}.{socket.gethostname()}-"
    for left in os.listdir(folder) if held else ():  # left by a killed process of this machine
        if left.startswith(here) and left.endswith(".part"):
            os.remove(os.path.join(folder, left))
    part = os.path.join(folder, f"{here}{os.getpid()}.part")  # permissions as given by umask
    asked = environment.n_workers(min(4, os.cpu_count() or 1))
    try:
        loader = torch.utils.data.DataLoader(
            _Squares(env, square),
            batch_size=None,  # one array at a time, in order
            **workers.forked(asked if n >= workers.FEW_IMAGES else 0),
            generator=torch.Generator(),  # the default would draw from the global generator
        )
        header = {"descr": "|u1", "fortran_order": False, "shape": (n, size, size, 3)}
        with open(part, "wb") as out:  # not memory-mapped: a full disk would kill the process
            np.lib.format.write_array_header_1_0(out, header)
            for image in tqdm(loader, desc="caching", unit="image", mininterval=1):
                out.write(np.ascontiguousarray(image))
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(part)
