"""sweeps/: every script's header and knobs, and compare.py's numbers."""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from domainbed import hparams_registry

from domainbed_carft.algorithms import methods

FOLDER = Path(__file__).parents[1] / "sweeps"
SCRIPTS = sorted(FOLDER.glob("*_*.sh"))  # ablation.sh is a part of others


def load_compare():
    spec = importlib.util.spec_from_file_location("compare", FOLDER / "compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compare = load_compare()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_says_question_cost_and_output(script):
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert re.search(r"^# Question: .*^# Cost: .*^# Output: ", text, re.M | re.S)
    for name in re.findall(r"\bCLIP_\w+|\bCARFT\b", text.partition("# Output:")[2]):
        assert name in methods.METHODS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_s_knobs_are_right(script):
    text = script.read_text().partition("# Output:")[2].replace('\\"', '"').replace("$KIND", "ema")
    text = re.sub(r"\$\(dirname .*?\)/", "", text).replace("$value", "1")
    for given in re.findall(r'\{"c.*?\}', text):
        defaults = hparams_registry.default_hparams("CARFT", "DigitStyles")
        methods.check("CARFT", {**defaults, **json.loads(given)})


@pytest.mark.parametrize("name", ["digitstyles_baselines.sh", "domainbed_baselines_vitb16.sh"])
def test_the_baselines_scripts_have_every_algorithm(name):
    text = (FOLDER / name).read_text().partition("# Output:")[2]
    assert set(re.findall(r"\bCLIP_\w+|\bCARFT\b", text)) == set(methods.METHODS)


def record(algorithm, trial, env, step, validation, target, seconds):
    """Of three environments; validation and target in per cent."""
    outs = {f"env{i}_out_acc": (target if i == env else validation) / 100 for i in range(3)}
    args = {
        **{"dataset": "Toy", "algorithm": algorithm, "trial_seed": trial},
        **{"test_envs": [env], "hparams_seed": 0, "output_dir": f"{algorithm}{trial}{env}"},
    }
    values = {"step": step, "step_time": seconds, "hparams": {}, "args": args}
    return {**outs, f"env{env}_in_acc": target / 100, **values}


def write(folder, rows):
    for i, lines in enumerate(rows):
        job = folder / str(i)
        job.mkdir(parents=True)
        (job / "done").write_text("done")
        (job / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def sweeps(tmp_path):
    """CLIP_ERM and CARFT in main/, CARFT in other/; two trials of two test environments."""
    rows = [
        [record(name, trial, env, 0, 50, 40, 1.0), record(name, trial, env, 9, v, t, 2.0)]
        for name, v, base in (("CLIP_ERM", 80, 60), ("CARFT", 82, 62))
        for trial in (0, 1)
        for env in (0, 1)
        for t in [base + 4 * trial + 2 * env]
    ]
    write(tmp_path / "main", rows)
    other = [[record("CARFT", trial, env, 9, 70, 70, 1.0)] for trial in (0, 1) for env in (0, 1)]
    write(tmp_path / "other", other[:-1])  # trial 1 lacks an environment
    return tmp_path


def test_the_table_by_hand(sweeps):
    rows = compare.collect([sweeps / "main", sweeps / "other"], None)
    frame = compare.compare(rows, "CLIP_ERM")
    assert frame["algorithm"].tolist() == ["CARFT", "CLIP_ERM", "CARFT, other"]  # by validation
    assert frame["n"].tolist() == [2, 2, 1]
    # CARFT: means over the environments 63 and 67; population deviation 2, over √2
    assert frame["training"].tolist() == ["65.0 ± 1.4", "63.0 ± 1.4", "70.0"]
    assert frame["validation"].tolist() == ["82.0 ± 0.0", "80.0 ± 0.0", "70.0"]
    assert frame["oracle"].tolist() == frame["training"].tolist()
    assert frame["leave-one-out"].isna().all()
    # +2 in either trial; one trial has no interval
    differences = frame["training − CLIP_ERM"]
    assert differences[0] == "+2.0 [+2.0, +2.0]" and differences[2] == "+9.0"
    assert differences[1] == ""
    assert frame["oracle − CLIP_ERM"].tolist() == differences.tolist()
    assert frame["leave-one-out − CLIP_ERM"].fillna("X").tolist() == ["X", "", "X"]
    assert frame["validation − CLIP_ERM"].tolist() == ["+2.0 [+2.0, +2.0]", "", "-10.0"]
    assert frame["training at step 0"].tolist() == ["0 of 4", "0 of 4", "0 of 2"]
    # a step of 1 s and nine of 2 s; ten of 1 s
    assert frame["minutes"].tolist() == pytest.approx([19 / 60, 19 / 60, 10 / 60])


def test_costs_are_those_that_runs_recorded(sweeps):
    plain = compare.compare(compare.collect([sweeps / "main"], None), "CLIP_ERM")
    assert not {"trained (M)", "memory (GB)"} & set(plain.columns)
    # runs 0 to 3 are CLIP_ERM's; older runs have no such facts
    for i, size in (("0", 1_500_000_000), ("1", 2_000_000_000)):
        facts = {"trained_parameters": 86_200_000, "training_bytes": size}
        (sweeps / "main" / i / "provenance.json").write_text(json.dumps(facts))
    frame = compare.compare(compare.collect([sweeps / "main"], None), "CLIP_ERM")
    row = frame.set_index("algorithm").loc["CLIP_ERM"]
    assert (row["trained (M)"], row["memory (GB)"]) == (86.2, 2.0)
    assert frame.set_index("algorithm").loc["CARFT"][["trained (M)", "memory (GB)"]].isna().all()


def test_the_plot_has_the_table_s_differences(sweeps):
    rows = compare.collect([sweeps / "main", sweeps / "other"], None)
    names = ["CARFT", "CLIP_ERM", "CARFT, other"]
    training, oracle = compare.draw(rows, names, "CLIP_ERM").axes
    assert (training.get_title(), oracle.get_title()) == ("training", "oracle")
    lines = training.lines[1:]  # the first is the one at 0
    found = [(list(line.get_xdata()), set(line.get_ydata())) for line in lines]
    assert found[0] == (pytest.approx([2, 2]), {0}) and found[1] == (pytest.approx([2]), {0})
    assert np.isnan(found[2][0]).all() and found[3] == (pytest.approx([9]), {2})
    assert [text.get_text() for text in training.get_yticklabels()] == names
    alone = {"CLIP_ERM": rows["CLIP_ERM"]}
    assert compare.draw(alone, ["CLIP_ERM"], "CLIP_ERM") is None


def test_wise_ft_s_rows_come_behind_whatever_their_validation(sweeps):
    wise = [[record("CARFT+WiSE", t, e, 9, 99, 50, 1.0)] for t in (0, 1) for e in (0, 1)]
    write(sweeps / "wise", wise)
    rows = compare.collect([sweeps / "main", sweeps / "wise"], None)
    names = compare.compare(rows, "CLIP_ERM")["algorithm"].tolist()
    assert names == ["CARFT", "CLIP_ERM", "CARFT+WiSE, wise"]
    last = compare.compare(rows, "CLIP_ERM").iloc[-1]
    assert last["validation"] == "99.0 ± 0.0 (plain)" and not last["validation − CLIP_ERM"]


def test_cells_at_step_0_are_counted(tmp_path):
    def run(env, first):
        last = record("CLIP_ERM", 0, env, 9, 80, 60, 1.0)
        return [record("CLIP_ERM", 0, env, 0, first, 40, 1.0), last]

    rows = [run(0, 90), run(1, 70)]
    write(tmp_path / "main", rows)
    found = compare.compare(compare.collect([tmp_path / "main"], None), "CLIP_ERM")
    assert found["training at step 0"].tolist() == ["1 of 2"]
    assert found["training"].tolist() == ["50.0"] and found["leave-one-out at step 0"].isna().all()


def test_leave_one_out_of_fewer_trials_says_so_and_its_runs_are_not_timed(tmp_path):
    def run(envs, trial, target):
        line = record("CLIP_ERM", trial, envs[0], 0, 80, target, 3.0 if envs[1:] else 60.0)
        args = {**line["args"], "test_envs": envs, "output_dir": f"{envs}{trial}"}
        pair = {f"env{env}_in_acc": target / 100 for env in envs}
        return [{**line, **pair, "args": args}]

    single = [run([env], trial, 60 + trial) for trial in (0, 1) for env in (0, 1, 2)]
    write(tmp_path / "main", single + [run(envs, 0, 50) for envs in ([0, 1], [0, 2], [1, 2])])
    found = compare.compare(compare.collect([tmp_path / "main"], None), "CLIP_ERM")
    assert found["n"].tolist() == [2] and found["training"].tolist() == ["60.5 ± 0.4"]
    assert found["leave-one-out"].tolist() == ["60.0 (n = 1)"]
    assert found["leave-one-out at step 0"].tolist() == ["3 of 3"]
    assert found["minutes"].tolist() == [1.0]


def test_what_is_not_finished_is_named_and_left_out(sweeps, capsys):
    (sweeps / "main" / "7" / "done").unlink()  # CARFT, trial 1, environment 1
    lines = (sweeps / "main" / "7" / "results.jsonl").read_text().splitlines(keepends=True)
    (sweeps / "main" / "7" / "results.jsonl").write_text(lines[0])
    found = compare.compare(compare.collect([sweeps / "main"], None), "CLIP_ERM")
    assert "7: not finished: its records end at step 0 of 9; left out" in capsys.readouterr().err
    assert found["algorithm"].tolist() == ["CARFT", "CLIP_ERM"] and found["n"].tolist() == [1, 2]
    assert found["oracle − CLIP_ERM"].tolist() == ["+2.0", ""]


def test_an_environment_that_no_trial_of_a_row_has_is_missed(sweeps):
    for i in (5, 7):  # CARFT, environment 1
        (sweeps / "main" / str(i) / "results.jsonl").unlink()
    found = compare.compare(compare.collect([sweeps / "main"], None), "CLIP_ERM")
    assert dict(zip(found["algorithm"], found["n"])) == {"CARFT": 0, "CLIP_ERM": 2}
    assert found["training"].isna().tolist() == (found["algorithm"] == "CARFT").tolist()


def test_only_some_trials(sweeps):
    rows = compare.collect([sweeps / "main"], [1])
    assert compare.compare(rows, "CLIP_ERM")["training"].tolist() == ["67.0", "65.0"]
    assert list(compare.collect([sweeps / "main", sweeps / "other"], [0])) == [
        *("CARFT", "CLIP_ERM", "CARFT, other")
    ]
    assert compare.collect([sweeps / "main"], [5]) == {}


def test_the_command_and_its_errors(sweeps, capsys):
    compare.main([str(sweeps / "main"), "--output_dir", str(sweeps / "saved")])
    assert "CARFT" in capsys.readouterr().out
    assert (sweeps / "saved" / "compare.md").read_text().startswith("| algorithm")
    assert (sweeps / "saved" / "compare.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match="2"):
        compare.main([str(sweeps / "main"), "--baseline", "ERM"])
    assert "--baseline must be one of 'CARFT', 'CLIP_ERM', got 'ERM'" in capsys.readouterr().err
    (sweeps / "empty").mkdir()
    with pytest.raises(SystemExit, match="no finished run in .*empty"):
        compare.main([str(sweeps / "empty")])
    with pytest.raises(SystemExit, match="no folder nowhere"):
        compare.main(["nowhere"])
    with pytest.raises(SystemExit, match="Two rows would be called 'CARFT, other'"):
        compare.main([str(sweeps / name) for name in ("main", "other", "other")])


def test_the_default_baseline_is_of_the_first_sweep_that_has_it(sweeps, capsys):
    shutil.copytree(sweeps / "main", sweeps / "demo")
    compare.main([str(sweeps / name) for name in ("other", "demo")])
    assert "training − CLIP_ERM, demo" in capsys.readouterr().out
    compare.main([str(sweeps / name) for name in ("demo", "main")])
    assert "training − CLIP_ERM  " in capsys.readouterr().out
    shutil.copytree(sweeps / "other", sweeps / "own")
    with pytest.raises(SystemExit, match="2"):
        compare.main([str(sweeps / name) for name in ("other", "own")])
    said = "no sweep has runs of CLIP_ERM: give --baseline, one of 'CARFT, other', 'CARFT, own'"
    assert said in capsys.readouterr().err


def test_missing_times_are_missing_not_0():
    line = record("CARFT+WiSE", 0, 0, 9, 70, 70, 1.0)
    del line["step_time"]
    assert np.isnan(compare.minutes([line]))
