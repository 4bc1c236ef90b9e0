"""Rebuilding the zero-shot head of a run, without its data."""

import os
from types import SimpleNamespace

from domainbed import datasets as host_datasets

from ..algorithms.settings import context_templates
from ..contract import provenance
from ..data import host_names
from ..method.prompts import class_prompt_names
from ..models import prompt_cache


def templates(path, args, hparams):
    """Return the M templates of a run's prompts, in which ``{}`` stands for the class.

    Args:
        path: path of its model.
        args: arguments of its train command.
        hparams: its knobs.

    Raises:
        ValueError: a file of contexts is missing or has changed, or the run has no provenance.json
            and its data set is unknown.
    """
    recorded = provenance.read(os.path.dirname(path) or ".")
    wanted = recorded.get("templates_sha256")
    dataset = getattr(host_datasets, args["dataset"], None)
    names = recorded.get("domains") or list(getattr(dataset, "ENVIRONMENTS", ()))
    known = host_names.DOMAINS.get(args["dataset"], ())
    names = known if len(known) == len(names) else names
    found = context_templates(
        hparams,
        SimpleNamespace(
            prompt=getattr(dataset, "PROMPT", "{}"),
            train_domains=[name for i, name in enumerate(names) if i not in args["test_envs"]],
        ),
    )
    if wanted is None and dataset is None:
        raise ValueError(
            f"It is unknown which prompts {path} was trained with: there is no {provenance.FILE} "
            f"next to it, and the data set {args['dataset']} is unknown"
        )
    if wanted is not None and wanted != provenance.sha256_of(*found):
        raise ValueError(
            f"The prompts of {path} cannot be rebuilt: the {len(found)} templates of clip_contexts "
            f"{hparams['clip_contexts']!r} differ from the {recorded.get('templates')} that it was "
            "trained with"
        )
    return found


def head(backbone, texts, class_names):
    """Return the zero-shot head τ·W_cls (K, D).

    Args:
        backbone: the loaded CLIP.
        texts: templates, as :func:`templates` returns them.
        class_names: the class names.
    """
    names = class_prompt_names(class_names)
    _, W_cls = prompt_cache.cached_prompt_weights(backbone, texts, names)
    return backbone.logit_scale * W_cls
