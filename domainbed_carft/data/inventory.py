"""Checks of all data sets in a folder, or of one of the user's own (`carft doctor --data_dir`).

Layouts are checked by the code that reads the data in training. Counts are compared with official
ones, from the paper or page of each data set (see docs/datasets.md).
"""

import io
import os
import warnings
from dataclasses import dataclass

from ..base.folders import ENDINGS, counted, shown, some
from ..base.packed import is_packed
from . import duplicates, images
from .forms import kinds

COUNTS = {  # {data set: {environment: number of images}}
    "PACS": {"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929},
    "VLCS": {"Caltech101": 1415, "LabelMe": 2656, "SUN09": 3282, "VOC2007": 3376},
    "OfficeHome": {"Art": 2427, "Clipart": 4365, "Product": 4439, "Real World": 4357},
    "TerraIncognita": {},  # not compared, since published totals differ
    "DomainNet": {
        **{"clipart": 48129, "infograph": 51605, "painting": 72266},
        **{"quickdraw": 172500, "real": 172947, "sketch": 69128},
    },
    "ImageNet train": {"imagenet_train": 1281167},
    "ImageNet val": {"imagenet_val": 50000},
    "ImageNet-V2": {"V2": 10000},
    "ImageNet-R": {"R": 30000},
    "ImageNet-A": {"A": 7500},
    "ImageNet-Sketch": {"Sketch": 50889},
    "ObjectNet": {"ObjectNet": 18574},  # of its 50,273: those of the 113 classes
    "ImageNet-C": {"C": 3750000},
    "Flowers102": {"train": 2040, "test": 6149},
    "FGVCAircraft": {"train": 6667, "test": 3333},
    "CIFAR10": {"train": 50000, "test": 10000},
    "CIFAR100": {"train": 50000, "test": 10000},
    "StanfordCars": {"train": 8144, "test": 8041},
    "Food101": {"train": 75750, "test": 25250},
    "OxfordIIITPet": {"train": 3680, "test": 3669},
    "DTD": {"train": 3760, "test": 1880},
    "SUN397": {"train": 19850, "test": 19850},
    "Caltech101": {"train": 3030, "test": 5647},
    "EuroSAT": {"train": 21600, "test": 5400},
}
FOLDERS = {
    **{"PACS": "PACS", "VLCS": "VLCS", "OfficeHome": "office_home"},
    **{"TerraIncognita": "terra_incognita", "DomainNet": "domain_net"},
}


@dataclass
class Finding:
    """Result for a data set. The state is "whole", "incomplete", "wrong" or "absent"."""

    name: str
    state: str
    text: str


def check(root, decode=False, progress=lambda paths: paths, is_own=False):
    """Return a Finding for each known data set.

    Args:
        root: the folder of --data_dir, or a data set in one of the other forms (see forms/).
        decode: whether to read every image file, which is slow.
        progress: wrapper of the iterable of paths that are read, for example tqdm.
        is_own: whether it is a data set of the user's own, whatever the names of its folders.

    Raises:
        ValueError: the folder does not exist.
    """
    if is_own or _is_form(root):
        name = kinds.name_of(root)
        return [_finding(name, lambda: _opened(name, root), decode, progress)]
    if not os.path.isdir(root):
        raise ValueError(f"No folder {root} (--data_dir)")
    findings = [
        _finding(name, load, decode, progress)
        if os.path.isdir(os.path.join(root, place))
        else Finding(name, "absent", place)
        for name, place, load in _known(root)
    ]
    anything = any(finding.state != "absent" for finding in findings)
    return findings + [
        _finding(name, load, decode, progress) for name, load in _own(root, anything)
    ]


def _known(root):
    """Yield (name, folder below root, function that returns the environments as Images)."""
    from . import imagenet, imagenet_c, tasks

    for name, place in FOLDERS.items():
        path = os.path.join(root, place)
        yield name, place, lambda path=path, name=name: _image_folder(path, name)
    top = imagenet.PLACES["ImageNet"]
    for part in ("train", "val"):
        place = os.path.join(top, part)
        yield f"ImageNet {part}", place, lambda part=part: [imagenet.split(root, part)]
    for name, place in imagenet.PLACES.items():
        if name != "ImageNet":
            title = name if name == "ObjectNet" else f"ImageNet-{name}"
            yield title, place, lambda name=name: [imagenet.shifted(root, name)]
    yield "ImageNet-C", imagenet_c.PLACE, lambda: [imagenet_c.as_one(root)]
    for cls in tasks.DATASETS:
        yield cls.__name__, cls.PLACE, lambda cls=cls: cls(root, [1], {}).datasets


def _own(root, anything):
    """Yield (name, function that returns the environments) of users' own data sets in a folder.

    They are those listed in the environment variable. If there are none, and no known data sets,
    it is the folder itself.
    """
    from . import user_folders

    root = os.path.realpath(root)
    found = [cls.FOLDER for cls in user_folders.declared().values()]
    found = [path for path in found if (os.path.realpath(path) + os.sep).startswith(root + os.sep)]
    if not found and not anything:
        domains = images.folders_in(root)
        found = [root] if any(images.folders_in(os.path.join(root, d)) for d in domains) else []
    for path in found:
        name = kinds.name_of(path)
        yield name, lambda name=name, path=path: _opened(name, path)


def _is_form(path):
    try:
        return kinds.reader(path) is not None
    except ValueError:  # a file of another form
        return True


def _opened(name, path):
    """Return the environments of a user's own data set."""
    from . import user_folders

    return user_folders.data_set(name, path, least=1)(None, [], {}).datasets


def _image_folder(path, name):
    from domainbed.datasets import MultipleEnvironmentImageFolder

    from .checks import check_image_folder
    from .host_folders import check

    # not len(COUNTS[name]): TerraIncognita has no official counts
    check_image_folder(path, n_expected=6 if name == "DomainNet" else 4)
    check(path, MultipleEnvironmentImageFolder)
    found = []
    for domain in images.folders_in(path):
        classes = images.folders_in(os.path.join(path, domain))
        folder = os.path.join(path, domain)
        found.append(images.Images(*images.by_class(folder, classes, ENDINGS), classes, folder))
    return found


def _finding(name, load, decode, progress):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            environments = load()
        except (ValueError, OSError) as error:
            return Finding(name, "wrong", str(error))
    counts = {os.path.basename(os.path.normpath(str(env.root))): len(env) for env in environments}
    official = COUNTS.get(name, {})
    notes = [
        f"{part} has {n:,} images, officially {official[part]:,}"
        for part, n in counts.items()
        if part in official and n != official[part]
    ]

    unknown = set(counts) - set(official) if official else ()
    notes += [f"the domain {part} is unknown" for part in sorted(unknown)]
    texts = [str(warning.message) for warning in caught]
    facts = [text for text in texts if "hidden file" in text]  # harmless: readers ignore them
    notes += [text for text in texts if text not in facts]
    if sum(counts.values()) <= duplicates.MANY or decode:
        facts.append(duplicates.sentence(environments, progress))
    else:
        facts.append("duplicates are only searched with --decode")
    if decode:
        notes += broken(environments, progress)
    else:
        notes += links(environments)
    total = ", ".join(f"{shown(part)} {n:,}" for part, n in counts.items())
    text = f"{total} images, {len(set(environments[0].targets)):,} classes"
    return Finding(
        name, "incomplete" if notes else "whole", "; ".join([text, *notes, *filter(None, facts)])
    )


def links(environments):
    """Return a note on broken symbolic links, if there are any."""
    items = [item for env in environments for item in env.items]
    paths = [item for item in items if isinstance(item, (str, os.PathLike))]
    gone = [path for path in paths if os.path.islink(path) and not os.path.exists(path)]
    what = counted(len(gone), "file is a broken link", "files are broken links")
    return [f"{what}: {some(gone)}"] if gone else []


def broken(environments, progress=lambda paths: paths):
    """Return a note for each image file that cannot be read or is truncated."""
    from PIL import Image, ImageFile

    notes = []
    items = [item for env in environments for item in env.items]
    items = [item for item in items if isinstance(item, (str, os.PathLike)) or is_packed(item)]
    for path in progress(items):
        try:
            images.read(path)
            ImageFile.LOAD_TRUNCATED_IMAGES = False
            with Image.open(io.BytesIO(path.content()) if is_packed(path) else path) as image:
                image.load()
        except (ValueError, OSError, SyntaxError) as error:
            cut = "" if shown(path) in str(error) else f"{shown(path)} is truncated: "
            notes.append(f"{cut}{error}")
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = True
    return notes


def report(root, decode=False, is_own=False):
    """Print the findings, and return a list of problems."""
    from tqdm import tqdm

    findings = check(root, decode, lambda paths: tqdm(paths, desc="reading", unit="image"), is_own)
    for finding in findings:
        if finding.state != "absent":
            print(f"{finding.name}: {finding.state}: {finding.text}")
    absent = [f"{found.name} ({found.text}/)" for found in findings if found.state == "absent"]
    if absent:
        print(f"Not found: {', '.join(absent)}")
    problems = [f"{f.name} is {f.state}" for f in findings if f.state in ("wrong", "incomplete")]
    if len(absent) == len(findings):
        problems.append(f"no data set found in {root}: see docs/datasets.md")
        print(f"PROBLEM: {problems[-1]}")
    return problems
