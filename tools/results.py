"""Write a folder of results/ from finished sweeps, the index of results/, and README's table.

    python tools/results.py --output results/DATE_COMMIT --main SWEEP --steps SWEEP \\
        --hparams SWEEP --real_host SWEEP --baselines FOLDER --carft_plus FOLDER \\
        --ablations FOLDER ... --commit HASH --machine "in words"

The sweeps must be those of sweeps/*.sh. Tables are computed from the packed records, and checked by
tests/test_results.py. In an existing folder, the given parts are replaced or added, and the others
are kept. Without arguments, only the index and README's table are updated.
"""

import argparse
import collections
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from domainbed_carft import register
from domainbed_carft.base.stats import interval_text, mean_text
from domainbed_carft.records import accuracies, packed, scan, soundness
from domainbed_carft.records.rows import ordered
from domainbed_carft.reports import alpha_plots, tables

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "sweeps"))

import compare

ENVIRONMENTS = ("scan", "print", "sign", "sketch")  # of DigitStyles
# The scripts in sweeps/ whose output is a sweep, or a folder of sweeps
PARTS = {part: f"digitstyles_{part}.sh" for part in ("main", "steps", "hparams", "real_host")}
PARTS["letters"] = "letterstyles_main.sh"
PARTS["letters_hparams"] = "letterstyles_hparams.sh"
PARTS["equal_distance"] = "equal_distance.sh"
# The strengths of a method are not draws to select from, and not all test domains were run
WITHOUT_TABLES = ("equal_distance", "trained")
COMPARED = {
    "baselines": "digitstyles_baselines.sh",
    "carft_plus": "digitstyles_carft_plus.sh",
    "letters_baselines": "letterstyles_baselines.sh",
    "trained": "trained.sh",
}
CONFIRMATION = [3, 4, 5, 6, 7]  # trials of digitstyles_carft_plus.sh that its search does not use
PACKAGES = ("torch", "torchvision", "numpy", "clip-anytorch", "open_clip_torch", "pandas")
RECORDS = f"records{packed.SUFFIX}"  # for a part with one sweep; otherwise records/SWEEP.jsonl
IN_README = ("main", "letters")  # parts whose table is in the project's README


def versus(sweep, rule="training"):
    """Return a sweep's table of accuracies by test domain, and differences from CLIP_ERM.

    Accuracies are mean ± DomainBed's standard error over trials, in per cent. The difference is
    that of the average, in percentage points, paired by trial, with Student's 95 % interval. With
    the rule "training", "source validation" is the accuracy on held-out images of training domains.
    """
    cells = accuracies.accuracies(sweep.records, rule)
    (dataset,) = {record["args"]["dataset"] for record in sweep.records}
    environments = register.known_datasets()[dataset][0]
    averages, rows = {}, []
    for name in map(str, ordered(sweep.rows[text] for text in cells.algorithm.unique())):
        part = cells[cells.algorithm == name]
        averages[name] = accuracies.by_trial(part, range(len(environments)))
        row = {"algorithm": name, "n": len(averages[name])}
        if rule == "training":
            validation = accuracies.by_trial(part, range(len(environments)), "validation")
            row["source validation"] = mean_text(validation)
        for env, label in enumerate(environments):
            row[label] = mean_text(100 * part[part.test_env == env].accuracy)
        rows.append({**row, "average": mean_text(averages[name])})
    for row in rows:
        change = (averages[row["algorithm"]] - averages["CLIP_ERM"]).dropna()
        text = "" if row["algorithm"] == "CLIP_ERM" else interval_text(change)
        row["− CLIP_ERM [95 % interval]"] = text
    return pd.DataFrame(rows)


def read(sweep):
    """Return the Sweep of a folder or a packed file. Exit if none of its runs counts."""
    return soundness.load(sweep, register.known_datasets())


def load(sweep):
    """Return the records that count, of a folder or a packed file."""
    return read(sweep).records


def records_of(part):
    """Return the packed files of a part."""
    whole = Path(part, RECORDS)
    return [whole] if whole.exists() else sorted(Path(part, "records").glob(f"*{packed.SUFFIX}"))


def pack_records(sweep, file):
    """Pack the records of finished runs into a file, and return the number of runs.

    Raises:
        SystemExit: a run is not done, or there are no runs.
    """
    for records in sorted(Path(sweep).glob("*/results.jsonl")):
        if not (records.parent / "done").exists():
            raise SystemExit(f"{records.parent} is not done: launch the sweep again")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        return packed.pack(sweep, file)
    except ValueError as error:
        raise SystemExit(str(error)) from None


def collect(file):
    """Return the output of collect_results for the runs of a packed file."""
    command = [sys.executable, "-m", "domainbed_carft.collect_results", "--input_dir", "records"]
    environment = {**os.environ, "DOMAINBED_CARFT_HOST": "embedded", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as scratch:
        packed.unpack(file, Path(scratch, "records"))
        done = subprocess.run(
            command, cwd=scratch, env=environment, check=True, capture_output=True, text=True
        )
    return done.stdout


def add_sweep(sweep, folder):
    """Pack a sweep's records, write its tables, copy its probe, and return the number of runs."""
    n = pack_records(sweep, folder / RECORDS)
    if folder.name not in WITHOUT_TABLES:
        make_tables(folder)
    probe = Path(sweep, "probe")
    if probe.is_dir():
        shutil.copytree(probe, folder / "probe")
    return n


def make_tables(folder):
    """Write tables.txt (the output of collect_results) and versus_RULE.* of rules with results."""
    Path(folder, "tables.txt").write_text(collect(Path(folder, RECORDS)), encoding="utf-8")
    make_versus(Path(folder, RECORDS), folder)


def make_versus(records, folder):
    """Write versus_RULE.* of rules with results."""
    sweep = read(records)
    for rule in accuracies.RULES:
        if len(accuracies.accuracies(sweep.records, rule)):
            tables.save(versus(sweep, rule), folder, f"versus_{rule}")


def add_settings(source, folder):
    """Pack the records of all sweeps in a folder, and return the number of runs."""
    settings = {path.parents[1] for path in Path(source).glob("*/*/results.jsonl")}
    places = {s: folder / "records" / f"{s.name}{packed.SUFFIX}" for s in sorted(settings)}
    return sum(pack_records(s, file) for s, file in places.items())


def add_ablation(source, folder):
    """Pack the records of an ablation, copy its tables, and return the number of runs."""
    n = add_settings(source, folder)
    for file in [*Path(source).glob("table.*"), *Path(source).glob("*.png")]:
        shutil.copy(file, folder)
    return n


def make_comparisons(folder):
    """Write the tables of a part in COMPARED from its records."""
    sweeps = records_of(folder)
    main = next(sweep for sweep in sweeps if sweep.stem == "main")
    if folder.name != "carft_plus":
        register.register()  # modules that open runs import the host
        from domainbed_carft.analysis import interpolation

        compare.save(compare.collect(sweeps, None), "CLIP_ERM", folder, "compare")
        if folder.name not in WITHOUT_TABLES:
            make_versus(main, folder)
        found = [r for job in read(main).sound if job.row.wise for r in job.records]
        if found:
            curves = interpolation.table(found)
            Path(folder, "wise_ft.csv").write_text(curves.to_csv(index=False))
            alpha_plots.plot(curves, folder / "wise_ft.png")
        return
    trials = {sweep: {r["args"]["trial_seed"] for r in load(sweep)} for sweep in sweeps}
    searched = compare.collect(sweeps, range(CONFIRMATION[0]))
    compare.save(searched, "CARFT", folder, "search")
    chosen = [sweep for sweep in sweeps if trials[sweep] >= set(CONFIRMATION)]
    if len(chosen) > 1:  # main and the variant, if it has been confirmed
        compare.save(compare.collect(chosen, CONFIRMATION), "CARFT", folder, "confirm")


def index():
    """Return the text of results/README.md, from the provenance.json of all folders."""
    lines = [
        "# Results",
        "",
        "Written by `python tools/results.py`. A folder is named after the date and the commit of",
        "its first part. The column has the commits of the other parts.",
        "[What DigitStyles and LetterStyles show](../docs/findings.md) summarizes the results.",
        "",
        "| folder | part | question | command | commit | runs | n |",
        "|---|---|---|---|---|---|---|",
    ]
    for file in sorted(ROOT.glob("results/*/provenance.json")):
        for part, about in json.loads(file.read_text())["parts"].items():
            where = f"{file.parent.name}/{part}"
            jobs = [job for one in records_of(file.parent / part) for job in scan.scan(one).jobs]
            made = collections.Counter(job.row.suffix for job in jobs if job.row.suffix)
            runs = about["runs"] - made.total()
            runs = ", and ".join([str(runs), *(f"{n} of {kind}" for kind, n in made.items())])
            lines.append(
                f"| {file.parent.name} | [{part}]({where}) | {about['question']} | "
                f"`{about['command']}` | {about['commit']} | {runs} | {about['n']} |"
            )
    lines += [
        "",
        "`records.jsonl` has the records of a sweep. `records/` has one such file for each of",
        "several sweeps. The commands of this package read them like the folder of a sweep:",
        "`carft report --input_dir FILE --output_dir report`. DomainBed's own `collect_results`",
        "needs run folders. `python tools/records.py unpack FILE FOLDER` restores them byte for",
        "byte.",
        "",
        "| file | content |",
        "|---|---|",
        "| `provenance.json` | versions, machine and seeds |",
        "| `tables.txt` | output of `collect_results` |",
        "| `versus_RULE.*` | accuracies under one selection rule (`training`-domain validation, "
        "`leave-one-out`, `oracle`), with paired differences from CLIP_ERM |",
        "| `table.*` | an ablation |",
        "| `compare.*`, `search.*`, `confirm.*` | several sweeps "
        "([columns](../docs/how_to_read_the_numbers.md#several-sweeps-in-one-table)) |",
        "| `probe/` | output of `carft probe` |",
        "",
        "± is DomainBed's standard error over trials. Intervals are Student's 95 % intervals over",
        "trials.",
        "",
        "[published.csv](published.csv) (DomainBed's data sets) and",
        "[published_imagenet.csv](published_imagenet.csv) (ImageNet and five shifts) have",
        "published results with their sources, which `carft leaderboard` shows. They are links",
        "to files in the package.",
    ]
    return "\n".join(lines) + "\n"


def newest(part="main"):
    """Return the folder of results/ with a part that was finished last."""
    folders = [file.parent for file in ROOT.glob("results/*/provenance.json")]
    return max(
        (f for f in folders if (f / part).is_dir()),
        key=lambda f: json.loads((f / "provenance.json").read_text())["finished"],
    )


def with_tables(readme):
    """Return README.md with the newest tables between their markers."""
    for part in IN_README:
        start, end = (
            f"<!-- {part} table, by tools/results.py -->\n",
            f"<!-- end of {part} table -->\n",
        )
        before, _, rest = readme.partition(start)
        _, _, after = rest.partition(end)
        table = (newest(part) / part / "versus_training.md").read_text()
        readme = f"{before}{start}{table}{end}{after}"
    return readme


def question(script):
    """Return the question in the header of a script in sweeps/."""
    header = Path(ROOT, "sweeps", script).read_text()
    found = re.search(r"^# Question: (.+?)(?=^# Cost)", header, re.M | re.S)[1]
    return re.sub(r"\s*\n#\s*", " ", found).strip()


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder to write, results/DATE_COMMIT")
    for part, script in {**PARTS, **COMPARED}.items():
        parser.add_argument(f"--{part}", help=f"sweep of {script}")
    parser.add_argument("--ablations", nargs="*", default=[], help="outputs of ablation_*.sh")
    parser.add_argument(
        "--commit", help="commit of all parts but --main (default: that in the name of --output)"
    )
    parser.add_argument(
        "--command", help="command that was run (default: the script with TRIALS=n)"
    )
    parser.add_argument("--machine", help="description of the machine")
    args = parser.parse_args()
    if args.output:
        if not args.machine:
            parser.error("--machine is needed: cores, processor, memory, GPU, other load")
        if args.command and len(given(args)) != 1:
            parser.error("--command needs exactly one part")
        write(args)
    (ROOT / "results" / "README.md").write_text(index())
    readme = ROOT / "README.md"
    readme.write_text(with_tables(readme.read_text()))


def make_part(part, sweep, folder):
    """Write the folder of a part, and return (number of runs, script, records)."""
    if part in PARTS:
        runs = add_sweep(sweep, folder)
        return runs, PARTS[part], load(folder / RECORDS)
    if part in COMPARED:
        runs, script = add_settings(sweep, folder), COMPARED[part]
        make_comparisons(folder)
        for file in sorted(Path(sweep, "main", "probe").glob("alignment*")):  # one strength each
            (folder / "probe").mkdir(exist_ok=True)
            shutil.copy(file, folder / "probe")
    else:
        runs, script = add_ablation(sweep, folder), f"{part}.sh"
    return runs, script, [record for file in records_of(folder) for record in load(file)]


def given(args):
    """Return {part: path of its sweep or folder of sweeps} of the given parts."""
    named = {part: getattr(args, part) for part in [*PARTS, *COMPARED]}
    found = {part: Path(path) for part, path in named.items() if path}
    return found | {source.name: source for source in map(Path, args.ablations)}


def write(args):
    """Write the folder, or replace parts of it."""
    args.output.mkdir(parents=True, exist_ok=True)
    file = args.output / "provenance.json"
    provenance = json.loads(file.read_text()) if file.exists() else {"finished": 0, "parts": {}}
    commit = args.output.name.partition("_")[2]
    sweeps = given(args)
    for part, sweep in sweeps.items():
        with tempfile.TemporaryDirectory(dir=args.output) as scratch:
            runs, script, found = make_part(part, sweep, Path(scratch, part))
            shutil.rmtree(args.output / part, ignore_errors=True)  # after the new one is complete
            Path(scratch, part).rename(args.output / part)
        seeds = {record["args"]["trial_seed"] for record in found}
        n = len(seeds)
        if part == "carft_plus" and seeds >= set(CONFIRMATION):
            n = f"{n - len(CONFIRMATION)} in the search, {len(CONFIRMATION)} in its confirmation"
        provenance["parts"][part] = {
            "runs": runs,
            "n": n,
            "commit": commit if part == "main" else args.commit or commit,
            "question": question(script),
            "command": args.command or _command(script, n),
            "machine": args.machine,
            "versions": {"python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in PACKAGES},
        }
    done = [done for sweep in sweeps.values() for done in sweep.rglob("done")]
    provenance |= {
        "commit": commit,
        "finished": max(provenance["finished"], *(int(d.stat().st_mtime) for d in done)),
        "seeds": "trial_seed 0 to n − 1; each run's own seed is in its records",
    }
    file.write_text(json.dumps(provenance, indent=2, ensure_ascii=False) + "\n")


def _command(script, n):
    takes_trials = "TRIALS" in Path(ROOT, "sweeps", script).read_text() or "ablation" in script
    return f"TRIALS={n} sweeps/{script}" if takes_trials else f"sweeps/{script}"


if __name__ == "__main__":
    main()
