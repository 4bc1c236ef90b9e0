"""Checks of prompts: none is truncated by the tokenizer, and no two classes are the same."""

from ..method.prompts import build_prompts


def check(backbone, templates, class_names):
    """Check that no prompt exceeds the context length, and that no two classes have equal prompts.

    open_clip silently truncates long texts, and CLIP's tokenizer ignores case, so that "zero" and
    "Zero" are equal. Identical names are allowed here, since open_clip's names for ImageNet have
    some. (file_class_names and class_prompt_names refuse other duplicates.)

    Raises:
        ValueError: the message names the class and the template, or the two classes.
    """
    _check_lengths(backbone, templates, class_names)
    first = {}
    for name, ids in zip(class_names, _ids(backbone, build_prompts(templates[:1], class_names)[0])):
        other = first.setdefault(tuple(ids), name)
        if other != name:
            raise ValueError(
                f"The classes {other!r} and {name!r} are the same text to the tokenizer, so the "
                "second would never be predicted: rename one of them, or set clip_class_names"
            )


def _check_lengths(backbone, templates, class_names):
    try:
        limit = len(_ids(backbone, [""])[0])
        # The lengths of M templates and K names tell which of the M·K prompts may be too long.
        names = [_length(backbone, name) for name in class_names]
        around = [_length(backbone, template.replace("{}", " ")) for template in templates]
        for i, template in enumerate(templates):
            for k, name in enumerate(class_names):
                if names[k] + around[i] < limit - 4:
                    continue
                n = _length(backbone, template.replace("{}", name))
                if n > limit:
                    raise _TooLong(name, template, n, limit)
    except _TooLong as error:
        raise ValueError(str(error)) from None


class _TooLong(Exception):
    def __init__(self, name, template, n, limit):
        super().__init__(
            f"The prompt of the class {name!r} in the template {template!r} has {n} tokens, but "
            f"the text encoder accepts {limit}: shorten the name (clip_class_names) or the "
            "template (clip_contexts)"
        )


def _ids(backbone, texts):
    return [list(map(int, row)) for row in backbone.tokenize(list(texts))]


def _length(backbone, text):
    """Return the number of ids of a text with start and end, even if it exceeds the limit."""
    words = text.split()
    try:
        row = _ids(backbone, [text])[0]
    except RuntimeError:  # OpenAI's tokenizer refuses long texts, while open_clip's truncate them
        row = None
    empty = _ids(backbone, [""])[0]
    marks = _filled(empty, empty[-1])
    n = len(empty) if row is None else _filled(row, empty[-1])
    if n < len(empty) or len(words) < 2:
        return n if row is not None else len(empty) + 1
    half = len(words) // 2
    parts = (" ".join(words[:half]), " ".join(words[half:]))
    return sum(_length(backbone, part) for part in parts) - marks


def _filled(row, padding):
    n = len(row)
    while n and row[n - 1] == padding:
        n -= 1
    return n
