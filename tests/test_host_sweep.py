"""A sweep in the real, unmodified DomainBed, as typed: records, tables, both hosts."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import make_image_folder
from host_install import SOURCE, hparams, jobs, records, status

from domainbed_carft.base import environment, launchers
from domainbed_carft.contract import run_files
from domainbed_carft.contract.jobs import asked, digest

pytestmark = pytest.mark.host
EXAMPLE = SOURCE / "examples" / "own_method.py"
NAMES = ("CLIP_ZeroShot", "CARFT", "CosineCARFT")  # the last is the example's


@pytest.fixture(scope="module")
def swept(install, here, real_host, files, tmp_path_factory):
    """A sweep of our algorithms and a user's on a user's folder of two domains, as typed."""
    folder, data = tmp_path_factory.mktemp("sweep"), tmp_path_factory.mktemp("own") / "Birds"
    make_image_folder(data, domains=("ink", "photo"), n=4, size=32)
    settings = {"DOMAINBED_CARFT_DATASETS": str(data), "DOMAINBED_CARFT_N_WORKERS": "0"}
    settings[environment.METHODS] = str(EXAMPLE)
    here.settings = settings
    before = status(real_host)
    arguments = (
        f"--algorithms {' '.join(NAMES)} --datasets Birds --single_test_envs --n_trials 1 "
        "--n_hparams 1 --steps 1 --data_dir none --skip_confirmation "
        f"--hparams {hparams(files)}"
    )
    sweep = f"python -m domainbed.scripts.sweep launch {arguments} --output_dir {folder}"
    # Its own commands in forks, but one, of the user's method, as each imports for 10 s.
    said = here.run(f"{sweep} --command_launcher dummy", real_host).stdout
    *commands, last = sorted(re.findall(r"^Dummy launcher: (.+)$", said, re.M))
    for command in commands:
        here.run(command, real_host)
    Path(launchers.flags_of(last)["output_dir"]).rmdir()
    install.run(f"{sweep} --command_launcher local", real_host, **settings)
    assert status(real_host) == before
    return folder, arguments


def test_a_sweep_as_typed_finishes_all_jobs(swept):
    assert len(jobs(swept[0])) == 6
    hosts = {json.loads((job / "provenance.json").read_text())["host"] for job in jobs(swept[0])}
    assert hosts == {"domainbed"}
    for job in jobs(swept[0]):
        assert (job / "done").exists(), (job / "err.txt").read_text()
        last = records(job)[-1]
        own = last["args"]["algorithm"] == "CosineCARFT"
        assert last["hparams"].get("cosine_gamma") == (1.0 if own else None)
        assert ("cosine_distance" in last) == own


def test_our_command_writes_down_what_was_asked(here, real_host, tmp_path):
    """Before any job starts, so that none is forgotten; the dummy launcher starts none."""
    words = (
        f"--algorithms {' '.join(NAMES)} --datasets DigitStyles --n_trials 2 --n_hparams 2 "
        "--steps 1 --data_dir none --skip_confirmation --command_launcher dummy"
    )
    here.run(
        f"python -m domainbed_carft.sweep launch {words} --output_dir {tmp_path / 'sweep'}",
        real_host,
    )
    made = {job.name for job in jobs(tmp_path / "sweep")}
    assert {digest(args) for args in asked(tmp_path / "sweep")} == made
    assert len(made) == 3 * 10 * 2 * 2


def tables(here, root, command, folder, **environment):
    out = here.run(f"{command} --input_dir {folder}", root, **environment).stdout
    return sorted(out[out.index("Total records") :].splitlines())  # the host lists rows by folder


def test_its_table_has_a_row_for_each(here, real_host, swept):
    lines = tables(here, real_host, "python -m domainbed.scripts.collect_results", swept[0])
    for name in NAMES:
        rows = [line for line in lines if line.startswith(name + " ")]
        assert len(rows) == 6
        # leave-one-out needs pairs of test domains, which --single_test_envs leaves out
        assert sum("X" in row for row in rows) == 2


def test_wise_ft_of_its_runs_is_the_same_on_both_hosts(here, real_host, swept, tmp_path):
    rows = []
    for host in ({}, {"DOMAINBED_CARFT_HOST": "embedded"}):
        output = tmp_path / f"wise{len(rows)}"
        here.run(
            f"python -m domainbed_carft.wise_ft --input_dir {swept[0]} --output_dir {output} "
            "--alpha 0 0.5 1",
            real_host,
            **host,
        )
        rows.append({job.name: records(job)[0]["alpha_curve"] for job in jobs(output)})
    assert rows[0] == rows[1] and len(rows[0]) == 4
    for job, curve in rows[0].items():  # the target's records, which are never augmented
        last = records(swept[0] / job.removesuffix("+WiSE"))[-1]
        for split in ("in", "out"):
            key = f"env{last['args']['test_envs'][0]}_{split}_acc"
            assert curve[-1][key] == last[key]
    out = here.run(
        f"python -m domainbed.scripts.collect_results --input_dir {output}", real_host
    ).stdout
    assert sum(line.startswith("CARFT+WiSE ") for line in out.splitlines()) == 6


def test_half_a_line_is_named_and_not_a_crash(here, real_host, swept, tmp_path):
    shutil.copytree(swept[0], tmp_path / "copy")
    job = jobs(tmp_path / "copy")[0]
    with open(job / "results.jsonl", "a") as file:
        file.write('{"args": ')
    done = here.run(
        f"python -m domainbed_carft.collect_results --input_dir {tmp_path}/copy",
        real_host,
        check=False,
    )
    assert done.returncode == 1
    assert f"{job}/results.jsonl, line 2" in done.stderr and "Traceback" not in done.stderr


def test_a_run_again_adds_no_second_records(here, real_host, swept, tmp_path):
    job = jobs(swept[0])[0]
    shutil.copytree(job, tmp_path / "done")
    args = {k: v for k, v in records(job)[-1]["args"].items() if v not in (None, False)}
    del args["output_dir"]
    values = {k: v if isinstance(v, list) else [v] for k, v in args.items()}
    words = [[f"--{name}", *map(str, found)] for name, found in values.items()]
    flags = shlex.join(word for found in words for word in found)
    again = f"python -m domainbed_carft.train {flags} --output_dir {tmp_path}/done"
    assert "finished run: nothing to do" in here.run(again, real_host).stdout
    other = here.run(f"{again} --algorithm ERM", real_host, check=False)
    assert other.returncode == 2 and "now 'ERM'. Choose another --output_dir" in other.stderr
    with run_files.take(tmp_path / "done"):
        held = here.run(again, real_host, check=False)
    assert held.returncode == 2 and "Another process is working in" in held.stderr
    assert records(tmp_path / "done") == records(job)
    (tmp_path / "done" / "done").unlink()
    done = here.run(f"{again} --dataset PACS --algorithm CARFT", real_host, check=False)
    assert "none/PACS/DOMAIN/CLASS/IMAGE" in done.stdout  # where DomainBed sends its errors
    assert (tmp_path / "done" / "results.jsonl.old").exists()


def test_the_embedded_host_makes_the_same_jobs_and_tables(here, real_host, swept, tmp_path):
    folder, arguments = swept
    environment = {"DOMAINBED_CARFT_HOST": "embedded"}
    here.run(
        f"python -m domainbed_carft.sweep launch {arguments} --command_launcher local "
        f"--output_dir {tmp_path}",
        tmp_path,
        **environment,
    )
    assert [job.name for job in jobs(tmp_path)] == [job.name for job in jobs(folder)]
    for job in jobs(folder):
        theirs, ours = records(job), records(tmp_path / job.name)
        assert [set(r) for r in theirs] == [set(r) for r in ours]
        assert [r["step"] for r in theirs] == [r["step"] for r in ours]
        for a, b in zip(theirs, ours):
            assert a["hparams"] == b["hparams"]
            assert a["epoch"] == b["epoch"]
            assert {**a["args"], "output_dir": ""} == {**b["args"], "output_dir": ""}
            if a["args"]["algorithm"] == "CLIP_ZeroShot":
                # either host augments the training domains in evaluation, too
                test_env = a["args"]["test_envs"][0]
                scores = [f"env{test_env}_in_acc", f"env{test_env}_out_acc"]
                assert {k: a[k] for k in scores} == {k: b[k] for k in scores}
    real, ours = (
        "python -m domainbed.scripts.collect_results",
        "python -m domainbed_carft.collect_results",
    )
    for sweep in (folder, tmp_path):
        assert tables(here, real_host, real, sweep) == tables(
            here, real_host, ours, sweep, **environment
        )
