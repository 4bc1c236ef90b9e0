"""Tables as aligned text, Markdown, LaTeX and CSV."""

import os

from ..base import files
from ..base.messages import unknown

FORMATS = ("txt", "md", "tex", "csv")


def render(frame, form):
    """Return a DataFrame as text in one of FORMATS, without its index.

    Numbers have one decimal, and missing cells are "X" as in DomainBed's tables. CSV has full
    precision and empty cells.

    Raises:
        ValueError: `form` is not in FORMATS.
    """
    if form == "csv":
        return frame.to_csv(index=False)
    if form not in FORMATS:
        raise ValueError(unknown("table format", form, FORMATS))
    cells = frame.map(_text)
    if form == "txt":
        return _aligned(frame, cells)
    if form == "md":
        escaped = cells.map(lambda text: text.replace("|", "\\|"))
        return escaped.to_markdown(index=False, disable_numparse=True) + "\n"
    latex = (
        cells.style.hide(axis="index")
        .format(escape="latex")
        .format_index(escape="latex", axis="columns")
        .to_latex(hrules=True)
    )
    return latex.replace("±", r"$\pm$")


def save(frame, folder, name, csv=None):
    """Write folder/name.txt, .md, .tex and .csv.

    Args:
        frame: the table, possibly with formatted cells.
        folder: created if needed.
        name: file name without its suffix.
        csv: the same table as plain numbers, for the CSV file (default: `frame`).
    """
    os.makedirs(folder, exist_ok=True)
    for form in FORMATS:
        source = csv if form == "csv" and csv is not None else frame
        files.write(os.path.join(folder, f"{name}.{form}"), render(source, form))


def _aligned(frame, cells):
    """Return cells in aligned columns, with numbers right-aligned and texts left-aligned."""
    lines = [[str(name) for name in cells.columns], *cells.values.tolist()]
    columns = []
    for (_, values), texts in zip(frame.items(), zip(*lines)):
        width = max(map(len, texts))
        numbers = values.map(lambda value: not isinstance(value, str)).all()
        columns.append([text.rjust(width) if numbers else text.ljust(width) for text in texts])
    return "".join("  ".join(row).rstrip() + "\n" for row in zip(*columns))


def _text(value):
    if value is None or value != value:
        return "X"
    if isinstance(value, float):
        text = f"{value:.1f}"
        return text.removeprefix("-") if float(text) == 0 else text  # "0.0" instead of "-0.0"
    return str(value)
