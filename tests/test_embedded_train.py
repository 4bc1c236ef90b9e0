"""The embedded trainer: records, resuming after a kill, locks, wrong arguments."""

import contextlib
import errno
import functools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import threading
import time

import embedded_toy
import forked
import numpy as np
import pytest
import torch
from conftest import make_image_folder
from domainbed import algorithms, datasets
from domainbed.lib import display, misc, run_folder
from domainbed.lib.run_folder import RunFolder
from domainbed.scripts import train
from tqdm import tqdm

from domainbed_carft.commands import train as command
from domainbed_carft.contract import host_flags, run_files
from domainbed_carft.contract.run_files import Held, is_held
from domainbed_carft.data import user_folders

HOST_ARGS = (
    "algorithm checkpoint_freq data_dir dataset holdout_fraction hparams hparams_seed output_dir "
    "save_model_every_checkpoint seed skip_model_save steps task test_envs trial_seed "
    "uda_holdout_fraction"
).split()


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setattr(algorithms, "Toy", embedded_toy.Toy, raising=False)
    monkeypatch.setattr(datasets, "Noisy", embedded_toy.Noisy, raising=False)


def flags(folder, steps=30, dataset="Noisy", **other):
    given = {
        "algorithm": "Toy",
        "dataset": dataset,
        "hparams": '{"batch_size": 8}',
        "steps": steps,
        "checkpoint_freq": 3,
        "output_dir": folder,
        **other,
    }
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def records(folder):
    with open(folder / "results.jsonl") as lines:
        return [json.loads(line) for line in lines]


def lasting(folder):
    """Records without what differs from run to run."""
    found = records(folder)
    for record in found:
        del record["step_time"], record["mem_gb"], record["args"]["output_dir"]
    return found


@contextlib.contextmanager
def child(arguments, delay=0.0):
    """The trainer in a process of its own: forked, which spares the imports."""
    pid = os.fork()
    if pid == 0:
        try:
            tqdm.set_lock(threading.RLock())  # its own is shared with this process: killed, kept
            os.environ["DELAY"] = str(delay)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            train.main(arguments)
            os._exit(0)
        except BaseException:
            os._exit(1)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_records_have_the_hosts_keys_and_the_splits_sizes(tmp_path, capsys):
    train.main(flags(tmp_path, steps=5, test_envs=1, trial_seed=2))
    found = records(tmp_path)
    assert [r["step"] for r in found] == [0, 3, 4]
    accs = [f"env{i}_{split}_acc" for i in range(3) for split in ("in", "out")]
    values = ["loss", "lr", "updates", "pixels", "draws"]
    written = ["step", "epoch", "step_time", "mem_gb", "hparams", "args"]
    assert set(found[0]) == {*accs, *values, *written}
    assert sorted(found[0]["args"]) == HOST_ARGS
    # 24 images, int(24 * 0.2) = 4 of them held out: an epoch is 20 / 8 = 2.5 steps
    assert [r["epoch"] for r in found] == [0, 3 / 2.5, 4 / 2.5]
    assert [r["updates"] for r in found] == [1, 3, 5]  # means of 1; 2 3 4; 5
    assert found[0]["mem_gb"] == 0 or torch.cuda.is_available()
    assert (tmp_path / "done").read_text() == "done"
    assert not (tmp_path / "checkpoint.pt").exists()
    out = (tmp_path / "out.txt").read_text()
    assert "Environment:\n\tPython: " in out
    assert "\ttest_envs: [1]\n\ttrial_seed: 2\n" in out
    assert "\tuda_holdout_fraction: 0\nHParams:\n\tbatch_size: 8\n" in out
    header, *rows = out.splitlines()[-4:]
    assert header.split() == sorted({*accs, *values, "step", "epoch", "step_time", "mem_gb"})
    assert [len(row.split()) for row in rows] == [len(header.split())] * 3
    # on the terminal: no columns of DomainBed, but accuracies of the splits that people look at
    settings, table = capsys.readouterr().out.split("\n\n")
    assert "Data set    Noisy: a (24), b (24), c (24) images\n" in settings
    assert "Trained on  a, c\nTested on   b\n" in settings
    assert "resnet18" not in settings and "batch_size=8 (default 32)" in settings
    _, title, *rows = table.splitlines()
    assert title.split() == ["step", *values, "a", "b*", "c"]
    keys = ("env0_out_acc", "env1_in_acc", "env2_out_acc")
    assert [row.split()[-3:] for row in rows] == [
        [f"{100 * r[k]:.1f}" for k in keys] for r in found
    ]
    assert [row.split()[0] for row in rows] == ["0", "3", "4"]


def test_the_model_file_predicts_the_same(tmp_path):
    train.main([*flags(tmp_path, steps=2), "--save_model_every_checkpoint"])
    saved = torch.load(tmp_path / "model.pkl", weights_only=False)
    assert set(saved) == {
        "args",
        "model_input_shape",
        "model_num_classes",
        "model_num_domains",
        "model_hparams",
        "model_dict",
    }
    assert (saved["model_input_shape"], saved["model_num_domains"]) == ((3, 4, 4), 2)
    model = embedded_toy.Toy((3, 4, 4), 2, 2, saved["model_hparams"])
    model.load_state_dict(saved["model_dict"])
    assert saved["model_dict"]["updates"] == 2
    early = torch.load(tmp_path / "model_step0.pkl", weights_only=False)
    assert early["model_dict"]["updates"] == 1


def test_splits_follow_from_the_trial_seed(tmp_path):
    arguments = train.parse_args(flags(tmp_path, trial_seed=4, test_envs=1))
    hparams = train.choose_hparams(arguments)
    _, splits, _ = train.build(arguments, hparams)
    parts = {name: part.keys for name, part in splits.evaluated}
    assert list(parts) == ["env0_in", "env1_in", "env2_in", "env0_out", "env1_out", "env2_out"]
    for env in range(3):
        keys = list(range(24))
        np.random.RandomState(misc.seed_hash(4, env)).shuffle(keys)
        assert parts[f"env{env}_out"] == keys[:4]
        assert parts[f"env{env}_in"] == keys[4:]
    assert list(splits.train) == [0, 2]


def test_eval_splits_needed_skips_only_what_no_method_reads(tmp_path):
    train.main([*flags(tmp_path / "all", steps=4), "--test_envs", "0", "2"])
    train.main(
        [*flags(tmp_path / "needed", steps=4, eval_splits="needed"), "--test_envs", "0", "2"]
    )
    whole, less = lasting(tmp_path / "all"), lasting(tmp_path / "needed")
    for one, other in zip(whole, less):
        del one["env1_in_acc"]
        assert other["args"].pop("eval_splits") == "needed"
    assert whole == less


def written(folder):
    """Return the number of records, whole or not."""
    file = folder / "results.jsonl"
    return len(file.read_bytes().splitlines()) if file.exists() else 0


def is_at(folder, wanted):
    return (folder / "done").exists() or written(folder) >= wanted


def test_killed_ten_times_the_records_are_those_of_a_run_never_killed(tmp_path):
    train.main(flags(tmp_path / "whole"))
    chance = random.Random(0)
    kills, resumed_later, folders = 0, 0, []
    while kills < 10:
        folder = tmp_path / str(len(folders))
        folders.append(folder)
        while kills < 10 and not (folder / "done").exists():
            wanted = written(folder) + chance.randrange(4)
            with child(flags(folder), delay=0.01):
                wait_for(functools.partial(is_at, folder, wanted))
                time.sleep(chance.uniform(0, 0.05))
                killed = not (folder / "done").exists()
            kills += killed
            if killed and (folder / "results.jsonl").exists():
                steps = [r["step"] for r in records(folder)]  # whole lines,
                assert steps == [*range(0, 30, 3), 29][: len(steps)]  # none twice
                resumed_later += 1
        if not (folder / "done").exists():
            train.main(flags(folder))
    assert resumed_later >= 3  # else the moments were chosen badly
    for folder in folders:
        assert lasting(folder) == lasting(tmp_path / "whole")


@pytest.mark.slow
def test_kill_and_resume_of_the_program(tmp_path):
    program, data = [embedded_toy.__file__, "train"], {"dataset": "Debug28"}
    train.main(flags(tmp_path / "whole", **data))
    folder = tmp_path / "killed"
    slow = {**os.environ, "DELAY": "0.1"}
    process = forked.start([*program, *flags(folder, **data)], None, slow, os.devnull)
    try:
        wait_for((folder / "results.jsonl").exists)
    finally:
        process.kill()
        process.join()
    assert not (folder / "done").exists()
    done = forked.run([*program, *flags(folder, **data)])
    assert "Resuming at step" in done.stdout
    assert lasting(folder) == lasting(tmp_path / "whole")


def test_what_trains_nothing_loads_nothing_to_train_on(tmp_path, monkeypatch):
    loaded = []
    item = embedded_toy.NoisyItems.__getitem__
    monkeypatch.setattr(
        embedded_toy.NoisyItems, "__getitem__", lambda self, i: loaded.append(i) or item(self, i)
    )
    counts = {}
    for needs in (True, False):
        monkeypatch.setattr(embedded_toy.Toy, "needs_batches", needs, raising=False)
        update = embedded_toy.Toy.update if needs else lambda self, batches, unlabeled=None: {}
        monkeypatch.setattr(embedded_toy.Toy, "update", update)
        loaded.clear()
        train.main(flags(tmp_path / str(needs), steps=4, test_envs=0))
        counts[needs] = len(loaded)
    # two records of three domains of 24 images; four steps of two batches of 8
    assert counts == {True: 2 * 72 + 4 * 16, False: 2 * 72}
    ours = [algorithms.get_algorithm_class(name) for name in ("CLIP_ZeroShot", "CLIP_LP", "CARFT")]
    assert [getattr(cls, "needs_batches", True) for cls in ours] == [False, True, True]


def test_workers_change_nothing(tmp_path, monkeypatch):
    train.main(flags(tmp_path / "none", steps=4))
    monkeypatch.setenv("DOMAINBED_CARFT_N_WORKERS", "1")
    train.main(flags(tmp_path / "one", steps=4))
    assert lasting(tmp_path / "none") == lasting(tmp_path / "one")


def interrupted(folder, **other):
    """A run that was killed after its first record."""
    with child(flags(folder, **other), delay=0.05):
        wait_for((folder / "results.jsonl").exists)
    assert (folder / "checkpoint.pt").exists()


def test_a_killed_run_of_an_earlier_version_goes_on_with_the_defaults_of_newer_knobs(
    tmp_path, capsys
):
    train.main(flags(tmp_path / "whole", steps=9))
    interrupted(tmp_path / "old", steps=9)
    state = torch.load(tmp_path / "old" / "checkpoint.pt", weights_only=False)
    del state["hparams"]["lars"]
    torch.save(state, tmp_path / "old" / "checkpoint.pt")
    with pytest.raises(SystemExit):
        train.main(flags(tmp_path / "old", steps=9, hparams='{"batch_size": 8, "lars": true}'))
    assert "lars: was False, now True" in capsys.readouterr().err
    train.main(flags(tmp_path / "old", steps=9))
    assert "These knobs get their defaults: lars" in capsys.readouterr().err
    assert lasting(tmp_path / "old") == lasting(tmp_path / "whole")


def test_ctrl_c_is_one_line_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    class Stopped(embedded_toy.Toy):
        at = 5

        def update(self, minibatches, unlabeled=None):
            if self.updates == self.at:
                raise KeyboardInterrupt
            return super().update(minibatches)

    train.main(flags(tmp_path / "whole", steps=9))
    monkeypatch.setattr(algorithms, "Toy", Stopped)
    folder = tmp_path / "stopped"
    capsys.readouterr()
    for at, said in (
        (0, "no record yet: the same command starts over"),
        (5, "up to step 3 are in"),
    ):
        monkeypatch.setattr(Stopped, "at", at)
        with pytest.raises(SystemExit) as stop:
            train.main(flags(folder, steps=9))
        err = capsys.readouterr().err
        assert stop.value.code == 130 and "Traceback" not in err
        assert said in err and "carft train: stopped by Ctrl-C. " in err
    assert not is_held(folder)
    monkeypatch.setattr(Stopped, "at", None)
    train.main(flags(folder, steps=9))
    assert lasting(folder) == lasting(tmp_path / "whole")


def test_relevant_knobs():
    defaults = {"lr": 1e-3, "vit": False, "resnet18": True, "clip_backbone": "x", "clip_cache": ""}
    defaults |= {"clip_average": "none", "clip_ema_decay": 0.9}
    ours = {**defaults, "lr": 0.1}
    assert display.relevant_knobs(ours, defaults) == [("lr", "0.1 (default 0.001)")]
    ours = {**defaults, "clip_average": "ema", "vit": True}
    assert [name for name, _ in display.relevant_knobs(ours, defaults)] == [
        *("clip_average", "vit"),  # changed, so they are shown whatever they are
        *("clip_ema_decay", "lr"),
    ]
    ours = {**defaults, "carft_teacher": "ema"}  # it uses clip_ema_decay, too
    assert "clip_ema_decay" in dict(display.relevant_knobs(ours, defaults))
    defaults |= {"clip_train": "full", "clip_lora_rank": 8, "clip_transform": "host"}
    defaults |= {"clip_crop": 0.7}
    assert (
        not {"clip_lora_rank", "clip_crop"}
        & dict(display.relevant_knobs(defaults, defaults)).keys()
    )
    ours = {**defaults, "clip_train": "lora", "clip_transform": "clip@336"}
    assert {"clip_lora_rank", "clip_crop"} <= dict(display.relevant_knobs(ours, defaults)).keys()
    theirs = {"lr": 1e-3, "vit": False, "resnet18": True}  # an algorithm with a network of the host
    assert [name for name, _ in display.relevant_knobs(theirs, theirs)] == ["lr", "resnet18"]


def test_a_damaged_state_starts_the_run_over(tmp_path, capsys):
    train.main(flags(tmp_path / "whole", steps=9))
    folder = tmp_path / "damaged"
    interrupted(folder, steps=9)
    state = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.pt").write_bytes(state[: len(state) // 2])
    capsys.readouterr()
    train.main(flags(folder, steps=9))
    out, err = capsys.readouterr()
    assert "checkpoint.pt cannot be read, so the run starts over" in err
    assert "Resuming" not in out
    assert lasting(folder) == lasting(tmp_path / "whole")


def test_records_without_a_state_are_set_aside(tmp_path, capsys):
    (tmp_path / "results.jsonl").write_text('{"step": 0}\n{"st')
    train.main(flags(tmp_path, steps=4))
    assert [r["step"] for r in records(tmp_path)] == [0, 3]
    assert (tmp_path / "results.jsonl.old").read_text() == '{"step": 0}\n{"st'
    assert "results.jsonl.old" in capsys.readouterr().err


def test_other_arguments_do_not_resume(tmp_path, capsys):
    interrupted(tmp_path)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    for change in ({"seed": 5}, {"hparams": '{"batch_size": 4}'}):
        with pytest.raises(SystemExit) as stop:
            train.main(flags(tmp_path, **change))
        assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "unfinished run with other arguments: seed: was 0, now 5" in err
    assert "batch_size: was 8, now 4" in err
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of the user's own as the data set Own."""
    root = make_image_folder(tmp_path / "Own", ("ink", "photo"), n=6, size=8)
    cls = user_folders.data_set("Own", str(root))
    monkeypatch.setattr(datasets, "Own", cls, raising=False)
    monkeypatch.setattr(datasets, "DATASETS", [*datasets.DATASETS, "Own"])
    return root


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda dogs: (dogs / "5.png").unlink(), "photo had 18 images, and has 17"),
        (
            lambda dogs: (dogs / "0.png").rename(dogs / "9.png"),
            "photo has 18 images as then, but o",
        ),
        (lambda dogs: (dogs / "0.png").write_bytes(b"junk"), "files of photo have other sizes"),
    ],
)
def test_a_killed_run_does_not_resume_on_other_data(own, tmp_path, capsys, change, said):
    folder = tmp_path / "run"
    interrupted(folder, dataset="Own", steps=9)
    change(own / "photo" / "dog")
    before = (folder / "checkpoint.pt").read_bytes()
    with pytest.raises(SystemExit) as stop:
        train.main(flags(folder, dataset="Own", steps=9))
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2 and f"has an unfinished run on other data: {said}" in last
    assert (folder / "checkpoint.pt").read_bytes() == before and len(records(folder)) == 1


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_image_that_cannot_be_read_ends_training_with_its_name(
    own, tmp_path, monkeypatch, capsys, workers
):
    monkeypatch.setenv("DOMAINBED_CARFT_N_WORKERS", workers)
    for path in (own / "photo" / "dog").iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(SystemExit) as stop:
        train.main(flags(tmp_path / "run", dataset="Own", steps=9))
    err = capsys.readouterr().err
    assert stop.value.code == 2 and "Traceback" not in err
    assert re.search(r"error: .*photo/dog/\d.png \(4 bytes\) is no image that can be read", err)
    assert "Traceback" in (tmp_path / "run" / "err.txt").read_text()


def test_a_finished_run_is_not_done_again(tmp_path, capsys):
    train.main(flags(tmp_path, steps=2))
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    train.main(flags(tmp_path, steps=2))
    assert "finished. Nothing to do." in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        train.main(flags(tmp_path, steps=3))
    assert stop.value.code == 2
    assert "finished run with other arguments: steps: was 2, now 3" in capsys.readouterr().err
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "content, until", [("", "it has no records"), ("half", "its records end at step 0")]
)
def test_a_finished_run_with_damaged_records_is_told(tmp_path, capsys, content, until):
    train.main(flags(tmp_path, steps=4))
    file = tmp_path / "results.jsonl"
    text = file.read_text() if content else ""
    file.write_text(text[: len(text) * 2 // 3])
    with pytest.raises(SystemExit) as stop:
        train.main(flags(tmp_path, steps=4))
    assert stop.value.code == 2
    assert f"marked done, but {until} of 3, as if they were damaged" in capsys.readouterr().err


def test_a_state_that_cannot_be_read_now_is_not_thrown_away(tmp_path, monkeypatch, capsys):
    interrupted(tmp_path, steps=9)
    before = {name: (tmp_path / name).read_bytes() for name in ("checkpoint.pt", "results.jsonl")}

    def fails(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(run_folder.files, "check_zip", fails)
    with pytest.raises(SystemExit):
        train.main(flags(tmp_path, steps=9))
    err = capsys.readouterr().err
    assert "checkpoint.pt: Input/output error. The records up to step" in err
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_folder_that_another_run_has_now_is_let_alone(tmp_path):
    ours, folder = RunFolder(tmp_path / "run"), tmp_path / "run"
    ours.lock()
    (folder / "lock").unlink()
    ours.write("a", b"1")  # the lock alone was deleted: it is taken again
    with pytest.raises(Held):
        RunFolder(folder).lock(patience=0)
    shutil.rmtree(folder)
    with pytest.raises(run_folder.Lost, match="is gone: it was deleted or renamed"):
        ours.write("a", b"2")
    theirs = RunFolder(folder)
    theirs.lock()
    with pytest.raises(run_folder.Lost, match="another run has begun in it"):
        ours.write("a", b"3")
    theirs.write("a", b"4")
    assert (folder / "a").read_bytes() == b"4"


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    (tmp_path / ".checkpoint.pt.tmp").write_text("half")
    (tmp_path / ".provenance.json.17.tmp").write_text("half")
    (tmp_path / "my.tmp").write_text("somebody's")
    RunFolder(tmp_path).lock()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "my.tmp"]


def test_an_interrupted_save_is_not_told_as_saved(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.save({"step": 0}, {})

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder.torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folder.save({"step": 3}, {})
    assert "The records up to step 0 are in" in folder.progress()


def test_a_fork_does_not_keep_a_lock(tmp_path):
    lock = run_files.take(tmp_path)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(os.getppid) == os.getpid()
        assert is_held(tmp_path)
        lock.close()
        assert not is_held(tmp_path)


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_files.fcntl, "flock", none)
    with run_files.take(tmp_path), run_files.take(tmp_path):
        err = capsys.readouterr().err
    assert err.count(f"{tmp_path} is not locked: no locks on this file system") == 2
    assert run_files.held(tmp_path) is None


def test_two_processes_do_not_share_a_folder(tmp_path, capsys):
    with child(flags(tmp_path), delay=0.5):
        wait_for(lambda: is_held(tmp_path))
        with pytest.raises(SystemExit) as stop:
            train.main(flags(tmp_path))
        assert stop.value.code == 2
        assert f"Another process is working in {tmp_path}" in capsys.readouterr().err
    assert not is_held(tmp_path)  # a killed process holds nothing
    RunFolder(tmp_path).lock()


def test_class_balance_reaches_training_and_no_accuracy(tmp_path, monkeypatch):
    drawn = []

    class Watching(embedded_toy.Toy):
        def update(self, minibatches, unlabeled=None):
            drawn.extend(int(label) for _, y in minibatches for label in y)
            return super().update(minibatches)

        def predict(self, x):  # class 0, always
            return torch.tensor([1.0, 0.0]).expand(len(x), 2)

    class Unbalanced(embedded_toy.Noisy):
        def __init__(self, *args):
            super().__init__(*args)
            for env in self.datasets:
                env.targets = [0] * 20 + [1] * 4

    monkeypatch.setattr(algorithms, "Watching", Watching, raising=False)
    monkeypatch.setattr(datasets, "Unbalanced", Unbalanced, raising=False)
    knobs = '{"batch_size": 8, "class_balanced": true}'
    given = {"algorithm": "Watching", "dataset": "Unbalanced", "hparams": knobs}
    train.main(flags(tmp_path, steps=60, trial_seed=1, checkpoint_freq=59, **given))
    # 960 draws, half of each class: standard deviation 1.6 %; unbalanced it would be 1/6
    assert 0.42 < np.mean(drawn) < 0.58
    # Of 24 images 20 are of class 0; the splits of an environment have them all between them.
    record = json.loads((tmp_path / "results.jsonl").read_text().splitlines()[0])
    out = int(24 * 0.2)
    for i in range(3):
        right = record[f"env{i}_in_acc"] * (24 - out) + record[f"env{i}_out_acc"] * out
        assert right == pytest.approx(20)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dataset": "Debug82"}, "Unknown data set 'Debug82': did you mean Debug28"),
        ({"algorithm": "toyy"}, "Unknown algorithm 'toyy': did you mean Toy?"),
        ({"hparams": "{batch: 3}"}, "--hparams must be a JSON object"),
        ({"hparams": "[3]"}, "--hparams must be a JSON object"),
        ({"hparams": '{"batch_size": 80}'}, "got batch_size 80 and|batch_size 80, and"),
        ({"hparams": '{"batch_size": "2"}'}, "batch_size must be a whole number >= 1, got '2'"),
        ({"hparams": '{"batch_size": null}'}, "batch_size must be a whole number >= 1, got None"),
        ({"hparams": '{"batch_size": 2.0}'}, "batch_size must be a whole number >= 1, got 2.0"),
        ({"hparams": '{"batch_size": 0}'}, "batch_size must be a whole number >= 1, got 0"),
        ({"test_envs": 3}, "--test_envs must be"),
        ({"task": "domain_adaptation"}, "needs DomainBed itself"),
        ({"holdout_fraction": 0.01}, "leave 24 for training and 0 for validation"),
        ({"dataset": "PACS", "data_dir": "/nowhere"}, "No folder /nowhere"),
        ({"dataset": "PACS"}, "PACS needs --data_dir"),
        ({"steps": -1}, "--steps must be at least 1"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused_before_training(tmp_path, capsys, wrong, said):
    with pytest.raises(SystemExit) as stop:
        train.main(flags(tmp_path / "run", **wrong))
    assert stop.value.code == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "run" / "results.jsonl").exists()


def test_unfinished_algorithms_say_what_they_lack():
    base = algorithms.Algorithm((3, 4, 4), 2, 1, {})
    with pytest.raises(NotImplementedError, match="no update"):
        base.update([])
    with pytest.raises(NotImplementedError, match="Algorithm not found: Nope"):
        algorithms.get_algorithm_class("Nope")


def test_a_folder_that_cannot_be_made_is_told(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        train.main(flags(tmp_path / "file" / "run"))
    assert stop.value.code == 2
    assert "train: error: " in capsys.readouterr().err


def test_no_model_at_all_where_saving_is_skipped(tmp_path):
    switches = ["--skip_model_save", "--save_model_every_checkpoint"]
    train.main([*flags(tmp_path, steps=3), *switches])
    assert not list(tmp_path.glob("*.pkl"))


@pytest.mark.parametrize("never_changes", [False, True])
def test_what_never_changes_is_evaluated_once_on_the_test_environment(
    never_changes, tmp_path, monkeypatch
):
    seen = []
    predict = embedded_toy.Toy.predict
    monkeypatch.setattr(
        embedded_toy.Toy, "predict", lambda self, x: seen.append(len(x)) or predict(self, x)
    )
    monkeypatch.setattr(embedded_toy.Toy, "update", lambda self, batches, unlabeled=None: {})
    monkeypatch.setattr(embedded_toy.Toy, "never_changes", never_changes, raising=False)
    train.main(flags(tmp_path / "run", steps=4, test_envs=0))
    # two records of three domains of 24 images
    assert sum(seen) == (24 + 2 * 48 if never_changes else 2 * 72)
    first, last = records(tmp_path / "run")
    accuracies = [[r[f"env0_{split}_acc"] for split in ("in", "out")] for r in (first, last)]
    assert not never_changes or accuracies[0] == accuracies[1]
    assert {name for name in first if name.endswith("_acc")} == {
        f"env{i}_{split}_acc" for i in range(3) for split in ("in", "out")
    }


def test_a_finished_run_of_domainbed_with_other_defaults_is_no_finished_run(tmp_path, capsys):
    args = vars(host_flags.train_parser().parse_args([])) | {"steps": 300, "of_a_fork": 1}
    args |= {"algorithm": "CARFT", "output_dir": "there", "hparams": '{"carft_lambda": 10.0}'}
    records = tmp_path / "results.jsonl"
    records.write_text(json.dumps({"step": 299, "args": args}) + "\n")
    (tmp_path / "done").write_text("done")
    given = {"algorithm": "CARFT", "output_dir": str(tmp_path)}
    same = {**given, "steps": 300, "hparams": args["hparams"]}
    with pytest.raises(SystemExit) as stop:
        command.protect_records(same)
    assert stop.value.code == 0 and "nothing to do" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        command.protect_records(given)
    assert stop.value.code == 2
    said = "hparams: was '{\"carft_lambda\": 10.0}', now None; steps: was 300, now None"
    assert said in capsys.readouterr().err
    records.write_text("")
    with pytest.raises(SystemExit) as stop:
        command.protect_records(same)
    assert stop.value.code == 2 and "marked done, but has no records" in capsys.readouterr().err
