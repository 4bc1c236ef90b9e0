"""Fuzz targets: folder trees, and the images in them."""

import io
import os
import unicodedata

import numpy as np
from fuzz_rules import REFUSED, Target, Wrong, compared, is_clear, refusal
from hypothesis import strategies as st
from PIL import Image

# As docs/datasets.md has them; written down here again, as an oracle must.
ENDINGS = "jpg jpeg png ppm bmp pgm tif tiff webp".split()
MORE = "jfif jpe gif avif apng jp2".split()
HIDDEN = "__macosx thumbs.db ehthumbs.db desktop.ini @eadir $recycle.bin lost+found __pycache__"
HIDDEN = {*HIDDEN.split(), "system volume information", "icon\r"}

COLOUR = (200, 30, 90)
# kind of file: (bytes, colour that is right or None where it cannot be read)
FILES = {}


def _picture(name, image, form, right, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    FILES[name] = (out.getvalue(), right)


def _make_files():
    rgb = Image.new("RGB", (3, 2), COLOUR)
    _picture("png", rgb, "PNG", COLOUR)
    _picture("bmp", rgb, "BMP", COLOUR)
    _picture("webp", rgb, "WEBP", COLOUR, lossless=True)
    _picture("palette", rgb.quantize(4), "PNG", COLOUR)
    _picture("alpha", Image.new("RGBA", (3, 2), (*COLOUR, 7)), "PNG", COLOUR)
    _picture("grey", Image.new("L", (3, 2), 99), "PNG", (99,) * 3)
    _picture("grey alpha", Image.new("LA", (3, 2), (99, 5)), "PNG", (99,) * 3)
    _picture("one bit", Image.new("1", (3, 2), 1), "PNG", (255,) * 3)
    deep = Image.fromarray(np.full((2, 3), 30000, np.uint16))
    _picture("16 bits", deep, "PNG", (117,) * 3)  # 30000·255/65535 = 116.73
    for name, value, right in (
        ("float share", 0.5, (128,) * 3),
        ("float bytes", 77.0, (77,) * 3),
        ("float deep", 30000.0, (117,) * 3),
        ("float negative", -1.0, None),
        ("float huge", 1e6, None),
        ("float nan", np.nan, None),
        ("float infinite", np.inf, None),
    ):
        _picture(name, Image.fromarray(np.full((2, 3), value, np.float32)), "TIFF", right)
    FILES["empty"] = b"", None
    FILES["text"] = b"no image\n", None
    FILES["html"] = b"<html>404 Not Found</html>", None
    FILES["only a head"] = FILES["png"][0][:20], None
    FILES["zeros"] = bytes(300), None
    FILES["svg"] = b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', None
    FILES["lfs"] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", None
    FILES["broken link"] = None, None


_make_files()
ODD = (
    *(
        "a",
        "b",
        "A",
        "dog",
        "cat",
        "10",
        "2",
        "01",
        "1",
        "é",
        "e\u0301",
        "ﬁ",
        "ß",
        "名",
        "🐈",
        " a",
    ),
    *("a ", "a_b", "a b", "{}", "{x}", "%s", "'", '"', "\t", "a\nb", "\\", "-x", "--steps", "~"),
    *(
        ".hidden",
        ".ipynb_checkpoints",
        "__MACOSX",
        "Thumbs.db",
        "$RECYCLE.BIN",
        "..a",
        "...",
        "._a",
    ),
    *("\u202e", "\ufeff", "\x01", "\udcff", "x" * 200, "con", "a.jpg", "null", "nan", "é.png"),
)
names = st.one_of(
    st.sampled_from(ODD),
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6
    ).filter(lambda name: name not in (".", "..")),
)
endings = st.one_of(
    st.sampled_from(["." + e for e in (*ENDINGS, *MORE)]),
    st.sampled_from([".JPG", ".Png", ".txt", ".jpg.txt", "", ".jpg~", ".svg", ".npy", ".jpg "]),
)
files = st.tuples(names, endings).map("".join)
# folders below a class: images count at any depth
places = st.one_of(st.just([]), st.lists(names, min_size=1, max_size=2))
items = st.tuples(places, files, st.sampled_from(sorted(FILES))).map(list)
classes = st.lists(st.tuples(names, st.lists(items, max_size=3)).map(list), max_size=3)
good_item = st.tuples(st.just([]), names.map(lambda n: n + ".png"), st.just("png")).map(list)


@st.composite
def trees(draw):
    """Draw [[domain, [[class, [[[folder, ...], file, kind], ...]], ...]], ...].

    Half of them have the same classes, with an image each, in every domain.
    """
    domains = draw(st.lists(names, max_size=4, unique=True))
    if draw(st.booleans()):
        return [[domain, draw(classes)] for domain in domains]
    shared = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    return [
        [d, [[c, [draw(good_item), *draw(st.lists(items, max_size=2))]] for c in shared]]
        for d in domains
    ]


def put(root, tree):
    """Write a tree below a folder; return it as {domain: {class: {(*folders, file): kind}}}.

    What a file system refuses (a name too long, a file where a folder is) is left out.
    """
    made = {}
    for domain, its_classes in tree:
        for name, content in [*its_classes, [None, []]]:
            folder = os.path.join(root, domain, *([name] if name is not None else []))
            try:
                os.makedirs(folder, exist_ok=True)
            except OSError:
                continue
            inner = made.setdefault(domain, {})
            if name is None:
                continue
            found = inner.setdefault(name, {})
            for parts, file, kind in content:
                if _write(os.path.join(folder, *parts), file, kind):
                    found[(*parts, file)] = kind
    return made


def _write(folder, file, kind):
    path = os.path.join(folder, file)
    try:
        os.makedirs(folder, exist_ok=True)
        if os.path.lexists(path):
            return False
        if kind == "broken link":
            os.symlink("/nowhere/at/all", path)
        else:
            with open(path, "wb") as out:
                out.write(FILES[kind][0])
    except OSError:
        return False
    return True


def hidden(name):
    return name[:1] == "." or name.lower() in HIDDEN


def escaped(name):
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def form(name):
    return unicodedata.normalize("NFC", name)


def images_of(content, known):
    """Return the (folders, file) that are images, in torchvision's order, of one class."""
    shown = [path for path in content if not any(map(hidden, path))]
    shown = [path for path in shown if path[-1].lower().endswith(tuple(f".{e}" for e in known))]
    return sorted(shown, key=lambda path: ("/".join(["", *path[:-1]]), path[-1]))


def known_endings():
    Image.init()
    return ENDINGS + [e for e in MORE if Image.EXTENSION.get(f".{e}") in Image.OPEN]


def expected(made, least):
    """Return {domain: [(class, [(path, kind)])]} of a data set's folder, or REFUSED."""
    domains = sorted(d for d in made if not hidden(d))
    if len(domains) < least:
        return REFUSED
    shown = {d: [c for c in made[d] if not hidden(c)] for d in domains}
    forms = [{form(c) for c in found} for found in shown.values()]
    if any(not f or f != forms[0] for f in forms):
        return REFUSED
    if any(len(shown[d]) > len(forms[0]) for d in domains):
        return REFUSED  # one name in two Unicode forms
    known, result = known_endings(), {}
    same = len({tuple(sorted(found)) for found in shown.values()}) == 1
    for d in domains:
        order = sorted(shown[d], key=None if same else form)
        result[d] = [(c, [(p, made[d][c][p]) for p in images_of(made[d][c], known)]) for c in order]
        if any(not found for _, found in result[d]):
            return REFUSED
    return result


def check_folder(tree, folder):
    """A user's own folder: domains, classes, labels, order of images, and each image's colour."""
    from domainbed_carft.data import user_folders

    right = expected(put(folder, tree), least=2)

    def build():
        return user_folders.data_set("Fuzzed", folder)(None, [0], {})

    def differ(data, right):
        if list(data.ENVIRONMENTS) != list(right):
            return "other domains"
        for domain, env in zip(right, data.datasets):
            wanted = [
                (os.path.join(folder, domain, c, *path), i)
                for i, (c, found) in enumerate(right[domain])
                for path, _ in found
            ]
            if list(zip(env.items, env.targets)) != wanted:
                return "other images or labels"
            if [form(c) for c in env.classes] != [form(c) for c, _ in right[domain]]:
                return "other class names"
            kinds = [kind for _, found in right[domain] for _, kind in found]
            for i, kind in enumerate(kinds):
                _check_image(lambda i=i, env=env: env.image(i), kind)

    return compared(build, right, differ)


def _check_image(read, kind):
    colour = FILES[kind][1]
    try:
        pixel = np.asarray(read()).reshape(-1, 3)
    except Exception as error:
        refusal(error)
        if colour is not None:
            raise Wrong(f"an image {kind!r} is refused") from error
        return
    if colour is None:
        raise Wrong(f"an image {kind!r} is read")
    if (pixel != colour).any():
        raise Wrong(f"an image {kind!r} has other colours | {pixel[0]}")


def check_inventory(tree, folder):
    """`doctor --data_dir --decode`: counts of images by domain, and how many cannot be read."""
    from domainbed_carft.data import inventory

    made = put(folder, tree)
    right = expected(made, least=1)

    def own():
        return [f for f in inventory.check(folder, decode=True) if f.state != "absent"]

    def differ(found, right):
        if any(one.name != os.path.basename(folder) for one in found):
            return False  # a domain is called what a known data set's folder is
        visible = {d: c for d, c in made.items() if not hidden(d)}
        with_classes = any(not hidden(c) for its in visible.values() for c in its)
        if not with_classes:
            return "found, where nothing lies" if found else False
        if not all(is_clear(one.text, 100_000) for one in found):
            return "no clear line"
        if len(found) != 1:
            return f"{len(found)} findings"
        if right == "wrong":
            return False if found[0].state == "wrong" else "called right, though wrong"
        total = {d: sum(len(p) for _, p in found) for d, found in right.items()}
        text = ", ".join(f"{escaped(d)} {n:,}" for d, n in total.items()) + " images, "
        if not found[0].text.startswith(text):
            return "other counts"
        kinds = [kind for found in right.values() for _, paths in found for _, kind in paths]
        broken = any(FILES[kind][1] is None for kind in kinds)
        if broken and found[0].state == "whole":
            return "called whole, with images that cannot be read"
        return False

    return compared(own, "wrong" if right is REFUSED else right, differ)


@st.composite
def renamed(draw):
    """Draw a run's recorded names and today's folders: renamed, in another order, more, fewer."""
    then = draw(
        st.lists(names.filter(lambda n: not hidden(n)), min_size=2, max_size=4, unique=True)
    )
    then = list({form(n): n for n in then}.values())
    kept = draw(st.permutations(then))
    today = [unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD"])), n) for n in kept]
    today = today[: draw(st.integers(1, len(today)))] if draw(st.booleans()) else today
    today += draw(st.lists(names, max_size=2))
    return [then, list(dict.fromkeys(today)), draw(st.lists(st.sampled_from("abcd"), unique=True))]


def check_recorded(value, folder):
    """A run's recorded domains, against today's folders, matched by name."""
    from domainbed_carft.data import user_folders

    then, today, its_classes = value
    tree = [[d, [[c, [[[], "x.png", "png"]]] for c in its_classes]] for d in today]
    made = put(folder, tree)
    found = expected(made, least=2)
    domains = {}
    for d in found if found is not REFUSED else ():
        domains.setdefault(form(d), []).append(d)
    right = REFUSED
    if all(len(domains.get(form(d), [])) == 1 for d in then):
        right = [domains[form(d)][0] for d in then]

    def call():
        cls = user_folders.data_set("Fuzzed", folder)
        cls = user_folders.as_recorded(cls, then, sorted(its_classes))
        return [os.path.basename(env.root) for env in cls(None, [0], {}).datasets]

    return compared(call, right)


TARGETS = [
    Target("folders of a user's own data set", trees(), check_folder),
    Target("doctor --data_dir --decode", trees(), check_inventory),
    Target("folders renamed after a run", renamed(), check_recorded),
]
