"""Try forks of DomainBed with and without this package.

    python tools/hosts.py FOLDER --results hosts.jsonl --output docs/hosts.md

FOLDER contains one checkout per subfolder. It is not modified, and nothing is downloaded. Commands
run one after the other, each in its own process, on a few images. Results are added to --results,
and commands with a result are not repeated. The table is written to --output. With --forked,
processes are forked from one that has imported torch, and use no data-loader workers. That is ten
times as fast.
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
    "launch --algorithms CARFT --datasets Tiny --n_hparams 1 --n_trials 1 --steps 2 "
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
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of checkouts")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines to append to")
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    parser.add_argument("--steps", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--only", nargs="+", default=[], help="names of checkouts")
    parser.add_argument("--timeout", type=int, default=240, help="seconds per command")
    parser.add_argument("--forked", action="store_true", help="fork instead of starting Python")
    args = parser.parse_args()
    start = fork if args.forked else spawn
    if args.forked:
        import_common_modules()
    done = read(args.results)
    ours = commit_of(Path(__file__).resolve().parents[1])
    for checkout in sorted(path for path in args.folder.iterdir() if path.is_dir()):
        if args.only and checkout.name not in args.only:
            continue
        root = host_in(checkout)
        if root is None:
            continue
        new = {"host": checkout.name, "commit": commit_of(root), "ours": ours}
        found = done.setdefault(checkout.name, new)
        for step in args.steps:
            if step not in found and not waits(step, found):
                found[step] = attempt(root, step, args.timeout, found, start)
                print(checkout.name, step, found[step]["says"], flush=True)
                with open(args.results, "a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
    if args.output:
        args.output.write_text(table(done.values()), encoding="utf-8")


def read(path):
    """Return {host: results}, from the last line of each host."""
    if not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["host"]: line for line in lines}


def waits(step, found):
    """Return whether a step must be skipped, since the step it needs did not work."""
    before = NEEDS.get(step)
    return before is not None and not found.get(before, {}).get("works")


def host_in(checkout):
    """Return the folder in a checkout that contains the package `domainbed`, or None."""
    for depth in ("", "*/", "*/*/"):
        for name in ("algorithms.py", "algorithms/__init__.py"):
            for path in sorted(checkout.glob(f"{depth}domainbed/{name}")):
                return next(parent for parent in path.parents if parent.name == "domainbed").parent
    return None


def commit_of(root):
    """Return the short commit of a checkout, from its file .commit or from git."""
    for folder in (root, *root.parents):
        if (folder / ".commit").is_file():
            return (folder / ".commit").read_text().strip()
        if (folder / ".git").exists():
            command = ["git", "-C", str(folder), "log", "-1", "--format=%h"]
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return ""


def attempt(root, step, timeout, found, start):
    """Run a step in a host, and return its result: works, says, cpu in seconds, records, jobs."""
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
    """Restore the run folders of a sweep."""
    for name, text in jobs.items():
        (out / name).mkdir(parents=True)
        (out / name / "results.jsonl").write_text(text)
        (out / name / "done").write_text("done")


def run(command, root, step, timeout, scratch, start):
    """Return (CompletedProcess or None after a timeout, seconds of CPU with child processes)."""
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
    copy = Path(scratch) / "host"  # some hosts write to the current folder
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
    """Write a data set Tiny/DOMAIN/CLASS/IMAGE, and return its path."""
    from PIL import Image

    for d, domain in enumerate(("paint", "photo", "sketch")):
        for c, name in enumerate(("one", "two")):
            folder = scratch / "Tiny" / domain / name
            folder.mkdir(parents=True)
            for i in range(6):
                Image.new("RGB", (32, 32), (200 * c + i, 60 * d, 128)).save(folder / f"{i}.png")
    return scratch / "Tiny"


def wait(pid, timeout):
    """Return the exit code of a child process, or None if it timed out and was killed."""
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
    """Start a command, and return its process id."""
    return subprocess.Popen(
        shlex.split(command),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
    ).pid


def import_common_modules():
    """Import modules that most hosts import, and disable the workers of data loaders."""
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
    """Run `python -m MODULE ...` in a fork of this process, and return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for file, number in ((out, 1), (err, 2)):  # also for its child processes
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = out, err
        if environment.get("DOMAINBED_CARFT_AUTOLOAD") == "0":
            sys.meta_path[:] = [f for f in sys.meta_path if "domainbed_carft" not in repr(f)]
        subprocess.call = call  # a sweep's jobs
        words = shlex.split(command)
        while "=" in words[0]:  # NAME=VALUE before the program, as in a shell
            os.environ.update([words.pop(0).split("=", 1)])
        _, _, module, *sys.argv[1:] = words
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


def call(command, **_):
    """Run a job `python -m MODULE ...` of a sweep in a fork; return its exit code."""
    pid = fork(command, os.getcwd(), dict(os.environ), sys.stdout, sys.stderr)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def cpu_of_children():
    """Return the CPU time of finished child processes in seconds."""
    times = os.times()
    return times.children_user + times.children_system


def read_records(path):
    """Return the records of a run without values that differ between equal runs."""
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
    """Return a sentence on what is wrong with a step, or ""."""
    if done is None:
        return "timed out"
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
        return f"other results than without this package: {', '.join(differ)}"
    if step == "explicit" and records != found["typed"]["numbers"]:
        return "other results than with the host's own command"
    if step == "sweep" and len(result["jobs"]) != 3:
        return f"{len(result['jobs'])} of 3 jobs left records; {reason(done)}"
    if step == "tables" and "CARFT" not in done.stdout:
        return "CARFT is not in the tables"
    return ""


def reason(done):
    """Return the most informative last line of a failed command, shortened."""
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
    """Return the text of docs/hosts.md."""
    rows = sorted(found, key=lambda row: row["host"].lower())
    fork = {"erm_without": "own ERM", "erm_with": "own ERM, with us"}
    heads = {**fork, **{step: step for step in COMMANDS if step not in fork}}
    works = {step: sum(row.get(step, {}).get("works", False) for row in rows) for step in COMMANDS}
    runs = [row for row in rows if row.get("erm_without", {}).get("works")]
    commits = sorted({row["ours"] for row in rows if row.get("ours")})
    lines = [
        "# Forks of DomainBed",
        "",
        f"{len(rows)} public checkouts, tried by `tools/hosts.py` on {time.strftime('%Y-%m-%d')} "
        f"with Python {sys.version.split()[0]} and torch {torch_version()}, on a CPU, "
        f"at commit {', '.join(commits) or '?'} of this package.",
        f"{len(runs)} run their own ERM here without this package, and {works['erm_with']} of them "
        "give the same results and the same hparams with it installed.",
        f"`--algorithm CARFT` trains in {works['typed']} with their own commands.",
        "",
        "Commands: " + "; ".join(f"**{heads[step]}** `{c}`" for step, c in COMMANDS.items()),
        "",
        "Without us, `DOMAINBED_CARFT_AUTOLOAD=0` is set. **typed** is CARFT by the host's own "
        "command, and **explicit** by ours. `Tiny` is a folder of 36 small pictures. "
        "All ran in processes forked from one that had imported torch, without data-loader "
        "workers. So the seconds of CPU do not include Python's start, and the second value "
        "includes the imports of our hooks.",
        "",
        "– means that a step was not run, since a step it needs did not work.",
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
    lines += ["", "Error messages:", ""]
    lines += [f"{i}. `{note}`" for i, note in enumerate(notes, 1)]
    return "\n".join(lines) + "\n"


def torch_version():
    import torch

    return torch.__version__


if __name__ == "__main__":
    main()
