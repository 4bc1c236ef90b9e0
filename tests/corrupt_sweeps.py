"""Thirty ways to spoil a sweep, as a script: ``python tests/corrupt_sweeps.py FOLDER``.

Each takes the runs of a sound sweep [(args, folder)], spoils them on disk, and returns
(a sentence that a reader must find, the folders whose runs no longer count).
"""

import json
import os
import shutil
import sys


def lines(folder):
    return (folder / "results.jsonl").read_text().splitlines(keepends=True)


def put(folder, content):
    (folder / "results.jsonl").write_text("".join(content))


def changed(folder, change, which=-1):
    """Change one record of a run."""
    content = lines(folder)
    record = json.loads(content[which])
    change(record)
    content[which] = json.dumps(record) + "\n"
    put(folder, content)


def truncated_last_line(runs):
    folder = runs[0][1]
    put(folder, [*lines(folder)[:-1], lines(folder)[-1][:100]])
    return "half a line", {folder}


def truncated_line_and_a_second_run_after_it(runs):
    folder = runs[0][1]
    put(folder, [lines(folder)[0], lines(folder)[1][:50] + "\n", *lines(folder)])
    return "line 2: not JSON", set()


def duplicated_line(runs):
    folder = runs[1][1]
    put(folder, [*lines(folder), lines(folder)[0]])
    return "recorded twice, with the same accuracies", set()


def duplicated_with_other_numbers(runs):
    folder = runs[1][1]
    record = json.loads(lines(folder)[0])
    record["env1_out_acc"] = 0.123
    put(folder, [*lines(folder), json.dumps(record) + "\n"])
    return "recorded twice, with different accuracies", {folder}


def interleaved_runs(runs):
    a, b = runs[0][1], runs[1][1]
    put(a, [line for pair in zip(lines(a), lines(b)) for line in pair])
    return "lines of different runs in one file", {a}


def interleaved_bytes(runs):
    folder = runs[2][1]
    first, second, third = lines(folder)
    put(folder, [first[:80] + second[:90], first[80:], second[90:], third])
    return "not JSON", {folder}


def nan_accuracy(runs):
    changed(runs[0][1], lambda record: record.update(env0_out_acc=float("nan")))
    return "env0_out_acc is nan, not an accuracy", {runs[0][1]}


def infinite_accuracy(runs):
    changed(runs[0][1], lambda record: record.update(env0_in_acc=float("inf")))
    return "env0_in_acc is inf, not an accuracy", {runs[0][1]}


def nan_loss(runs):
    changed(runs[0][1], lambda record: record.update(loss=float("nan")))
    return "loss is not finite from step 200", set()


def percent_for_share(runs):
    changed(runs[0][1], lambda record: record.update(env2_out_acc=81.5))
    return "env2_out_acc is 81.5, not an accuracy", {runs[0][1]}


def accuracy_as_text(runs):
    changed(runs[0][1], lambda record: record.update(env2_in_acc="0.8"))
    return "env2_in_acc is 0.8, not an accuracy", {runs[0][1]}


def missing_domain(runs):
    folder = runs[3][1]
    for which in range(3):
        changed(folder, lambda record: record.pop("env2_out_acc"), which)
    return "records without env2_out_acc", {folder}


def missing_step(runs):
    folder = runs[3][1]
    put(folder, [lines(folder)[0], lines(folder)[2]])
    return "no record of step 100", {folder}


def seed_as_text(runs):
    changed(runs[0][1], lambda record: record["args"].update(trial_seed="0"))
    return "of the wrong type: trial_seed '0'", {runs[0][1]}


def environments_as_number(runs):
    changed(runs[0][1], lambda record: record["args"].update(test_envs=0))
    return "of the wrong type: test_envs '0'", {runs[0][1]}


def dataset_as_list(runs):
    changed(runs[0][1], lambda record: record["args"].update(dataset=["PACS"]))
    return "of the wrong type: dataset", {runs[0][1]}


def step_as_text(runs):
    changed(runs[0][1], lambda record: record.update(step="200"))
    return "not a record with args and step", {runs[0][1]}


def args_lost(runs):
    changed(runs[0][1], lambda record: record.pop("args"))
    return "not a record with args and step", {runs[0][1]}


def no_object(runs):
    put(runs[0][1], ["[1, 2, 3]\n", "null\n", '"text"\n'])
    return "line 2: not a record", {runs[0][1]}


def huge_line(runs):
    folder = runs[4][1]
    put(folder, [*lines(folder)[:2], '{"step": "' + "9" * 2_000_000 + '"}\n'])
    return "longer than 1,000,000 bytes", {folder}


def deeply_nested(runs):
    folder = runs[4][1]
    put(folder, [*lines(folder)[:2], "[" * 200_000 + "\n"])
    return "line 3: not JSON", {folder}


def binary(runs):
    (runs[4][1] / "results.jsonl").write_bytes(bytes(range(256)) * 40)
    return "not JSON", {runs[4][1]}


def empty_file(runs):
    put(runs[5][1], [])
    return "its results.jsonl is empty", {runs[5][1]}


def folder_for_file(runs):
    (runs[5][1] / "results.jsonl").unlink()
    (runs[5][1] / "results.jsonl").mkdir()
    return "results.jsonl cannot be read", {runs[5][1]}


def pipe_for_file(runs):
    (runs[5][1] / "results.jsonl").unlink()
    os.mkfifo(runs[5][1] / "results.jsonl")  # opening it would wait for ever
    return "results.jsonl cannot be read", {runs[5][1]}


def symlink_loop(runs):
    (runs[5][1] / "results.jsonl").unlink()
    (runs[5][1] / "results.jsonl").symlink_to("results.jsonl")
    return "results.jsonl cannot be read", {runs[5][1]}


def folder_loop(runs):
    (runs[0][1].parent / "loop").symlink_to(runs[0][1].parent)
    return "loop: is a link to .", set()


def not_done(runs):
    folder = runs[6][1]
    (folder / "done").unlink()
    put(folder, lines(folder)[:2])
    return "not finished: its records end at step 100 of 200", {folder}


def copied_run(runs):
    shutil.copytree(runs[7][1], runs[7][1].parent / "copy")
    return "the same run as", set()


def copied_run_with_other_numbers(runs):
    copy = shutil.copytree(runs[7][1], runs[7][1].parent / "copy")
    for which in range(3):
        changed(copy, lambda record: record.update(env3_out_acc=0.5), which)
    return "with different results: none of them counts", {runs[7][1]}


def another_data_set(runs):
    folder = shutil.copytree(runs[8][1], runs[8][1].parent / "other")
    for which in range(3):
        changed(folder, lambda record: record["args"].update(dataset="Elsewhere"), which)
    return "Elsewhere: the host does not know this data set", set()


def two_versions(runs):
    for i, (_, folder) in enumerate(runs):
        content = {"version": "0.1.0", "commit": "aaaaaaa" if i % 2 else "bbbbbbb"}
        (folder / "provenance.json").write_text(json.dumps(content))
    return "the runs differ in commit: aaaaaaa", set()


def environment_that_is_none(runs):
    folder = runs[0][1]
    for which in range(3):
        changed(folder, lambda record: record["args"].update(test_envs=[7]), which)
    return "test environment 7 of 4", {folder}


def environment_too_many(runs):
    changed(runs[0][1], lambda record: record.update(env9_out_acc=0.99))
    return "records with unknown environments: env9_out_acc", {runs[0][1]}


CORRUPTIONS = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and value.__module__ == __name__ and name not in ("lines", "put", "changed")
}


def main():
    """Write one sweep per corruption below the folder given."""
    from synthetic_sweep import make_sweep

    for name, corrupt in CORRUPTIONS.items():
        folder = os.path.join(sys.argv[1], name)
        print(folder, *corrupt(make_sweep(folder, algorithms=("CLIP_ERM", "CARFT"))), sep=": ")


if __name__ == "__main__":
    main()
