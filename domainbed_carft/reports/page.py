"""Report of a sweep: tables and plots as files, and a self-contained HTML page."""

import base64
import os

import jinja2
import pandas as pd

from .. import __version__
from ..base import files
from ..base.assets import ASSETS
from ..base.folders import counted
from ..records import gaps, provenance
from ..records.sweep import grouped
from . import hparams_tables, sweep_plots
from .results import TITLES, Table, result_tables, summarise

TEMPLATE = ASSETS / "report.html.j2"
FILL = "To run them, enter these commands where the sweep was started:"


def write(sweep, known, output, baseline=None):
    """Write the report of a sweep, and return its text.

    Args:
        sweep: a records.sweep.Sweep.
        known: {data set: (names of its environments, steps)} of the host.
        output: folder for report.txt, report.html, tables/ and plots/.
        baseline: label of the row that the others are compared with; see results.pairs.
    """
    names = dict.fromkeys(job.args["dataset"] for job in sweep.jobs if job.args)
    names = [*(name for name in known if name in names), *(n for n in names if n not in known)]
    lacking = gaps.lacks(sweep, known)
    datasets = {name: gaps.environments(sweep, name, known) for name in names}
    summary = summarise(sweep, datasets, known, lacking)
    alphas, wrong = sweep_plots.read_alphas(sweep.path)
    results = result_tables(summary, baseline)
    behind = [hparams_tables.chosen_table(summary, sweep), hparams_tables.knobs_table(sweep)]
    asked = dict.fromkeys(lack.args["dataset"] for lack in lacking)
    everywhere = {name: gaps.environments(sweep, name, known) for name in [*names, *asked]}
    missing = hparams_tables.missing_table(lacking, everywhere)
    origin = origin_table(sweep)
    tables = [table for table in (*results, *behind, missing, origin) if len(table.frame)]
    for table in tables:
        table.save(os.path.join(output, "tables"))
    plots = sweep_plots.draw(sweep, summary, alphas, os.path.join(output, "plots"))

    warnings = [*grouped([*sweep.problems, *wrong]), *provenance.mixed(sweep.sound)]
    warnings += sweep.other_domains
    if lacking:
        what = counted(len(lacking), "run is missing or does", "runs are missing or do")
        warnings.insert(0, f"{what} not count: see the last table")
    facts = (
        f"{len(sweep.records)} records of {len(sweep.sound)} runs count, of {len(sweep.jobs)} in "
        f"{sweep.path}. domainbed_carft {__version__}."
    )
    commands = gaps.commands(sweep, lacking)
    text = [facts, *(f"WARNING: {warning}" for warning in warnings)]
    for table in tables:
        if table not in behind:
            text += ["", f"-------- {table.title}", table.render("txt").rstrip("\n")]
            text += [table.note] if table.note else []
    text += ["", FILL] if commands else []
    text = "\n".join([*text, *commands]) + "\n"
    files.write(os.path.join(output, "report.txt"), text)

    sections = [{"id": "plots", "title": "Plots", "plots": [_inline(plot) for plot in plots]}]
    for rule, title in TITLES.items():
        own = [table for table in results if table.rule == rule]
        sections.append({"id": rule, "title": title.capitalize(), "tables": own})
    sections += [
        {"id": "chosen", "title": "Hparams", "tables": [t for t in behind if len(t.frame)]},
        {"id": "provenance", "title": "Provenance", "tables": [origin]},
    ]
    if lacking:
        sections += [
            {"id": "missing", "title": "Missing", "tables": [missing], "commands": commands}
        ]
    title = f"Report on {sweep.name}"
    page = render(title=title, facts=facts, warnings=warnings, sections=sections, fill=FILL)
    files.write(os.path.join(output, "report.html"), page)
    return text


def origin_table(sweep):
    """Return a Table of the provenance of the runs that count."""
    rows = provenance.table(sweep.sound)
    frame = pd.DataFrame(rows, columns=["what", "value", "runs"])
    note = "" if rows else "No run has a provenance.json or an out.txt."
    return Table("provenance", "Provenance of the runs that count", frame, frame, note)


def render(**values):
    """Return the HTML page. All values are escaped."""
    with open(TEMPLATE, encoding="utf-8") as file:
        settings = {"autoescape": True, "undefined": jinja2.ChainableUndefined}
        return jinja2.Environment(**settings).from_string(file.read()).render(**values)


def _inline(plot):
    with open(plot.path, "rb") as file:
        content = file.read()
    width = int.from_bytes(content[16:20], "big")  # PNG header: width in pixels, at 150 dpi
    encoded = base64.b64encode(content).decode("ascii")
    return {"title": plot.title, "text": plot.text, "base64": encoded, "width": width * 96 // 150}
