"""Class and domain names of DomainBed's data sets that have none, or only numbers, of their own.

VLCS, PACS, OfficeHome, TerraIncognita and DomainNet have theirs in their folders, Spawrious in the
class. docs/datasets.md says where those here come from.
"""

import sys

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLASSES = {
    "Debug28": ("0", "1"),  # noise: its classes have no meaning
    "Debug224": ("0", "1"),
    "RotatedMNIST": DIGITS,
    # label 1 is a digit below five, as ColoredMNIST computes it
    "ColoredMNIST": ("digit from five to nine", "digit from zero to four"),
    # sviro.kl.dfki.de: BG, IS, CS, Person, Object, E-IS, E-CS
    "SVIRO": (
        *("empty seat", "infant in an infant seat", "child in a child seat", "adult passenger"),
        *("everyday object on a seat", "empty infant seat", "empty child seat"),
    ),
    # wilds: y is whether the centre of the patch has any tumor tissue
    "WILDSCamelyon": ("normal lymph node tissue", "lymph node tissue with a tumor"),
}
DOMAINS = {
    "RotatedMNIST": tuple(f"rotation by {angle} degrees" for angle in range(0, 90, 15)),
    "ColoredMNIST": tuple(f"colouring with {share} agreement" for share in ("90%", "80%", "10%")),
    "WILDSCamelyon": tuple(f"slide from hospital {i}" for i in range(5)),
}
SVIRO_FOLDERS = tuple("0123456")


def class_names(dataset, found):
    """Return the class names of a data set, or None.

    Args:
        dataset: of DomainBed.
        found: its own names, or None. They stand, unless they are SVIRO's numbers.
    """
    name = _known(dataset, {*CLASSES, "WILDSFMoW"})
    if name is None or (found and not (name == "SVIRO" and tuple(found) == SVIRO_FOLDERS)):
        return found
    names = _fmow_classes() if name == "WILDSFMoW" else CLASSES[name]
    return names if len(names or ()) == getattr(dataset, "num_classes", None) else found


def domain_names(dataset, found):
    """Return the names of a data set's domains for prompts.

    Args:
        dataset: of DomainBed.
        found: the names of its environments or of their folders. They stand where none is known.
    """
    name = _known(dataset, {*DOMAINS, "WILDSFMoW"})
    names = _fmow_regions(dataset) if name == "WILDSFMoW" else DOMAINS.get(name)
    return tuple(names) if names and len(names) == len(found) else found


def _known(dataset, names):
    """Return the name of the first of a data set's classes that is among the names, or None."""
    return next((cls.__name__ for cls in type(dataset).__mro__ if cls.__name__ in names), None)


def _fmow_classes():
    """Return the 62 categories of FMoW in the order of its labels: those of the package wilds."""
    module = sys.modules.get("wilds.datasets.fmow_dataset")  # which the data set was read with
    return tuple(getattr(module, "categories", ())) or None


def _fmow_regions(dataset):
    """Return a name per environment of FMoW; wilds numbers regions by their first image."""
    regions = []
    for env in dataset:
        names = (getattr(env.dataset, "_metadata_map", None) or {}).get("region", ())
        number = str(getattr(env, "name", "")).rpartition("_")[2]
        if not number.isdigit() or int(number) >= len(names):
            return None
        regions.append(f"satellite image of {names[int(number)]}")
    return regions
