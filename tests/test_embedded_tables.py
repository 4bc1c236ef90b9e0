"""Selection rules and tables of the embedded host, on records made by hand."""

import json
import shutil

import forked
import pytest
from conftest import domainbed_root
from domainbed import model_selection
from domainbed.lib import reporting
from domainbed.scripts import collect_results
from synthetic_sweep import make_sweep

IID = model_selection.IIDAccuracySelectionMethod
LEAVE_ONE_OUT = model_selection.LeaveOneOutSelectionMethod
ORACLE = model_selection.OracleSelectionMethod
NAN = float("nan")


def record(test_envs, step=0, hparams_seed=0, ins=(0, 0, 0), outs=(0, 0, 0), **args):
    accs = {f"env{i}_in_acc": acc for i, acc in enumerate(ins)}
    accs.update({f"env{i}_out_acc": acc for i, acc in enumerate(outs)})
    about = {"trial_seed": 0, "dataset": "Debug28", "algorithm": "A", **args}
    about.update(test_envs=test_envs, hparams_seed=hparams_seed)
    return {"step": step, "args": about, **accs}


def test_iid_takes_the_step_of_the_highest_mean_over_training_outs():
    records = [
        record([1], 0, ins=(0.9, 0.1, 0.9), outs=(0.2, 0.9, 0.4)),  # mean of 0.2, 0.4
        record([1], 1, ins=(0.9, 0.2, 0.9), outs=(0.6, 0.0, 0.4)),  # mean of 0.6, 0.4: best
        record([1, 2], 2, ins=(0.9, 0.3, 0.9), outs=(1, 1, 1)),  # two test environments: not read
    ]
    assert IID.run_acc(records) == {"val_acc": 0.5, "test_acc": 0.2}
    assert IID.run_acc(records[2:]) is None


def test_iid_ties_take_the_first_record_and_the_last_hparams_seed():
    def at(step, seed, test_acc):
        return record([0], step, seed, ins=(test_acc, 0, 0), outs=(0, 0.5, 0.5))

    assert IID.run_acc([at(0, 0, 0.1), at(1, 0, 0.2)])["test_acc"] == 0.1
    assert IID.sweep_acc([at(0, 2, 0.3), at(0, 10, 0.4), at(0, 1, 0.5)]) == 0.4


def test_a_nan_loses_between_hparams_seeds():
    bad = record([0], 0, 1, ins=(0.9, 0, 0), outs=(0, NAN, 0))
    assert IID.sweep_acc([record([0], 0, 0, ins=(0.3, 0, 0)), bad]) == 0.3
    assert IID.sweep_acc([]) is None


def test_oracle_takes_the_last_step_whatever_its_accuracy():
    records = [
        record([0], 10, ins=(0.3, 0, 0), outs=(0.4, 0, 0)),
        record([0], 5, ins=(0.8, 0, 0), outs=(0.9, 0, 0)),
        record([0, 1], 20),
    ]
    assert ORACLE.run_acc(records) == {"val_acc": 0.4, "test_acc": 0.3}
    other = record([0], 10, hparams_seed=1, ins=(0.1, 0, 0), outs=(0.5, 0, 0))
    assert ORACLE.sweep_acc([*records, other]) == 0.1


def leave_one_out(step, test_acc, val1, val2):
    return [
        record([0], step, ins=(test_acc, 0, 0)),
        record([0, 1], step, ins=(0, val1, 0)),
        record([0, 2], step, ins=(0, 0, val2)),
    ]


def test_leave_one_out_reads_the_left_out_environments_of_the_pairs():
    records = [*leave_one_out(0, 0.1, 0.2, 0.6), *leave_one_out(1, 0.3, 0.5, 0.7)]
    found = LEAVE_ONE_OUT.run_acc(records)
    assert found == {"val_acc": pytest.approx(0.6), "test_acc": 0.3}


def test_leave_one_out_skips_incomplete_and_repeated_steps():
    complete, better = leave_one_out(0, 0.1, 0.2, 0.6), leave_one_out(1, 0.3, 0.5, 0.7)
    for broken in (better[1:], better[:2], [*better, better[0]]):
        assert LEAVE_ONE_OUT.run_acc([*complete, *broken])["test_acc"] == 0.1
    assert LEAVE_ONE_OUT.run_acc(complete[:2]) is None


def test_a_record_of_two_test_environments_joins_both_groups():
    groups = reporting.get_grouped_records([record([0, 2]), record([2], trial_seed=1)])
    about = [(g["trial_seed"], g["test_env"], len(g["records"])) for g in groups]
    assert about == [(0, 0, 1), (0, 2, 1), (1, 2, 1)]


def write(folder, records):
    folder.mkdir(parents=True)
    lines = [json.dumps(r) + "\n" for r in records]
    (folder / "results.jsonl").write_text("".join(lines))


def small_sweep(root):
    """Two trials of A on all three environments, one of B on the first."""
    for trial, (a, b, c) in enumerate([(0.5, 0.6, 0.7), (0.7, 0.6, 0.9)]):
        write(root / f"a{trial}0", [record([0], ins=(a, 0, 0), trial_seed=trial)])
        write(root / f"a{trial}1", [record([1], ins=(0, b, 0), trial_seed=trial)])
        write(root / f"a{trial}2", [record([2], ins=(0, 0, c), trial_seed=trial)])
    write(root / "b", [record([0], ins=(0.25, 0, 0), algorithm="B")])


# A, environment 0: 50 and 70: mean 60, population deviation 10, / sqrt 2 = 7.07.
# Averages: trials 60 and 73.33: mean 66.67, deviation 6.67, / sqrt 2 = 4.71.
TABLE = """
-------- Dataset: Debug28, model selection method: training-domain validation set
Algorithm             0                     1                     2                     Avg                  
A                     60.0 +/- 7.1          60.0 +/- 0.0          80.0 +/- 7.1          66.7                 
B                     25.0 +/- 0.0          X                     X                     X                    

-------- Averages, model selection method: training-domain validation set
Algorithm                  Debug28                    Avg                       
A                          66.7 +/- 4.7               66.7                      
B                          25.0 +/- 0.0               25.0                      
"""  # noqa: E501, W291


def test_tables(tmp_path, capsys):
    small_sweep(tmp_path)
    collect_results.main(["--input_dir", str(tmp_path)])
    out = capsys.readouterr().out
    assert out.startswith("Total records: 7\n" + TABLE)
    assert (tmp_path / "results.txt").read_text() == out


def test_latex(tmp_path, capsys):
    small_sweep(tmp_path)
    collect_results.main(["--input_dir", str(tmp_path), "--latex"])
    out = capsys.readouterr().out
    assert out.startswith("\\documentclass{article}\n\\usepackage{booktabs}\n")
    assert out.endswith("\\end{document}\n")
    assert "\\begin{tabular}{lcccc}\n\\toprule\n\\textbf{Algorithm}   & \\textbf{0} " in out
    assert "A                    & 60.0 $\\pm$ 7.1       & 60.0 $\\pm$ 0.0 " in out
    assert (tmp_path / "results.tex").read_text() == out


def test_what_cannot_be_read_is_named_and_left_out(tmp_path, capsys):
    small_sweep(tmp_path)
    with open(tmp_path / "b" / "results.jsonl", "a") as file:
        file.write('[1, 2]\n{"step": 3, "args": {"dataset": "X"}}\n{"args": {"algorithm": "E')
    (tmp_path / "odd" / "results.jsonl").mkdir(parents=True)
    write(tmp_path / "other", [record([0], dataset="Elsewhere")])
    collect_results.main(["--input_dir", str(tmp_path)])
    out, err = capsys.readouterr()
    assert out.startswith("Total records: 8\n" + TABLE)
    for line in (2, 3, 4):
        assert f"results.jsonl, line {line} is left out" in err
    assert "odd/results.jsonl is left out, since it cannot be read" in err
    assert "1 records are of the unknown data set Elsewhere" in err


def test_records_of_a_run_share_their_arguments_and_knobs(tmp_path):
    """5,040 runs of 17 records take 0.1 GB instead of 1.2."""
    (_, folder), *_ = make_sweep(tmp_path, trials=1)
    records = reporting.load_records(tmp_path)
    assert len(records) == 3 * 4 * 3
    for key in ("args", "hparams"):
        assert len({id(record[key]) for record in records}) == 3 * 4
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) in records


def test_bad_flags(tmp_path, capsys):
    for flags in (["--input_dir", str(tmp_path), "--auto_lr"], ["--input_dir", "/nowhere"]):
        with pytest.raises(SystemExit) as stop:
            collect_results.main(flags)
        assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "--auto_lr needs DomainBed itself" in err
    assert "no folder /nowhere" in err


@pytest.mark.host
def test_domainbeds_own_sweep(tmp_path, capsys):
    data = domainbed_root() / "domainbed" / "misc"
    shutil.copytree(data / "test_sweep_data", tmp_path / "sweep")
    collect_results.main(["--input_dir", str(tmp_path / "sweep")])
    assert capsys.readouterr().out == (data / "test_sweep_results.txt").read_text()


@pytest.mark.host
@pytest.mark.slow
@pytest.mark.parametrize("latex", [[], ["--latex"]])
def test_domainbed_prints_the_same_tables(real_host, tmp_path, capsys, latex):
    small_sweep(tmp_path / "sweep")
    flags = ["--input_dir", str(tmp_path / "sweep"), *latex]
    words = ["-m", "domainbed.scripts.collect_results", *flags]
    theirs = forked.run(words, real_host, check=True).stdout
    collect_results.main(flags)
    # DomainBed lists the algorithms that it does not know by folder order
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(theirs.splitlines())


def test_a_folder_that_cannot_be_written_is_read(tmp_path, capsys):
    small_sweep(tmp_path)
    (tmp_path / "results.txt").mkdir()
    collect_results.main(["--input_dir", str(tmp_path)])
    said = capsys.readouterr()
    assert "results are only printed" in said.err and TABLE in said.out


def test_latex_s_special_characters_stand_for_themselves():
    assert collect_results.escaped("CLIP_ERM +90% {x}") == r"CLIP\_ERM +90\% \{x\}"
