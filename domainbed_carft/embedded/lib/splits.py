"""Training and evaluation splits of the environments."""

import os

from domainbed_carft.base import environment
from domainbed_carft.base.workers import FEW_IMAGES

from . import fast_data_loader, misc


class Splits:
    """The ``in`` (training), ``out`` (validation) and ``uda`` (unused) splits of environments.

    Attributes:
        train: {environment: its ``in`` split} of the training environments.
        evaluated: [(name like "env0_in", split)].
        smallest: number of images of the smallest ``in`` split.

    Raises:
        ValueError: an ``in`` or ``out`` split is empty.
    """

    def __init__(self, args, dataset):
        self.train, self.evaluated = {}, []
        smallest = float("inf")
        ins, outs, udas = [], [], []
        for i, env in enumerate(dataset):
            seed = misc.seed_hash(args.trial_seed, i)
            out, in_ = misc.split_dataset(env, int(len(env) * args.holdout_fraction), seed)
            n_uda = int(len(in_) * args.uda_holdout_fraction) if i in args.test_envs else 0
            if n_uda:
                uda, in_ = misc.split_dataset(in_, n_uda, seed)
                udas.append(uda)
            if i not in args.test_envs:
                self.train[i] = in_
            if not len(out) or not len(in_):
                name = os.path.basename(os.path.normpath(str(getattr(env, "root", i))))
                raise ValueError(
                    f"Environment {i} ({name}) has {len(env)} images: --holdout_fraction "
                    f"{args.holdout_fraction} and --uda_holdout_fraction "
                    f"{args.uda_holdout_fraction} leave {len(in_)} for training and {len(out)} for "
                    "validation, but each needs at least 1"
                )
            ins.append(in_)
            outs.append(out)
            smallest = min(smallest, len(in_))
        self.smallest = smallest
        needed = getattr(args, "eval_splits", "all") == "needed"
        for kind, parts in (("in", ins), ("out", outs), ("uda", udas)):
            for i, part in enumerate(parts):  # like DomainBed, uda splits are numbered separately
                if not needed or kind == "out" or (kind == "in" and i in args.test_envs):
                    self.evaluated.append((f"env{i}_{kind}", part))


def workers_for(dataset, n_images, at_once=1):
    """Return the number of worker processes for a loader.

    Args:
        dataset: the data set.
        n_images: number of images that the loader reads.
        at_once: number of loaders that run at the same time.
    """
    asked = environment.n_workers()
    if asked is not None:
        return asked
    if n_images < FEW_IMAGES:
        return 0
    return min(dataset.N_WORKERS, max(1, (os.cpu_count() or 1) // at_once))


def training_batches(start, n_steps, args, hparams, dataset, splits):
    """Return an iterator over the minibatches of steps, as [(x, y)] of the training environments.

    The knob `class_balanced` balances the classes in minibatches. Like DomainBed's, accuracies are
    not balanced.
    """
    balance, size = misc.make_weights_for_balanced_classes, hparams["batch_size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ValueError(f"batch_size must be a whole number >= 1, got {size!r}")
    n_images = (n_steps - start) * size
    loaders = [
        fast_data_loader.InfiniteDataLoader(
            dataset=split,
            weights=balance(split) if hparams["class_balanced"] else None,
            batch_size=size,
            num_workers=workers_for(dataset, n_images, at_once=len(splits.train)),
            seed=misc.seed_hash(args.seed, "train", i),
            start=start,
        )
        for i, split in splits.train.items()
    ]
    return zip(*loaders)
