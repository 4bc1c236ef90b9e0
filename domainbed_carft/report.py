"""``python -m domainbed_carft.report``: a sweep's tables and plots, for people.

Reads sweeps of either host, finished or not; what does not count is named, with the command that
would fill the gap. Prints text, and writes below --output_dir: report.html, one file that needs no
other; report.txt; tables/ as text, Markdown, LaTeX and CSV; plots/.
"""

import argparse
import base64
import os

import pandas as pd

from . import __version__, atomic, details, grid, provenance, report_plots, soundness
from .names import unknown
from .records import grouped
from .register import known_datasets
from .summary import BASELINES, FEW, TITLES, Table, result_tables, summarise

TEMPLATE = os.path.join(os.path.dirname(__file__), "assets", "report.html.j2")


def main(argv=None):
    """Run the command."""
    parser = argparse.ArgumentParser(prog="report", description=__doc__)
    parser.add_argument("--input_dir", required=True, help="the folder of the runs' folders")
    parser.add_argument("--output_dir", help="default: report/ in --input_dir")
    parser.add_argument(
        "--baseline",
        help="the algorithm that the others are compared with; default: of up to "
        f"{FEW} algorithms every pair, else the first of {', '.join(BASELINES)} that is there",
    )
    args = parser.parse_args(argv)
    output = args.output_dir or os.path.join(args.input_dir, "report")
    try:
        known = known_datasets()
        sweep = soundness.read(args.input_dir, known)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    if not any(job.args for job in sweep.jobs):
        for problem in sweep.problems:
            print(problem)
        parser.error(
            f"no records in {args.input_dir}/*/results.jsonl: --input_dir is the folder that holds "
            "the folders of the runs"
        )
    names = sorted({job.args["algorithm"] for job in sweep.jobs if job.args})
    if args.baseline and args.baseline not in names:
        parser.error(f"--baseline: {unknown('algorithm', args.baseline, names)}")
    try:
        os.makedirs(output, exist_ok=True)
        text = write(sweep, known, output, args.baseline)
    except OSError as error:
        parser.error(f"{output} cannot be written ({error}); take another --output_dir")
    print(text)
    print(
        f"Written: {os.path.join(output, 'report.html')}, report.txt, tables/ (in text, "
        "Markdown, LaTeX, CSV; chosen hparams in chosen.*), plots/"
    )


def write(sweep, known, output, baseline=None):
    """Write the report of a records.Sweep; return its text."""
    names = dict.fromkeys(job.args["dataset"] for job in sweep.jobs if job.args)
    names = [*(name for name in known if name in names), *(n for n in names if n not in known)]
    lacking = grid.lacks(sweep, known)
    datasets = {name: grid.environments(sweep, name, known) for name in names}
    summary = summarise(sweep, datasets, known, lacking)
    alphas, wrong = report_plots.read_alphas(sweep.path)
    results = result_tables(summary, baseline)
    behind = [details.chosen_table(summary, sweep), details.knobs_table(sweep)]
    missing = details.missing_table(lacking, datasets)
    origin = origin_table(sweep)
    tables = [table for table in (*results, *behind, missing, origin) if len(table.frame)]
    for table in tables:
        table.save(os.path.join(output, "tables"))
    plots = report_plots.draw(sweep, summary, alphas, os.path.join(output, "plots"))

    warnings = [*grouped([*sweep.problems, *wrong]), *provenance.mixed(sweep.sound)]
    if lacking:
        warnings.insert(0, f"{len(lacking)} runs are missing or do not count: see the end")
    facts = (
        f"{len(sweep.records)} records of {len(sweep.sound)} runs count, of {len(sweep.jobs)} in "
        f"{sweep.path}. domainbed_carft {__version__}."
    )
    commands = grid.commands(sweep, lacking)
    text = [facts, *(f"WARNING: {warning}" for warning in warnings)]
    for table in tables:
        if table not in behind:
            text += ["", f"-------- {table.title}", table.render("txt").rstrip("\n")]
            text += [table.note] if table.note else []
    text += ["", "What would fill them, run where the sweep was started:"] if commands else []
    text = "\n".join([*text, *commands]) + "\n"
    atomic.write(os.path.join(output, "report.txt"), text)

    sections = [{"id": "plots", "title": "Plots", "plots": [_inline(plot) for plot in plots]}]
    for rule, title in TITLES.items():
        of = [table for table in results if table.title.endswith(title)]
        sections.append({"id": rule, "title": title.capitalize(), "tables": of})
    sections += [
        {"id": "chosen", "title": "Hparams", "tables": [t for t in behind if len(t.frame)]},
        {"id": "provenance", "title": "Provenance", "tables": [origin]},
    ]
    if lacking:
        sections += [
            {"id": "missing", "title": "Missing", "tables": [missing], "commands": commands}
        ]
    title = f"Report on {os.path.basename(os.path.abspath(sweep.path))}"
    page = render(title=title, facts=facts, warnings=warnings, sections=sections)
    atomic.write(os.path.join(output, "report.html"), page)
    return text


def origin_table(sweep):
    """Return where the runs that count come from."""
    rows = provenance.table(sweep.sound)
    frame = pd.DataFrame(rows, columns=["what", "value", "runs"])
    note = "" if rows else "No run has a provenance.json or an out.txt."
    return Table("provenance", "Where the runs that count come from", frame, frame, note)


def render(**values):
    """Return the page; every text is escaped."""
    import jinja2

    with open(TEMPLATE, encoding="utf-8") as file:
        settings = {"autoescape": True, "undefined": jinja2.ChainableUndefined}
        return jinja2.Environment(**settings).from_string(file.read()).render(**values)


def _inline(plot):
    with open(plot.path, "rb") as file:
        content = file.read()
    width = int.from_bytes(content[16:20], "big")  # of the PNG, in pixels at 150 to the inch
    encoded = base64.b64encode(content).decode("ascii")
    return {"title": plot.title, "text": plot.text, "base64": encoded, "width": width * 96 // 150}


if __name__ == "__main__":
    main()
