"""Prompts of CAR-FT: contexts, class names, and the two weight matrices made of both.

Axis letters: D embedding, K classes, M contexts. A *template* is a text with exactly one ``{}``,
where the class name goes; each template is one context.
"""

import os
import re
from collections.abc import Sequence

import torch

from ..base import texts
from ..base.folders import composed
from ..base.messages import unknown

SETS = {
    "imagenet80": "OpenAI's 80 ImageNet templates",
    "imagenet7": "OpenAI's best seven of them",
    "single": 'the one template "a photo of a {}."',
    "domains": 'one "a DOMAIN of a {}" for each training domain',
}


def load_contexts(name_or_path, domain_names=None):
    """Return the templates of a context set, or of a text file.

    Args:
        name_or_path: a name of ``SETS``; else the path of a UTF-8 text file with one context per
            line, at least 2. A line with ``{}`` is a template ("a sketch of the {}."). A line
            without is a context for the paper's prompt "a [CONTEXT] of [CLASS]": "sketch" gives
            "a sketch of {}", to the letter; for another article, write the template. Empty lines
            and lines that start with ``#`` are skipped.
        domain_names: the TRAINING domains (the target's name as a context would leak it); for the
            set "domains" only, at least 2. ``_`` becomes a space: "art_painting" gives
            "a art painting of a {}", with one article for all, as in OpenAI's templates.

    Returns:
        A list of M strings with exactly one ``{}`` each, in the order of the set or the file.

    Raises:
        ValueError: an unknown name (the message has near ones), or a file or domain names that
            break the rules above (the message has the file and the line).

    Example:
        >>> load_contexts("domains", ["photo", "art_painting"])
        ['a photo of a {}', 'a art painting of a {}']
    """
    if name_or_path == "single":
        return ["a photo of a {}."]
    if name_or_path == "domains":
        return _domain_templates(domain_names)
    if name_or_path in SETS:
        # Only here, since it costs half a second on top of torch, and not every run needs it.
        import open_clip

        sets = {
            "imagenet80": open_clip.OPENAI_IMAGENET_TEMPLATES,
            "imagenet7": open_clip.SIMPLE_IMAGENET_TEMPLATES,
        }
        return [template("{}") for template in sets[name_or_path]]
    path = os.path.expanduser(name_or_path)
    if os.path.isfile(path):
        return _file_templates(path)
    message = unknown("contexts", name_or_path, ["auto", "embedded", *SETS])  # as the knob has it
    raise ValueError(f"{message}; or the path of a text file with one context per line")


def class_prompt_names(classes):
    """Return class names as they go into prompts, from folder names: ``_`` becomes a space.

    Outer spaces go; nothing else is renamed, upper case included (the names stay comparable with
    everyone's who uses DomainBed's folders).

    Names that are equal as given stay equal: open_clip's list for ImageNet has two such pairs.
    Their classes start with the same weights, so zero-shot CLIP never predicts the second.

    Raises:
        ValueError: an empty name, or two different folders whose names become the same.

    Example:
        >>> class_prompt_names(["Postit_Notes", "TV"])
        ['Postit Notes', 'TV']
    """
    names, found = {}, []
    for folder in classes:
        name = _readable(folder)
        if not name:
            raise ValueError(f"Class names must not be empty; got {folder!r} in {list(classes)}")
        if names.setdefault(name, folder) != folder:
            raise ValueError(
                f"Class names must differ; {names[name]!r} and {folder!r} are both {name!r}"
            )
        found.append(name)
    return found


def file_class_names(path, folders=None):
    """Return the class names of a text file, in the order of a data set's labels.

    Args:
        path: of a UTF-8 file. Either each line is FOLDER<TAB>NAME, in any order; or each line is a
            name, in the order of the data set's own classes: of an image folder the order of its
            class folders, sorted as text. Empty lines are skipped.
        folders: the data set's own class names, in the order of labels; None where it has none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no UTF-8; FOLDER is not the data set's, is there twice or not at all; a name
            is there twice; plain names for folders whose order is easily mistaken (1, 10, 2), or
            in an order that the folders' names contradict.

    Example, of a file for the folders 1, 10 and 2::

        1	dog
        2	cat
        10	owl
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"No file {path} (clip_class_names: one class name per line, or FOLDER<TAB>NAME)"
        )
    found = texts.lines_of(path, "A file of class names (clip_class_names)")
    lines = [line for line in found if line.strip()]
    if lines and all("\t" in line for line in lines):
        names = _by_folder(path, lines, folders)
    elif any("\t" in line for line in lines):
        raise ValueError(f"{path} must have a tab in each line, FOLDER<TAB>NAME, or in none")
    else:
        names = [line.strip() for line in lines]
        if folders is not None and len(names) == len(folders):
            _check_order(path, names, folders)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Class names must differ; {path} has {twice[0]!r} twice")
    return names


def _by_folder(path, lines, folders):
    pairs = [tuple(part.strip() for part in line.split("\t", 1)) for line in lines]
    found = {composed(folder): name for folder, name in pairs}
    if len(found) < len(pairs):
        raise ValueError(f"{path} has a folder twice in its FOLDER<TAB>NAME lines")
    if folders is None:
        raise ValueError(
            f"{path} names classes by folder, and the data set has no class names: give one name "
            "per line, in the order of labels"
        )
    known = [composed(folder) for folder in folders]
    wrong = [f for f in known if f not in found] or [f for f in found if f not in known]
    if wrong:
        what = "no line for the class" if wrong[0] in known else "a line for no class of the data:"
        raise ValueError(f"{path} has {what} {wrong[0]!r}, of {len(known)} classes")
    return [found[folder] for folder in known]


def _check_order(path, names, folders):
    """Refuse a plain file whose lines may stand for other folders than those they fall to."""
    shown = ", ".join(f"{folder} = {name}" for folder, name in list(zip(folders, names))[:4])
    way_out = "Write each line as FOLDER<TAB>NAME, in any order"
    parts = [re.fullmatch(r"(\D*)(\d+)(\D*)", folder) for folder in folders]
    if all(parts) and len({(part[1], part[3]) for part in parts}) == 1:
        numbers = [int(part[2]) for part in parts]
        if numbers != sorted(numbers):
            raise ValueError(
                f"The lines of {path} would fall to class folders that are sorted as text, not by "
                f"number: {shown} ... {way_out}"
            )
    place = {_readable(folder).casefold(): i for i, folder in enumerate(folders)}
    for i, name in enumerate(names):
        k = place.get(_readable(name).casefold(), i)
        if k != i:
            raise ValueError(
                f"{path} is in another order than the class folders: its name {i + 1}, {name!r}, "
                f"falls to the folder {folders[i]!r}, and there is a folder {folders[k]!r}. "
                f"{way_out}"
            )


def build_prompts(templates: Sequence[str], class_names: Sequence[str]) -> list[list[str]]:
    """Return the M x K prompts as a list (contexts) of lists (classes) of strings.

    Raises:
        ValueError: no templates, no class names, a template without exactly one ``{}``.

    Example:
        >>> build_prompts(["a photo of a {}.", "art of a {}."], ["dog", "cat", "owl"])[1]
        ['art of a dog.', 'art of a cat.', 'art of a owl.']
    """
    if not templates or not class_names:
        raise ValueError(
            "Prompts need at least one template and one class name; got "
            f"{len(templates)} and {len(class_names)}"
        )
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"A template must have exactly one {{}}; got {template!r}")
    return [[template.replace("{}", name) for name in class_names] for template in templates]


@torch.no_grad()
def prompt_weights(text_features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (W_ctx, W_cls), the weights of the contexts and of the classes::

        T[m,k] = normalise(g(prompt of context m, class k))
        W_ctx[m] = normalise(mean over k of T[m,k])        one row per context
        W_cls[k] = normalise(mean over m of T[m,k])        one row per class

    normalise divides each vector by its own length (each row, not the matrix).

    Args:
        text_features: g's output (M, K, D), any float type, of any length > 0 (normalised here).

    Returns:
        W_ctx (M, D) and W_cls (K, D), rows of length 1, without gradient; float32 (float64 for
        float64).

    Raises:
        ValueError: other shapes or types, NaN or infinity, a vector of length 0.
    """
    T = text_features
    if T.dim() != 3 or not T.is_floating_point() or 0 in T.shape:
        raise ValueError(
            "Text features must be floats (M, K, D), none of them 0: contexts, classes, embedding; "
            f"got {tuple(T.shape)} of {T.dtype}"
        )
    T = T.to(torch.promote_types(T.dtype, torch.float32))
    if not torch.isfinite(T).all():
        bad = (~torch.isfinite(T)).any(dim=2).sum().item()
        raise ValueError(
            f"Text features (M, K, D) must be finite; got {bad} vectors with NaN or infinity "
            f"of {tuple(T.shape[:2])}"
        )
    T = _unit(T, "the prompts' features (M, K, D)")
    W_ctx = _unit(T.mean(dim=1), "each context's mean over the classes (M, D)")
    W_cls = _unit(T.mean(dim=0), "each class's mean over the contexts (K, D)")
    return W_ctx, W_cls


def _unit(x, what):
    length = x.norm(dim=-1, keepdim=True)
    if not (length > 0).all():
        raise ValueError(f"{what} must not be 0: it has no direction; shape {tuple(x.shape)}")
    return x / length


def _readable(folder):
    return composed(folder).replace("_", " ").strip()


def _domain_templates(domain_names):
    names = [_readable(name) for name in domain_names or ()]
    if len(names) < 2:
        raise ValueError(
            'The contexts "domains" need the names of at least 2 training domains; '
            f"got {list(domain_names) if domain_names else domain_names}"
        )
    if len(set(names)) < len(names) or any(not n or "{" in n or "}" in n for n in names):
        raise ValueError(
            f"Domain names must differ, and be neither empty nor contain braces; got {names}"
        )
    return [f"a {name} of a {{}}" for name in names]


def _file_templates(path):
    first = {}  # template: the line it came from
    for number, line in enumerate(texts.lines_of(path, "A context file"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        rest = line.replace("{}", "", 1)
        if "{" in rest or "}" in rest:
            raise ValueError(
                "A line of a context file has the braces {} once, for the class name, or no "
                f"braces; got {line!r} in {path}, line {number}"
            )
        template = line if rest != line else f"a {line} of {{}}"
        if template in first:
            raise ValueError(
                f"The contexts of a file must differ; {path}, lines {first[template]} and "
                f"{number} both are {template!r}"
            )
        first[template] = number
    if len(first) < 2:
        raise ValueError(f"A context file must have at least 2 contexts; {path} has {len(first)}")
    return list(first)
