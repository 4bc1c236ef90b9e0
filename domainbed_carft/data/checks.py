"""Checks of data sets and loaders before any long work starts."""

import functools
import json
import os
import sys

from . import images, transforms


def check_folder_first(cls):
    """Have `cls` (MultipleEnvironmentImageFolder) check its folder before it reads any image.

    And have it heed the knobs clip_transform and clip_cache, where they are not the host's ways.
    """
    init = cls.__init__

    @functools.wraps(init)
    def __init__(self, root, test_envs, augment, hparams):
        check_image_folder(root, test_envs, len(self.ENVIRONMENTS or ()))
        init(self, root, test_envs, augment, hparams)
        _leave_out_hidden(self)
        if hparams.get("clip_transform", "host") != "host" or hparams.get("clip_cache"):
            transforms.fit(self, test_envs, hparams, augment)

    cls.__init__ = __init__


def _leave_out_hidden(dataset):
    """Leave out macOS's ._ files, which have the names of images and are none."""
    for env in getattr(dataset, "datasets", ()):
        samples = getattr(env, "samples", ())
        kept = [s for s in samples if not os.path.basename(s[0]).startswith("._")]
        if len(kept) < len(samples):
            env.samples = env.imgs = kept
            env.targets = [label for _, label in kept]
            n = len(samples) - len(kept)
            print(f"{n} files ._* of {env.root} are left out: no images", file=sys.stderr)


def check_image_folder(root, test_envs=(), n_expected=0):
    """Check that `root` is laid out domain/class/image, with the same classes in every domain.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no domains, not as many as expected (where n_expected > 0), a test environment
            out of range, a domain without classes, or classes that differ.
    """
    root = os.path.abspath(root)
    expected = f"Expected the layout {root}/DOMAIN/CLASS/IMAGE."
    if not os.path.isdir(root):
        raise FileNotFoundError(f"No folder {root} (it comes from --data_dir). {expected}")
    domains = images.folders_in(root)
    if not domains:
        raise ValueError(f"No domain folders in {root}. {expected}")
    if n_expected and len(domains) != n_expected:
        raise ValueError(
            f"{root} must have {n_expected} domain folders, has {len(domains)}: "
            f"{', '.join(domains)}. {expected}"
        )
    wrong = [env for env in test_envs if not 0 <= env < len(domains)]
    if wrong:
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(domains))
        raise ValueError(f"--test_envs must be among {listed}; got {wrong}")
    classes = {domain: images.folders_in(os.path.join(root, domain)) for domain in domains}
    for domain, names in classes.items():
        if not names:
            raise ValueError(f"No class folders in {root}/{domain}. {expected}")
        lacking = sorted(set().union(*classes.values()) - set(names))
        if lacking:
            raise ValueError(
                f"Every domain of {root} must have the same class folders: "
                f"{domain} lacks {', '.join(lacking[:10])}{' ...' if len(lacking) > 10 else ''}"
            )


def check_test_envs(cls, test_envs):
    """Refuse to train on what is made to test on: all of a data set's TEST_ENVS are left out.

    Raises:
        ValueError: one of them is not among test_envs.
    """
    if not {*cls.TEST_ENVS} <= {*test_envs}:
        words = " ".join(map(str, cls.TEST_ENVS))
        raise ValueError(
            f"{cls.__name__} is trained on its environment {cls.ENVIRONMENTS[0]}, and tested on "
            f"the others: give --test_envs {words}, got {' '.join(map(str, test_envs)) or 'none'}"
        )


def check_batch_first(cls):
    """Have `cls` (InfiniteDataLoader) refuse what would make it wait for ever, silently."""
    init = cls.__init__

    @functools.wraps(init)
    def __init__(self, dataset, weights, batch_size, *args, **kwargs):
        if weights is None and len(dataset) < batch_size:
            root = getattr(getattr(dataset, "underlying_dataset", None), "root", "")
            knob = json.dumps({"batch_size": len(dataset)})
            raise ValueError(
                f"batch_size must be at most the number of training images of each domain: got "
                f"batch_size {batch_size}, and {len(dataset)} images in a training domain"
                f"{f' ({root})' if root else ''}. DomainBed would wait for ever. "
                f"Set --hparams '{knob}' or smaller."
            )
        init(self, dataset, weights, batch_size, *args, **kwargs)

    cls.__init__ = __init__
