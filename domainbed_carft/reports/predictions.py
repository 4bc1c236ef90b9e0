"""Output of predictions: CSV, JSON lines, a table, and a page with pictures."""

import contextlib
import csv
import json
import os
from collections import Counter

import jinja2

from ..base import files
from ..base.assets import ASSETS

TEMPLATE = ASSETS / "predictions.html.j2"
FORMS = (".csv", ".jsonl")
PICTURES = 1000  # maximum number on a page


def top(probabilities, class_names, k):
    """Return the k most probable classes as [(name, probability)], sorted by probability."""
    values, places = probabilities.topk(k)
    return [(class_names[i], p) for i, p in zip(places.tolist(), values.tolist())]


def writing(path, top_k):
    """Return a context manager that yields a function write(row, top) for a file.

    The file is written atomically, on exit.

    Args:
        path: path of the file, with an extension in FORMS.
        top_k: number of classes per image.

    Raises:
        OSError: the file cannot be written.
    """
    return _csv(path, top_k) if path.endswith(".csv") else _json_lines(path)


@contextlib.contextmanager
def _csv(path, top_k):
    with files.writing(path, newline="") as file:
        table = csv.writer(file)
        ends = ["", *(f"_{i}" for i in range(2, top_k + 1))]
        names = [f"{name}{end}" for end in ends for name in ("label", "probability")]
        table.writerow(["path", *names, "note"])

        def write(row, best):
            cells = [cell for name, p in best for cell in (name, f"{p:.6g}")]
            cells += [""] * (2 * top_k - len(cells))
            table.writerow([row.path, *cells, row.error or row.note])

        yield write


@contextlib.contextmanager
def _json_lines(path):
    with files.writing(path) as file:

        def write(row, best):
            found = {"path": row.path}
            if best:
                found |= {"label": best[0][0], "probability": best[0][1]}
                found["top"] = [{"label": name, "probability": p} for name, p in best]
            if row.error or row.note:
                found["note"] = row.error or row.note
            file.write(json.dumps(found, ensure_ascii=False) + "\n")

        yield write


class Lines:
    """A table that is printed line by line.

    Args:
        paths: paths of all images, for the width of the first column.
        class_names: all class names, for the width of the other columns.
    """

    def __init__(self, paths, class_names):
        self.path = max(5, *(min(60, len(path)) for path in paths))
        self.name = max(map(len, class_names))

    def line(self, row, best):
        """Return the line of an image."""
        cells = [f"{name:<{self.name}} {100 * p:5.1f} %" for name, p in best]
        end = row.note and f"({row.note})"
        cells = cells or ["cannot be read"]
        return "  ".join([f"{row.path:<{self.path}}", *cells, end]).rstrip()


class Page:
    """A page of pictures, grouped by predicted class, with the least certain ones first."""

    def __init__(self):
        self.cards, self.counts, self.n = [], Counter(), 0

    def add(self, row, best):
        """Count an image, and add its picture if it has a thumbnail."""
        self.n += 1
        if best:
            self.counts[best[0][0]] += 1
        if row.thumbnail:
            name = os.path.basename(row.path)
            self.cards.append({"row": row, "name": name, "top": best, "label": best[0][0]})

    def write(self, path, title, facts, unreadable):
        """Write the page.

        Args:
            path: path of the HTML file.
            title: title of the page.
            facts: [(name, text)] about the run.
            unreadable: [(path, reason)] of files that could not be read.
        """
        most = max(self.counts.values(), default=1)
        groups = [
            {
                "label": label,
                "n": n,
                "share": 100 * n / most,
                "cards": sorted(
                    (card for card in self.cards if card["label"] == label),
                    key=lambda card: card["top"][0][1],
                ),
            }
            for label, n in self.counts.most_common()
        ]
        with open(TEMPLATE, encoding="utf-8") as file:
            template = jinja2.Environment(autoescape=True).from_string(file.read())
        values = {"title": title, "facts": facts, "groups": groups, "unreadable": unreadable}
        shown = {"n": self.n, "shown": len(self.cards), "read": sum(self.counts.values())}
        files.write(path, template.render(**values, **shown))


def counts(counter):
    """Return a text with the number of images of each class."""
    return ", ".join(f"{name} {n:,}" for name, n in counter.most_common())
