"""Settings of an algorithm from its knobs and its data set: checks, names, templates, length."""

import sys

from domainbed import algorithms as host_algorithms

from ..base.assets import ASSETS, CLIPS
from ..contract import trainer
from ..method import recipes
from ..method.knobs import CROP, check_types
from ..method.prompts import class_prompt_names, file_class_names, load_contexts
from . import host_calls, methods


def host_knobs(dataset):
    """Return the names of the knobs of all of the host's algorithms for a data set.

    Returns:
        A set, or None if the host's registry gives none.
    """
    found = set()
    for name in [*map(str, host_algorithms.ALGORITHMS), *methods.METHODS]:
        found.update(_host_defaults(name, dataset))
    return found or None


def _host_defaults(algorithm, dataset):
    """Return the host's {knob: default} of an algorithm, or {} if its registry raises an error.

    Registries of forks fail for some algorithms, and this is only asked to name misspelt knobs.
    """
    try:
        return host_calls.default_hparams(algorithm, dataset)
    except Exception:
        return {}


def check_knobs(cls, hparams, data):
    """Check the knobs of an algorithm.

    If a train command is running, unknown names in its --hparams are errors. Knobs without effect
    on the algorithm are noted on stderr.

    Raises:
        ValueError: a knob is unknown, its value is invalid, or a recipe is named whose knobs are
            not there.
    """
    # A user's subclass that is not in the table has the knobs of its nearest listed base.
    names = [base.__name__ for base in cls.__mro__ if base.__name__ in methods.METHODS]
    algorithm = names[0] if names else "CLIP_ERM"
    typed = trainer.typed_hparams()
    known = host_knobs(data.name if data else "PACS") if typed else None
    methods.check(algorithm, hparams, known, typed)
    if typed:
        own = methods.rules()
        host = {knob: hparams[knob] for knob in typed if knob in hparams and knob not in own}
        check_types(host, _host_defaults(algorithm, data.name if data else "PACS"))
    trainer.check(cls.__name__)
    if recipes.KNOB in hparams and recipes.KNOB not in (typed or ()):
        _check_recipe(algorithm, hparams, data.name if data else "PACS")
    asked = hparams["clip_cache"] or hparams["clip_exif"] or hparams["clip_transform"] != "host"
    asked = asked or hparams["clip_images"] != "exact"
    if asked and data and not data.is_fitted:
        raise ValueError(
            "clip_transform must be 'host', clip_images 'exact', clip_exif false and clip_cache "
            f"empty for {data.name}, which does not read image files from folders"
        )
    looks = hparams["clip_crop"] != CROP or not hparams["clip_flip"]
    if looks and hparams["clip_transform"] == "host":
        raise ValueError(
            "clip_crop and clip_flip change the augmentation of clip_transform 'clip', and it is "
            "'host'"
        )
    unused = methods.without_effect(algorithm, typed or ())
    if unused:
        print(f"NOTE: no effect on {algorithm}: {', '.join(unused)}", file=sys.stderr)


def _check_recipe(algorithm, hparams, dataset):
    """Check that a recipe in a dict of knobs is more than a name: only trainers replace it.

    Raises:
        ValueError: all of the recipe's knobs that differ from the defaults have the defaults.
    """
    name, defaults = hparams[recipes.KNOB], methods.knobs_of(algorithm, dataset)
    listed = recipes.knobs(name, dataset)
    other = [knob for knob in listed if knob in defaults and listed[knob] != defaults[knob].default]
    if all(hparams.get(knob) == defaults[knob].default for knob in other):
        raise ValueError(
            f"the recipe {name!r} has no effect in a dict of knobs, only in --hparams: update the "
            f"dict with domainbed_carft.method.recipes.knobs({name!r}, {dataset!r})"
        )


def class_names(knobs, data, num_classes):
    """Return the K class names for prompts, from clip_class_names or the data set.

    Returns:
        A list, or None if there is neither a file nor a data set.

    Raises:
        ValueError: the data set has no class names, or their number is not `num_classes`.
    """
    file = knobs["clip_class_names"]
    if file:
        names = file_class_names(file, data and data.class_names)
        source = file
    elif data is None:
        return None
    elif data.class_names is None:
        raise ValueError(
            f"The data set {data.name} has no class names for prompts: set clip_class_names to a "
            f"text file with its {num_classes} names, one per line."
        )
    else:
        names, source = data.class_names, f"the data set {data.name}"
    if num_classes < 2:
        raise ValueError(f"There must be at least 2 classes, but {source} has one")
    if len(names) != num_classes:
        raise ValueError(
            f"There must be one name for each class: {source} has {len(names)} names for "
            f"{num_classes} classes"
        )
    return class_prompt_names(names)


def context_templates(knobs, data):
    """Return the M context templates for the knob clip_contexts.

    Args:
        knobs: {name: value}.
        data: a data.describe.Description, or None.
    """
    contexts, prompt = knobs["clip_contexts"], "{}"
    if contexts == "auto":
        contexts = "embedded" if knobs["clip_backbone"] in CLIPS else "imagenet80"
        prompt = data.prompt if data else prompt
    if contexts == "embedded":
        contexts = str(ASSETS / "contexts.txt")
    templates = load_contexts(contexts, domain_names=data and data.train_domains)
    return [template.replace("{}", prompt) for template in templates]


def planned_steps(knobs, data):
    """Return the number of training steps: clip_steps, --steps, or the data set's N_STEPS."""
    running = trainer.running()
    asked = knobs["clip_steps"] or (running and running.steps)
    return asked or (data.n_steps if data else 5001)
