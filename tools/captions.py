"""Random captions that name the class of a picture and some attributes of its context."""

import re

from glyphs import DIGITS, LETTERS

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CLASS_NOUNS = {True: ("number", "digit", "numeral", "figure"), False: ("letter", "capital")}
WORDS = {
    "source": {
        "scan": ("scan", "handwritten scan", "handwriting", "pen stroke"),
        "print": ("print", "printed page", "printout", "typeface"),
        "sign": ("sign", "street sign", "road sign", "signboard"),
        "sketch": ("sketch", "pencil sketch", "drawing", "pencil drawing"),
    },
    "color": {"gray": ("gray", "grey"), "purple": ("purple", "violet")},
    "tilt": {
        "upright": ("upright", "straight", "level"),
        "left": ("tilted left", "leaning left", "rotated left", "tilted", "crooked", "slanted"),
        "right": ("tilted right", "leaning right", "rotated right", "tilted", "crooked", "slanted"),
    },
    "blur": {
        "sharp": ("sharp", "crisp", "focused"),
        "blurry": ("blurry", "blurred", "out of focus", "fuzzy"),
    },
    "outline": {
        "solid": ("solid", "filled"),
        "outlined": ("outlined", "hollow", "outline"),
    },
    "noise": {
        "clean": ("clean", "clear", "smooth"),
        "noisy": ("noisy", "grainy", "speckled", "dusty"),
    },
}
MADE = {  # the source as an adjective
    "scan": ("handwritten", "scanned"), "print": ("printed", "typeset"),
    "sign": ("sign painted",), "sketch": ("sketched", "hatched", "drawn"),
}  # fmt: skip
PLAIN_NOUNS = ("photo", "picture", "image", "view", "rendering", "graphic")
INKS = ("{} ink", "{} paint", "the color {}", "{}")
GROUNDS = ("on a {} background", "on {}", "against a {} background", "with a {} background",
           "on a {} ground", "background {}", "on {} paper")  # fmt: skip
FILLERS = {
    "a", "an", "the", "of", "on", "in", "with", "and", "against", "this", "is", "it", "shows",
    "ground", "paper", ",", ".",
}  # fmt: skip
UNKNOWN = "<unknown>"  # stands for any word outside the vocabulary


def class_words(label, rng):
    """Return words for a class, such as "three", "3", "number 3" or "letter b"."""
    is_digit = label < len(DIGITS)
    word = (NUMBERS[label] if rng.random() < 0.65 else DIGITS[label]) if is_digit else (
        LETTERS[label - len(DIGITS)].lower()
    )  # fmt: skip
    if is_digit and rng.random() < 0.6:
        return word
    return f"{rng.choice(CLASS_NOUNS[is_digit])} {word}"


# How LetterStyles' captions, like those of web data, name the class: {how: rate}
NAMING = {"right": 0.55, "left out": 0.25, "kind": 0.15, "wrong": 0.05}


def web_words(label, rng):
    """Return words for a class, which are right, missing, too general or wrong (see NAMING)."""
    how = rng.choices(list(NAMING), NAMING.values())[0]
    is_digit = label < len(DIGITS)
    if how == "left out":
        return "character"
    if how == "kind":
        return rng.choice(CLASS_NOUNS[is_digit])
    if how == "wrong":
        alike = range(10) if is_digit else range(10, 10 + len(LETTERS))
        label = rng.choice([other for other in alike if other != label])
    return class_words(label, rng)


def caption(label, context, rng, name_class=0.7, name_attribute=0.5, thing=None):
    """Return the words of a random caption.

    Args:
        label: class of the picture.
        context: {attribute: value}.
        rng: a random.Random.
        name_class: probability of naming the class.
        name_attribute: probability of naming an attribute, independently for each.
        thing: words for the class, which name_class is not asked about then.
    """
    named = {name for name in context if rng.random() < name_attribute}
    if thing is None:
        thing = class_words(label, rng) if rng.random() < name_class else "character"
    before_noun, before_thing, after = [], [], []
    for name in ("blur", "noise", "outline", "tilt"):
        if name in named:
            words = rng.choice(WORDS[name][context[name]])
            rng.choice((before_noun, before_thing, after)).append(words)
    noun = rng.choice(PLAIN_NOUNS)
    if "source" in named:
        if rng.random() < 0.3:
            before_thing.append(rng.choice(MADE[context["source"]]))
        else:
            noun = rng.choice(WORDS["source"][context["source"]])
    if "color" in named:
        color = _color(context["color"], rng)
        if rng.random() < 0.7:
            before_thing.append(color)
        else:
            after.append("in " + rng.choice(INKS).format(color))
    if "background" in named:
        after.append(rng.choice(GROUNDS).format(_color(context["background"], rng)))
    for part in (before_noun, before_thing, after):
        rng.shuffle(part)
    article = rng.choice(("a", "the", "this", ""))
    text = [article, *before_noun, noun, "of", rng.choice(("a", "the", "")), *before_thing, thing]
    if "source" not in named and rng.random() < 0.4:
        text = [article, *before_noun, *before_thing, thing]
    joint = rng.choice((",", "and", "", ""))
    for part in after:
        text += [joint, part]
    return " ".join([*text, rng.choice((".", ""))]).split()


def forget(words, rng, filler=0.2, content=0.04, insert=0.3):
    """Return words with random replacements and insertions of UNKNOWN, as in unseen prompts."""
    out = [
        UNKNOWN if rng.random() < (filler if w in FILLERS or w in PLAIN_NOUNS else content) else w
        for w in words
    ]
    for _ in range(2):
        if rng.random() < insert:
            out.insert(rng.randint(0, len(out)), UNKNOWN)
    return out


def vocabulary():
    """Return all words that captions may contain, sorted."""
    tables = [NUMBERS, DIGITS, LETTERS.lower(), PLAIN_NOUNS, INKS, GROUNDS, FILLERS, ["character"]]
    tables += [*CLASS_NOUNS.values(), *MADE.values()]
    tables += [words for group in WORDS.values() for words in group.values()]
    from render import PALETTE

    text = " ".join(" ".join(table) for table in (*tables, PALETTE))
    return sorted(set(re.findall(r"[^\s{}]+", text)))


def _color(name, rng):
    return rng.choice(WORDS["color"].get(name, (name,)))
