"""Try descendants of DomainBed that lie in a folder, with this package and without it.

    python tools/hosts.py FOLDER --results hosts.jsonl --output docs/hosts.md

Fetches nothing: FOLDER holds checkouts, one folder each, and stays as it is. Each command runs in a
process of its own, one after the other, on a few images. What has been tried is kept in --results
and not tried again; --output gets the table. With --forked, the processes are forked from one that
has torch imported, and load their images themselves: the same commands in a tenth of the time.
"""

import argparse
import contextlib
import importlib
import inspect
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

KNOBS = '{"batch_size": 4}'
ERM = f"--algorithm ERM --dataset Debug28 --test_envs 0 --steps 2 --hparams '{KNOBS}'"
OUR_KNOBS = '{"batch_size": 4, "clip_backbone": "embedded"}'
OURS = f"--algorithm CARFT --dataset Tiny --test_envs 0 --steps 2 --hparams '{OUR_KNOBS}'"
SWEEP = (
    "launch --algorithms CARFT --datasets Tiny --n_hparams 1 --n_trials 1 --steps 1 "
    f"--single_test_envs --command_launcher local --skip_confirmation --hparams '{OUR_KNOBS}'"
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
    parser.add_argument("--results", type=Path, required=True, help="JSON lines, added to")
    parser.add_argument("--output", type=Path, help="the table, Markdown")
    parser.add_argument("--steps", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--only", nargs="+", default=[], help="names of folders")
    parser.add_argument("--timeout", type=int, default=240, help="seconds a command")
    parser.add_argument("--forked", action="store_true", help="do not start Python anew each time")
    args = parser.parse_args()
    start = fork if args.forked else spawn
    if args.forked:
        import_what_all_import()
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
                found[step] = attempt(root, step, args.timeout, found, start)
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


def attempt(root, step, timeout, found, start):
    """Run a step in a host; return {works, says, seconds of CPU, records and what followed}."""
    with tempfile.TemporaryDirectory(prefix="hosts-") as scratch:
        out = Path(scratch) / "out"
        if step == "tables":
            unpack(found["sweep"]["jobs"], out)
        command = COMMANDS[step].replace("OUT", str(out))
        done, cpu = run(command, root, step, timeout, scratch, start)
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


def run(command, root, step, timeout, scratch, start):
    """Return (finished process or None, seconds of CPU of it and its children)."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DOMAINBED_CARFT")}
    environment = {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "WANDB_MODE": "disabled",
        "DOMAINBED_CARFT_DATASETS": str(tiny(Path(scratch))),
        "DOMAINBED_CARFT_CACHE": os.path.join(tempfile.gettempdir(), "hosts-cache"),
    }
    if step == "erm_without":
        environment["DOMAINBED_CARFT_AUTOLOAD"] = "0"
    copy = Path(scratch) / "host"  # some write where they run
    shutil.copytree(
        root, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", "*.png", "*.pdf", "*.jpg")
    )
    before = cpu_of_children()
    with open(f"{scratch}/stdout", "w+") as out, open(f"{scratch}/stderr", "w+") as err:
        pid = start(command, copy, environment, out, err)
        code = wait(pid, timeout)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    done = None if code is None else subprocess.CompletedProcess(command, code, *texts)
    return done, cpu_of_children() - before


def tiny(scratch):
    """Lay out a folder Tiny/DOMAIN/CLASS/IMAGE; return its path."""
    from PIL import Image

    for d, domain in enumerate(("paint", "photo", "sketch")):
        for c, name in enumerate(("one", "two")):
            folder = scratch / "Tiny" / domain / name
            folder.mkdir(parents=True)
            for i in range(6):
                Image.new("RGB", (32, 32), (200 * c + i, 60 * d, 128)).save(folder / f"{i}.png")
    return scratch / "Tiny"


def wait(pid, timeout):
    """Return the exit code of a child; None where it had to be killed, with its group."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.killpg(pid, 9)
    os.waitpid(pid, 0)
    return None


def spawn(command, folder, environment, out, err):
    """Start a command as a shell does; return its process's number."""
    return subprocess.Popen(
        shlex.split(command),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
    ).pid


def import_what_all_import():
    """Import what hosts import, and have loaders start no processes."""
    for name in ("torch", "torchvision.models", "torchvision.datasets", "wilds", "timm", "clip"):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    import torch.utils.data

    init = torch.utils.data.DataLoader.__init__

    def in_this_process(self, *args, **kwargs):
        given = inspect.signature(init).bind(self, *args, **kwargs).arguments
        given = {**given, "num_workers": 0, "persistent_workers": False, "prefetch_factor": None}
        init(**given)

    torch.utils.data.DataLoader.__init__ = in_this_process


def fork(command, folder, environment, out, err):
    """Run `python -m MODULE ...` in a fork of this process; return its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for file, number in ((out, 1), (err, 2)):  # of what it starts, too
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = out, err
        if environment.get("DOMAINBED_CARFT_AUTOLOAD") == "0":
            sys.meta_path[:] = [f for f in sys.meta_path if "domainbed_carft" not in repr(f)]
        _, _, module, *sys.argv[1:] = shlex.split(command)
        sys.path[0] = str(folder)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


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
    if step == "sweep" and len(result["jobs"]) != 3:
        return f"{len(result['jobs'])} of 3 jobs left records; {reason(done)}"
    if step == "tables" and "CARFT" not in done.stdout:
        return "CARFT is not in the tables"
    return ""


def reason(done):
    """Return the last line that a failed command printed, shortened."""
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines()]
    lines = [line for line in lines if line and "warn" not in line.lower()]
    problems = [line for line in lines if line.startswith("PROBLEM: ")]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
    last = (problems or raised or lines or ["nothing printed"])[-1].removeprefix("PROBLEM: ")
    for folder in (str(Path.home()), tempfile.gettempdir()):
        last = last.replace(folder, "…")
    last = re.sub(r"…/hosts-\w+/(host/)?", "", last)
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
        "The commands ran in processes forked from one that had torch imported and loaded images "
        "itself, so the seconds of CPU are without Python's start; what our hooks import is in the "
        "second number.",
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
