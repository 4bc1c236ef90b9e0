"""grid.py: what a sweep lacks, and that the commands it prints make exactly those runs."""

import json
import os
import shlex
import shutil

import pytest
from domainbed.scripts import sweep as host_sweep
from domainbed.scripts import train as host_train
from synthetic_sweep import make_sweep

from domainbed_carft.commands import report
from domainbed_carft.contract import jobs
from domainbed_carft.records import gaps, soundness
from domainbed_carft.records.rows import WISE, Row
from domainbed_carft.records.state import State, Status
from domainbed_carft.register import known_datasets

KNOWN = known_datasets()


def read(folder):
    sweep = soundness.read(folder, KNOWN)
    return sweep, gaps.lacks(sweep, KNOWN)


@pytest.mark.parametrize("changes", [{}, {"pairs": True, "hparams": '{"lr": 1e-05}'}])
def test_folders_are_named_as_the_host_names_them(changes, tmp_path):
    made = make_sweep(tmp_path / "s", trials=2, hparams_seeds=2, **changes)
    flags = "launch --datasets PACS --algorithms CLIP_ZeroShot CLIP_ERM CARFT --n_trials 2 "
    flags += "--n_hparams 2 --steps 201 --data_dir data --command_launcher local --output_dir out"
    flags = flags.split() + ([] if changes else ["--single_test_envs"])
    flags += ["--hparams", changes["hparams"]] if changes else []
    planned_jobs = [
        host_sweep.Job(a, "out") for a in host_sweep.make_args_list(host_sweep.parse_args(flags))
    ]
    expected = {job.output_dir.removeprefix("out/") for job in planned_jobs}
    assert {folder.name for _, folder in made} == expected


def test_a_whole_sweep_lacks_nothing(tmp_path):
    make_sweep(tmp_path, trials=2)
    sweep, lacking = read(tmp_path)
    assert lacking == [] and gaps.commands(sweep, lacking) == []


def test_the_command_makes_what_is_lacking(tmp_path):
    made = make_sweep(tmp_path / "s", trials=2, hparams='{"lr": 1e-05}')
    gone = [made[1], made[10]]
    for _, folder in gone:
        shutil.rmtree(folder)
    sweep, lacking = read(tmp_path / "s")
    assert [lack.status for lack in lacking] == [Status(State.NOT_LAUNCHED)] * 2
    (line,) = gaps.commands(sweep, lacking)
    words = shlex.split(line)
    assert words[:4] == ["python", "-m", "domainbed_carft.sweep", "launch"]
    planned_jobs = [
        host_sweep.Job(args, str(tmp_path / "s"))
        for args in host_sweep.make_args_list(host_sweep.parse_args(words[3:]))
    ]
    todo = {job.output_dir for job in planned_jobs if job.state != job.DONE}
    assert todo == {str(folder) for _, folder in gone}


def test_the_command_leaves_out_only_the_domains_that_the_sweep_does(tmp_path):
    made = make_sweep(tmp_path / "s", trials=1)
    runs = [
        json.loads((folder / "results.jsonl").read_text().splitlines()[0]) for _, folder in made
    ]
    kept = [run["args"] for run in runs if run["args"]["test_envs"] in ([1], [3])]
    for run, (_, folder) in zip(runs, made):
        if run["args"] not in kept[1:]:
            shutil.rmtree(folder)
    jobs.note_launch(str(tmp_path / "s"), [{**args, "output_dir": None} for args in kept])
    sweep, lacking = read(tmp_path / "s")
    (line,) = gaps.commands(sweep, lacking)
    words = shlex.split(line)
    assert words[words.index("--test_envs") + 1 :][:2] == ["1", "3"]


def test_a_killed_run_of_domainbed_is_deleted_first(tmp_path):
    made = make_sweep(tmp_path, trials=1)
    folder = made[0][1]
    (folder / "done").unlink()
    text = (folder / "results.jsonl").read_text()
    (folder / "results.jsonl").write_text(text.splitlines(keepends=True)[0])
    sweep, lacking = read(tmp_path)
    assert not gaps.commands(sweep, lacking)  # its files are new: it may be running
    for file in folder.iterdir():
        os.utime(file, (0, 0))
    sweep, lacking = read(tmp_path)
    remark, delete, launch = gaps.commands(sweep, lacking)
    assert "delete these" in remark and " launch " in launch
    # exactly that folder: another job of this sweep may be running
    assert delete == f"rm -r {folder}"
    (folder / "lock").touch()  # the embedded host resumes
    os.utime(folder / "lock", (0, 0))
    assert len(gaps.commands(*read(tmp_path))) == 1


@pytest.mark.parametrize("left", [{}, {"err.txt": "Traceback (most recent call last):\nError\n"}])
def test_a_run_without_records_is_deleted_too_for_domainbed_skips_its_folder(left, tmp_path):
    folder = make_sweep(tmp_path, trials=1)[0][1]
    for file in folder.iterdir():
        file.unlink()
    for name, text in left.items():
        (folder / name).write_text(text)
    _, delete, launch = gaps.commands(*read(tmp_path))
    assert delete == f"rm -r {folder}" and " launch " in launch


def test_a_run_that_waits_for_its_turn_is_left_alone(tmp_path):
    (_, running), (_, waiting), *_ = make_sweep(tmp_path, trials=1)
    (running / "done").unlink()
    text = (running / "results.jsonl").read_text()
    (running / "results.jsonl").write_text(text.splitlines(keepends=True)[0])  # now
    for file in waiting.iterdir():
        file.unlink()
    (remark,) = gaps.commands(*read(tmp_path))
    assert remark.startswith("# runs that have not started may be queued")


def test_runs_started_by_hand_get_train_commands(tmp_path):
    made = make_sweep(tmp_path, algorithms=("CARFT",), trials=1)
    for i, (_, folder) in enumerate(made):
        folder.rename(tmp_path / f"run{i}")
    shutil.rmtree(tmp_path / "run2")
    sweep, lacking = read(tmp_path)
    (line,) = gaps.commands(sweep, lacking)
    args = host_train.parse_args(shlex.split(line)[3:])
    expected = made[2][0]
    for name in (
        "dataset",
        "algorithm",
        "test_envs",
        "trial_seed",
        "hparams_seed",
        "seed",
        "steps",
    ):
        assert getattr(args, name) == expected[name]


def test_an_unsound_run_that_is_done_must_be_moved_away(tmp_path):
    folder = make_sweep(tmp_path, trials=1)[0][1]
    (folder / "results.jsonl").write_text("")
    remark, _ = gaps.commands(*read(tmp_path))
    assert remark.startswith("# marked done; move them out") and folder.name in remark


def retagged(made, algorithm):
    """Write each run again as one of another algorithm, in a folder of its own, as wise_ft does."""
    for _, folder in made:
        other = folder.parent / f"{folder.name}+WiSE"
        other.mkdir()
        text = (folder / "results.jsonl").read_text().splitlines(keepends=True)[-1]
        text = text.replace('"algorithm": "CARFT"', f'"algorithm": "{algorithm}"')
        (other / "results.jsonl").write_text(text)
        (other / "done").touch()


def test_rows_of_wise_ft_count_and_get_their_own_command(tmp_path):
    made = make_sweep(tmp_path, algorithms=("CARFT",), trials=1)
    retagged(made[:3], "CARFT+WiSE")
    sweep, lacking = read(tmp_path)
    assert not sweep.problems and len(sweep.sound) == 7
    (lack,) = lacking
    assert (lack.row, lack.args["test_envs"]) == (Row("CARFT", suffix=WISE), [3])
    assert gaps.commands(sweep, lacking) == [
        f"python -m domainbed_carft.wise_ft --input_dir {tmp_path}"
    ]


@pytest.mark.parametrize("n_envs, keep, lacks", [(2, (1,), 0), (3, (1,), 2), (4, (1,), 3)])
def test_training_and_test_split_want_no_run_the_other_way_round(n_envs, keep, lacks, tmp_path):
    for args, folder in make_sweep(tmp_path, "Own", n_envs, ["A"], trials=1):
        if tuple(args["test_envs"]) != keep:
            shutil.rmtree(folder)
    assert len(read(tmp_path)[1]) == lacks


def test_several_test_domains_at_once_are_no_leave_one_out(tmp_path):
    """As for ImageNet and its shifted test sets: trained on the first, tested on all others."""
    for args, folder in make_sweep(tmp_path, "Own", 4, ["A"], trials=1):
        if args["test_envs"] != [1]:
            shutil.rmtree(folder)
        else:
            text = (folder / "results.jsonl").read_text()
            (folder / "results.jsonl").write_text(
                text.replace('"test_envs": [1]', '"test_envs": [1, 2, 3]')
            )
    sweep, lacking = read(tmp_path)
    assert len(sweep.sound) == 1 and not lacking


def ask(folder, made, **changes):
    """Write down, as a launch does, that runs of make_sweep were asked."""
    runs = [
        gaps.sweep_args(args, args["dataset"], args["test_envs"], args["trial_seed"], 0) | changes
        for args, _ in made
    ]
    jobs.note_launch(folder, runs)
    return runs


def emptied(made):
    for _, folder in made:
        for file in folder.iterdir():
            file.unlink()


def test_what_was_asked_is_not_forgotten_where_it_left_no_record(tmp_path):
    """Ctrl-C in a sweep of two algorithms: one has no records, a trial no folders."""
    made = make_sweep(tmp_path, algorithms=("CLIP_ERM", "CARFT"), trials=2)
    asked = ask(tmp_path, made)
    carft = [(a, f) for a, f in made if a["algorithm"] == "CARFT"]
    emptied(carft[:4])
    for _, folder in carft[4:]:
        shutil.rmtree(folder)
    sweep, lacking = read(tmp_path)
    assert {lack.row for lack in lacking} == {Row("CARFT")}
    states = [lack.status.state for lack in lacking]
    assert states == [State.NOT_STARTED] * 4 + [State.NOT_LAUNCHED] * 4
    assert not gaps.unknown(sweep, lacking)
    assert [lack.args for lack in lacking] == [a for a in asked if a["algorithm"] == "CARFT"]
    *_, launch = gaps.commands(sweep, lacking)
    assert planned(launch) == {jobs.digest(lack.args) for lack in lacking}


def planned(line):
    """Return the names of the folders of the jobs that a sweep command would run."""
    parsed = host_sweep.parse_args(shlex.split(line)[3:])
    return {jobs.digest(args) for args in host_sweep.make_args_list(parsed)}


def test_without_the_file_the_grid_is_that_of_the_records(tmp_path):
    made = make_sweep(tmp_path, algorithms=("CLIP_ERM", "CARFT"), trials=1)
    emptied(made[4:])
    sweep, lacking = read(tmp_path)
    assert not lacking and len(gaps.unknown(sweep, lacking)) == 4


def test_all_failed_and_what_would_fill_it(tmp_path):
    made = make_sweep(tmp_path, algorithms=("CARFT",), trials=2, hparams='{"lr": 1e-05}')
    ask(tmp_path, made)
    emptied(made)
    for _, folder in made:
        (folder / "err.txt").write_text("Traceback (most recent call last):\nKeyError: 'x'\n")
    sweep, lacking = read(tmp_path)
    assert [lack.status for lack in lacking] == [Status(State.FAILED, "KeyError: 'x'")] * 8
    launch = gaps.commands(sweep, lacking)[-1]
    assert planned(launch) == {folder.name for _, folder in made}
    (made[0][1] / "lock").touch()  # of the embedded host, which starts these again by itself
    (command,) = gaps.commands(*read(tmp_path))
    assert planned(command) == planned(launch)


def test_launches_of_their_own_spans_get_commands_of_their_own(tmp_path):
    """Two trials of CLIP_ERM were asked and one of CARFT: no second one is launched."""
    made = make_sweep(tmp_path, algorithms=("CLIP_ERM", "CARFT"), trials=2)
    made = [(a, f) for a, f in made if (a["algorithm"], a["trial_seed"]) != ("CARFT", 1)]
    ask(tmp_path, made)
    for folder in tmp_path.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    sweep, lacking = read(tmp_path)
    assert len(lacking) == len(made) == 12
    lines = gaps.commands(sweep, lacking)
    assert set.union(*map(planned, lines)) == {jobs.digest(lack.args) for lack in lacking}


def test_a_sweep_as_it_was_asked_lacks_nothing(tmp_path):
    """One environment alone was asked: the others are not missing."""
    made = make_sweep(tmp_path, trials=2)
    for args, folder in made:
        if args["test_envs"] != [2]:
            shutil.rmtree(folder)
    assert len(read(tmp_path)[1]) == 18  # as no file says
    ask(tmp_path, [(a, f) for a, f in made if a["test_envs"] == [2]])
    assert not read(tmp_path)[1]


def test_a_run_in_a_folder_of_another_name_is_the_one_that_was_asked(tmp_path):
    made = make_sweep(tmp_path, algorithms=("CARFT",), trials=1, hparams='{"lr": 1e-05}')
    ask(tmp_path, made, hparams='{"lr":1e-5}')  # written otherwise
    made[0][1].rename(tmp_path / "moved")
    assert not read(tmp_path)[1]


def test_runs_of_other_knobs_that_all_failed_are_a_row_of_their_own(tmp_path):
    for value in (1, 2):
        given = json.dumps({"carft_lambda": value})
        made = make_sweep(tmp_path, algorithms=("CARFT",), trials=1, hparams=given)
        ask(tmp_path, made)
    emptied(made)
    _, lacking = read(tmp_path)
    assert {lack.row for lack in lacking} == {Row("CARFT", (("carft_lambda", 2),))}
    assert len(lacking) == 4


def test_rows_that_nobody_asked_are_inferred_beside_those_asked(tmp_path):
    made = make_sweep(tmp_path, algorithms=("CARFT",), trials=2)
    ask(tmp_path, made)
    retagged(made[:3], "CARFT+WiSE")
    _, lacking = read(tmp_path)
    assert {lack.row for lack in lacking} == {Row("CARFT", suffix=WISE)} and len(lacking) == 5


def test_a_data_set_that_has_no_record_yet_is_missing_in_the_report(tmp_path):
    made = make_sweep(tmp_path / "sweep", algorithms=("CARFT",), trials=1)
    ask(tmp_path / "sweep", made)
    other = make_sweep(tmp_path / "other", "Own", algorithms=("CARFT",), trials=1)
    ask(tmp_path / "sweep", other)
    report.main(["--input_dir", str(tmp_path / "sweep"), "--output_dir", str(tmp_path / "out")])
    rows = (tmp_path / "out" / "tables" / "missing.csv").read_text().splitlines()
    assert rows[1:] == ['Own,CARFT,4,"env0, env1, env2, env3",0,0,not launched']


def two_spans(folder, algorithms=("CLIP_ERM", "CARFT")):
    """Launch two trials of the first on environments 0 and 1, and one of the second on all."""
    made = make_sweep(folder, algorithms=tuple(dict.fromkeys(algorithms)), trials=2)
    few = [(a, f) for a, f in made if a["algorithm"] == algorithms[0] and a["test_envs"][0] < 2]
    one = [(a, f) for a, f in made if a["algorithm"] == algorithms[1] and a["trial_seed"] == 0]
    ask(folder, few)
    ask(folder, one)
    wanted = [folder for _, folder in few + one]
    for _, other in made:
        if other not in wanted:
            shutil.rmtree(other)
    return few, one


def test_launches_of_other_spans_lack_only_what_was_asked(tmp_path):
    _, carft = two_spans(tmp_path)
    assert read(tmp_path)[1] == []
    retagged(carft[:3], "CARFT+WiSE")  # which has one trial, although CLIP_ERM has two
    (lack,) = read(tmp_path)[1]
    assert (lack.row.suffix, lack.args["test_envs"], lack.args["trial_seed"]) == (WISE, [3], 0)


def test_two_launches_of_one_algorithm_get_commands_of_what_is_missing_alone(tmp_path):
    """No grid: two trials on two environments, and one on all four."""
    few, _ = two_spans(tmp_path, ("CARFT", "CARFT"))
    gone = next((args, f) for args, f in few if args["trial_seed"] == 1)
    shutil.rmtree(gone[1])
    (line,) = gaps.commands(*read(tmp_path))
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "domainbed_carft.train"]
    args = host_train.parse_args(words[3:])
    assert (args.trial_seed, args.test_envs) == (1, gone[0]["test_envs"])
    assert args.output_dir == str(gone[1])


def test_a_run_beside_those_asked_asks_for_no_others(tmp_path):
    made = make_sweep(tmp_path, algorithms=("CARFT",), trials=2)
    ask(tmp_path, [(a, f) for a, f in made if a["trial_seed"] == 0])
    for args, folder in made:
        if args["trial_seed"] == 1 and args["test_envs"] != [0]:
            shutil.rmtree(folder)
    assert read(tmp_path)[1] == []
