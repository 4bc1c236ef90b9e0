"""Try descendants of DomainBed that lie in a folder, with this package and without it.

    python tools/hosts.py FOLDER --results hosts.jsonl --output docs/hosts.md

Fetches nothing: FOLDER holds checkouts, one folder each, and stays as it is. Each command runs in a
process of its own, one after the other, on a few images. What has been tried is kept in --results
and not tried again; --output gets the table.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KNOBS = '{"batch_size": 4}'
ERM = f"--algorithm ERM --dataset Debug28 --test_envs 0 --steps 2 --hparams '{KNOBS}'"
OURS = f"--algorithm CARFT --dataset DigitStyles --test_envs 0 --steps 2 --hparams '{KNOBS}'"
SWEEP = (
    "launch --algorithms CARFT --datasets DigitStyles --n_hparams 1 --n_trials 1 --steps 1 "
    f"--single_test_envs --command_launcher local --skip_confirmation --hparams '{KNOBS}'"
)
COMMANDS = {
    "erm_without": f"python -m domainbed.scripts.train {ERM} --data_dir none --output_dir OUT",
    "erm_with": f"python -m domainbed.scripts.train {ERM} --data_dir none --output_dir OUT",
    "doctor": "python -m domainbed_carft.doctor",
    "typed": f"python -m domainbed.scripts.train {OURS} --data_dir none --output_dir OUT",
    "explicit": f"python -m domainbed_carft.train {OURS} --data_dir none --output_dir OUT",
    "sweep": f"python -m domainbed.scripts.sweep {SWEEP} --data_dir none --output_dir OUT",
    "tables": "python -m domainbed_carft.collect_results --input_dir OUT",
}
NEEDS = {"tables": "sweep", "sweep": "typed", "explicit": "typed", "erm_with": "erm_without"}
NOT_NUMBERS = ("args", "step_time", "mem_gb")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds the checkouts")
    parser.add_argument(
        "--results", type=Path, required=True, help="JSON lines; read, and added to"
    )
    parser.add_argument("--output", type=Path, help="the table, Markdown")
    parser.add_argument("--steps", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--only", nargs="+", default=[], help="names of folders")
    parser.add_argument("--timeout", type=int, default=240, help="seconds a command")
    args = parser.parse_args()
    done = read(args.results)
    for checkout in sorted(path for path in args.folder.iterdir() if path.is_dir()):
        if args.only and checkout.name not in args.only:
            continue
        root = host_in(checkout)
        if root is None:
            continue
        found = done.setdefault(checkout.name, {"host": checkout.name, "commit": commit_of(root)})
        for step in args.steps:
            if step not in found and not waits(step, found):
                found[step] = attempt(root, step, args.timeout, found)
                print(checkout.name, step, found[step]["says"], flush=True)
                with open(args.results, "a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
    if args.output:
        args.output.write_text(table(done.values()), encoding="utf-8")


def read(path):
    """Return {host: what was found}, the last line of each."""
    if not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["host"]: line for line in lines}


def waits(step, found):
    """Say whether a step is not worth a try: the one that it follows did not work."""
    before = NEEDS.get(step)
    return before is not None and not found.get(before, {}).get("works")


def host_in(checkout):
    """Return the folder of a checkout that holds the package `domainbed`, or None."""
    for depth in ("", "*/", "*/*/"):
        for name in ("algorithms.py", "algorithms/__init__.py"):
            for path in sorted(checkout.glob(f"{depth}domainbed/{name}")):
                return next(parent for parent in path.parents if parent.name == "domainbed").parent
    return None


def commit_of(root):
    """Return the short commit of a checkout; of one without git, what its file .commit says."""
    for folder in (root, *root.parents):
        if (folder / ".commit").is_file():
            return (folder / ".commit").read_text().strip()
        if (folder / ".git").exists():
            command = ["git", "-C", str(folder), "log", "-1", "--format=%h"]
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return ""


def attempt(root, step, timeout, found):
    """Run a step in a host; return {works, says, seconds of CPU, records and what followed}."""
    with tempfile.TemporaryDirectory(prefix="hosts-") as scratch:
        out = Path(scratch) / "out"
        if step == "tables":
            unpack(found["sweep"]["jobs"], out)
        done, cpu = run(COMMANDS[step].replace("OUT", str(out)), root, step, timeout, scratch)
        result = {"cpu": round(cpu, 1)}
        if step == "sweep":
            result["jobs"] = {
                path.parent.name: path.read_text() for path in out.glob("*/results.jsonl")
            }
        records = read_records(out / "results.jsonl")
        result["numbers"] = records
        wrong = judge(step, done, records, result, found)
        return {**result, "works": not wrong, "says": wrong or "works"}


def unpack(jobs, out):
    """Lay out a sweep's folders as they were."""
    for name, text in jobs.items():
        (out / name).mkdir(parents=True)
        (out / name / "results.jsonl").write_text(text)
        (out / name / "done").write_text("done")


def run(command, root, step, timeout, scratch):
    """Return (finished process or None, seconds of CPU of it and its children)."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DOMAINBED_CARFT")}
    environment = {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "WANDB_MODE": "disabled",
        "DOMAINBED_CARFT_CACHE": os.path.join(scratch, "cache"),
    }
    if step == "erm_without":
        environment["DOMAINBED_CARFT_AUTOLOAD"] = "0"
    copy = Path(scratch) / "host"  # some write where they run
    shutil.copytree(
        root, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", "*.png", "*.pdf", "*.jpg")
    )
    before = cpu_of_children()
    try:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        out, err = process.communicate(timeout=timeout)
        done = subprocess.CompletedProcess(command, process.returncode, out, err)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        done = None
    return done, cpu_of_children() - before


def cpu_of_children():
    times = os.times()
    return times.children_user + times.children_system


def read_records(path):
    """Return the records of a run without what differs from one run to the next."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            return []
        records.append({k: v for k, v in record.items() if k not in NOT_NUMBERS})
    return records


def judge(step, done, records, result, found):
    """Return what is wrong with a step in one sentence, or an empty string."""
    if done is None:
        return "did not end in time"
    if done.returncode:
        return reason(done)
    if step in ("erm_without", "erm_with", "typed", "explicit") and not records:
        return "ended without records in --output_dir"
    if step == "erm_with" and records != found["erm_without"]["numbers"]:
        names = {*records[0], *found["erm_without"]["numbers"][0]}
        differ = [
            name
            for name in sorted(names)
            if records[-1].get(name) != found["erm_without"]["numbers"][-1].get(name)
        ]
        return f"other numbers than without us: {', '.join(differ)}"
    if step == "explicit" and records != found["typed"]["numbers"]:
        return "other numbers than as typed"
    if step == "sweep" and len(result["jobs"]) != 4:
        return f"{len(result['jobs'])} of 4 jobs left records; {reason(done)}"
    if step == "tables" and "CARFT" not in done.stdout:
        return "CARFT is not in the tables"
    return ""


def reason(done):
    """Return the last line that a failed command printed, shortened."""
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines()]
    lines = [line for line in lines if line and "warn" not in line.lower()]
    problems = [line for line in lines if line.startswith("PROBLEM: ")]
    last = (problems or lines or ["nothing printed"])[-1].removeprefix("PROBLEM: ")
    for folder in (str(Path.home()), tempfile.gettempdir()):
        last = last.replace(folder, "…")
    return last if len(last) <= 200 else f"{last[:197]}..."


def table(found):
    """Return docs/hosts.md."""
    rows = sorted(found, key=lambda row: row["host"].lower())
    fork = {"erm_without": "own ERM", "erm_with": "own ERM, with us"}
    heads = {**fork, **{step: step for step in COMMANDS if step not in fork}}
    works = {step: sum(row.get(step, {}).get("works", False) for row in rows) for step in COMMANDS}
    runs = [row for row in rows if row.get("erm_without", {}).get("works")]
    lines = [
        "# Descendants of DomainBed",
        "",
        f"{len(rows)} public checkouts, tried by `tools/hosts.py` on {time.strftime('%Y-%m-%d')} "
        f"with Python {sys.version.split()[0]} and torch {torch_version()}, on a CPU.",
        f"{len(runs)} run their own ERM here without this package; {works['erm_with']} of them "
        "give the same numbers and the same hparams with it installed.",
        f"`--algorithm CARFT` as typed trains in {works['typed']}.",
        "",
        "What was run: " + "; ".join(f"**{heads[step]}** `{c}`" for step, c in COMMANDS.items()),
        "",
        "A step is left out (–) where the one before it did not work, or has not been tried.",
        "",
        "| host | commit | " + " | ".join(heads.values()) + " | CPU s of ERM, without and with |",
        "| --- | --- |" + " --- |" * (len(heads) + 1),
    ]
    notes = []
    for row in rows:
        cells = []
        for step in COMMANDS:
            result = row.get(step)
            if result is None:
                cells.append("–")
            elif result["works"]:
                cells.append("yes")
            else:
                if result["says"] not in notes:
                    notes.append(result["says"])
                cells.append(f"no [{notes.index(result['says']) + 1}]")
        times = [row[s]["cpu"] for s in fork if s in row]
        name = row["host"].replace("__", "/").partition("@")[0]
        cells = [name, f"`{row['commit']}`", *cells, ", ".join(f"{t:.1f}" for t in times)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "What the failures said:", ""]
    lines += [f"{i}. `{note}`" for i, note in enumerate(notes, 1)]
    return "\n".join(lines) + "\n"


def torch_version():
    import torch

    return torch.__version__


if __name__ == "__main__":
    main()
