"""Fuzz target: manifests of images, as CSV and as JSON lines."""

import csv
import io
import json
import os

from fuzz_folders import form
from fuzz_rules import REFUSED, Target, compared
from hypothesis import strategies as st

paths = st.sampled_from(
    ["a.png", "b.png", "./a.png", "x/a.png", "x/../b.png", "x, y.png", '"q".png']
)
words = st.one_of(
    st.sampled_from(
        ["dog", "cat", "Dog", "é", "e\u0301", "a b", "a  b", "a,b", 'a "b"', "1", "01"]
    ),
    st.sampled_from(["", " ", "a/b", ".", "..", " dog", "x\ny", "\u2028"]),
)
classes, domains = (st.one_of(st.sampled_from(own), words) for own in (["dog", "cat"], ["x", "y"]))
# What happens to a text that was right, and whether it is right after that.
SPOILT = {
    **dict.fromkeys(
        ("nothing", "mark", "blank lines", "columns in another order", "a column more"), True
    ),
    **dict.fromkeys(("a column less", "a value less", "UTF-16", "cut short"), False),
}


@st.composite
def manifests(draw):
    """Draw [kind, rows (path, class, domain), what happens to the text]."""
    kind = draw(st.sampled_from(["csv", "tsv", "jsonl"]))
    if draw(st.booleans()):  # whole: every domain has every class
        names = [
            draw(st.lists(part, min_size=1, max_size=3, unique=True)) for part in (classes, domains)
        ]
        rows = [
            [f"{draw(paths)}{i}{j}", c, d]
            for i, c in enumerate(names[0])
            for j, d in enumerate(names[1])
        ]
        rows = draw(st.permutations(rows))
    else:
        rows = [list(row) for row in draw(st.lists(st.tuples(paths, classes, domains), max_size=5))]
    return [kind, rows, draw(st.sampled_from(["nothing"] * 6 + sorted(SPOILT)))]


def meant(rows, folder):
    """Return (classes, {domain: ([path], [label])}) of the rows of a manifest, or REFUSED."""
    rows = [
        (os.path.normpath(os.path.join(folder, p)), p, *map(str.strip, names)) for p, *names in rows
    ]
    rows = [(place, p, form(c), form(d)) for place, p, c, d in rows]
    if not rows or len({row[0] for row in rows}) < len(rows):
        return REFUSED
    found = []
    for column in (2, 3):
        names = {row[column] for row in rows}
        if "" in names or len({" ".join(name.casefold().split()) for name in names}) < len(names):
            return REFUSED
        found.append(sorted(names))
    if any("/" in d or d in (".", "..") for d in found[1]):
        return REFUSED
    if {row[2:] for row in rows} != {(c, d) for c in found[0] for d in found[1]}:
        return REFUSED
    label = found[0].index
    result = {}
    for domain in found[1]:
        own = [row for row in rows if row[3] == domain]
        own.sort(key=lambda row: (label(row[2]), *os.path.split(row[0])))
        result[domain] = ([row[0] for row in own], [label(row[2]) for row in own])
    return found[0], result


def text_of(kind, rows, spoilt):
    """Return the bytes of a manifest."""
    columns = ["path", "class", "domain"]
    table = [dict(zip(columns, row)) for row in rows]
    if spoilt == "columns in another order":
        columns = columns[::-1]
    if spoilt == "a column more":
        columns = [*columns, "note"]
        table = [{**row, "note": "n"} for row in table]
    if spoilt == "a column less":
        columns = columns[:2]
    listed = [[row[name] for name in columns] for row in table]
    if spoilt == "a value less":
        listed[-1] = listed[-1][:-1]
    if kind == "jsonl":
        lines = [json.dumps(dict(zip(columns, values))) for values in listed]
        text = "".join(f"{line}\n" for line in lines)
    else:
        out = io.StringIO()
        csv.writer(out, delimiter="\t" if kind == "tsv" else ",").writerows([columns, *listed])
        text = out.getvalue()
    if spoilt == "blank lines":
        text = text.rstrip("\r\n") + "\n\n\n"
    if spoilt == "cut short":
        text = text.rstrip()[:-1] if kind == "jsonl" else text + '"x'
    if spoilt == "mark":
        return text.encode("utf-8-sig")
    return text.encode("utf-16" if spoilt == "UTF-16" else "utf-8")


def check_manifest(value, folder):
    """A manifest."""
    from domainbed_carft.data.forms import kinds, reading

    kind, rows, spoilt = value
    if not rows and spoilt in ("a value less", "cut short", "a column less"):
        spoilt = "nothing"
    path = os.path.join(folder, f"images.{kind}")
    with open(path, "wb") as file:
        file.write(text_of(kind, rows, spoilt))
    return compared(
        lambda: reading.arranged(kinds.reader(path)()),
        meant(rows, folder) if SPOILT[spoilt] else REFUSED,
    )


TARGETS = [Target("manifests", manifests(), check_manifest)]
