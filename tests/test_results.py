"""results/: tables are those of the records, the index and README those of the tables."""

import argparse
import json
import re
import shutil
import statistics
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import results  # noqa: E402
from domainbed_carft import records, stats  # noqa: E402

FOLDERS = sorted(path.parent for path in (ROOT / "results").glob("*/provenance.json"))
PARTS = [part for folder in FOLDERS for part in sorted(folder.iterdir()) if part.is_dir()]


def test_there_are_results():
    assert FOLDERS


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.parent.name}-{part.name}")
def test_tables_are_those_of_the_records(part, tmp_path):
    if part.name in results.COMPARED:
        made = tmp_path / part.name
        shutil.copytree(part / "records", made / "records")
        results.make_comparisons(made)
        names = {path.name for path in part.iterdir()}
        assert {path.name for path in made.iterdir()} == names
        for name in (name for name in names - {"records"} if not name.endswith(".png")):
            assert (made / name).read_text() == (part / name).read_text()
        return
    if not (part / "tables.txt").exists():
        assert (part / "table.csv").exists()  # an ablation: test_ablation.py makes its table anew
        return
    shutil.copytree(part / "records", tmp_path / "records")
    results.make_tables(tmp_path)
    made = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert made == sorted(path.name for path in part.iterdir() if path.is_file())
    for name in made:
        assert (tmp_path / name).read_text() == (part / name).read_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_provenance_is_complete(folder):
    about = json.loads((folder / "provenance.json").read_text())
    assert set(about) == {"commit", "finished", "seeds", "parts"}
    assert set(about["parts"]) == {path.name for path in folder.iterdir() if path.is_dir()}
    for name, part in about["parts"].items():
        assert part["commit"] and part["machine"] and part["question"] and part["n"]
        assert set(part["versions"]) == {"python", *results.PACKAGES}
        assert part["runs"] == len(list((folder / name / "records").rglob("results.jsonl"))) > 0
        assert (ROOT / part["command"].split()[-1]).is_file()


def test_no_record_names_a_place_of_this_machine():
    for file in (ROOT / "results").rglob("results.jsonl"):
        assert not re.search(r'": "/', file.read_text()), file


def test_the_index_is_the_one_made_by_code():
    assert (ROOT / "results" / "README.md").read_text() == results.index()


def test_the_table_in_readme_is_the_newest_one():
    readme = (ROOT / "README.md").read_text()
    assert results.with_main_table(readme) == readme
    (name,) = set(re.findall(r"results/(\d{4}-\d\d-\d\d_\w+)", readme))
    assert name == results.newest().name


def test_versus_by_hand():
    def record(algorithm, trial, target):
        args = {
            "dataset": "DigitStyles",
            "algorithm": algorithm,
            "test_envs": [0],
            "trial_seed": trial,
            "hparams_seed": 0,
        }
        found = {f"env{i}_{s}_acc": 0.5 for i in range(4) for s in ("in", "out")}
        return {"step": 0, "args": args, **found, "env0_in_acc": target}

    accuracies = {"CLIP_ERM": (0.5, 0.6, 0.7), "CARFT": (0.6, 0.8, 1.0)}
    found = [record(a, t, x) for a, row in accuracies.items() for t, x in enumerate(row)]
    results_of = [r for env in range(4) for r in map(lambda r: with_env(r, env), found)]
    table = results.versus(results_of).set_index("algorithm")
    # 60 ± 10·√(2/3)/√3 = 60 ± 4.7; differences 10, 20, 30: 20 ± 4.3027·10/√3 = 20 ± 24.8
    assert table.loc["CLIP_ERM", "scan"] == table.loc["CLIP_ERM", "average"] == "60.0 ± 4.7"
    assert table.loc["CARFT"].iloc[-1] == "+20.0 [-4.8, +44.8]"
    assert table.loc["CLIP_ERM"].iloc[-1] == ""
    assert list(table.n) == [3, 3] and set(table["source validation"]) == {"50.0 ± 0.0"}


def with_env(record, env):
    """The same record with another test domain."""
    accuracy = record["env0_in_acc"]
    return {
        **record,
        "args": {**record["args"], "test_envs": [env]},
        "env0_in_acc": 0.5,
        f"env{env}_in_acc": accuracy,
    }


def test_unfinished_runs_are_refused(tmp_path):
    (tmp_path / "sweep" / "job").mkdir(parents=True)
    (tmp_path / "sweep" / "job" / "results.jsonl").write_text("{}\n")
    with pytest.raises(SystemExit, match="is not done"):
        results.copy_records(tmp_path / "sweep", tmp_path / "out")
    with pytest.raises(SystemExit, match="No records"):
        results.copy_records(tmp_path / "nowhere", tmp_path / "out2")


def test_a_part_is_replaced_and_the_others_stay(tmp_path):
    records_of_main, output = results.newest() / "main" / "records", tmp_path / "2026-01-01_abcdef0"
    for file in records_of_main.glob("*/results.jsonl"):
        if json.loads(file.read_text().split("\n")[0])["args"]["trial_seed"] == 0:
            shutil.copytree(file.parent, tmp_path / "sweep" / file.parent.name)
            (tmp_path / "sweep" / file.parent.name / "done").touch()

    def write(part, machine):
        parts = dict.fromkeys([*results.PARTS, *results.COMPARED])
        parts |= {part: tmp_path / "sweep", "ablations": []}
        about = {"output": output, "machine": machine, "commit": None, "command": None}
        results.write(argparse.Namespace(**parts, **about))
        return json.loads((output / "provenance.json").read_text())["parts"]

    first = write("main", "one")
    assert (first["main"]["runs"], first["main"]["commit"]) == (12, "abcdef0")
    second = write("real_host", "two")
    assert second["main"] == first["main"] and second["real_host"]["machine"] == "two"
    assert write("main", "three")["main"]["machine"] == "three"
    assert (output / "real_host" / "tables.txt").exists()
    next((tmp_path / "sweep").glob("*/done")).unlink()
    with pytest.raises(SystemExit, match="is not done"):
        write("main", "four")
    assert {path.name for path in output.iterdir()} == {"main", "real_host", "provenance.json"}
    assert len(list((output / "main" / "records").iterdir())) == 12


def test_every_script_says_its_question():
    for script in (ROOT / "sweeps").glob("*_*.sh"):
        assert results.question(script.name).endswith(("?", ".", ")")), script


def averages(part, setting, rule):
    """{algorithm: average per trial} of a setting of a part of the results."""
    cells = records.accuracies(records.load(results.newest() / part / "records" / setting), rule)
    return {
        name: records.by_trial(cells[cells.algorithm == name], range(4))
        for name in set(cells.algorithm)
    }


def test_the_claims_on_averages_and_strength_are_those_of_the_results():
    text = " ".join((ROOT / "docs" / "findings.md").read_text().split())
    adds, tops, same = [], [], []
    for rule in ("training", "oracle"):
        main = averages("baselines", "main", rule)
        strong = averages("ablation_lambda", "30", rule)["CARFT"]
        same.append(results.interval_text((main["CLIP_Distill"] - strong).dropna()))
        for kind in ("ema", "beta"):
            of = averages("baselines", f"average_{kind}", rule)
            tops.append(results.interval_text(of["CARFT"] - of["CLIP_ERM"]))
            if rule == "training":
                adds += [results.interval_text(of[k] - main[k]) for k in ("CLIP_ERM", "CARFT")]
    assert "`ema` adds {} to `CLIP_ERM` and {} to `CARFT`, `beta` {} and {}.".format(*adds) in text
    said = "with `ema`, {0} (last step {2}), with `beta` {1} (last step {3})"
    assert said.format(*tops) in text
    assert len(strong) == 3
    assert "`CARFT` at λ = 30: {} (last step {}, n = 3)".format(*same) in text
    short = " ".join((ROOT / "README.md").read_text().split())
    strong = averages("ablation_lambda", "30", "training")["CARFT"]
    assert f"as far as `CLIP_Distill` ({strong.mean():.1f} %, n = 3)" in short


def test_the_claims_on_leave_one_domain_out_are_those_of_the_results():
    text = " ".join((ROOT / "docs" / "findings.md").read_text().split())
    every = pd.read_csv(results.newest() / "baselines" / "compare.csv", index_col=0)
    found = every["leave-one-out"].dropna().str.split()
    assert set(found.index) == {name for name in every.index if not name.endswith("+WiSE")}
    start = found.index.drop(["CLIP_LP", "CLIP_LPFT", "CLIP_ZeroShot"])
    counts = every.loc[start, "leave-one-out at step 0"].str.extract(r"(\d+) of (\d+)")
    first, cells = counts.astype(int).sum()
    n = cells // (4 * len(start))
    assert f"selection (n = {n}) sees" in text and found["CARFT"][-1] == f"{n})"
    assert f"in {first} of {cells} cells of the rows that start there" in text
    assert f"have {found[start].min()[0]} to {found[start].max()[0]} %," in text
    probes = "`CLIP_LP` ({}) and `CLIP_LPFT` ({}) start"
    assert probes.format(found["CLIP_LP"][0], found["CLIP_LPFT"][0]) in text


def test_the_claims_on_chosen_learning_rates_are_those_of_the_results():
    found = records.load(results.newest() / "hparams" / "records")
    rates = {
        (r["args"]["trial_seed"], r["args"]["hparams_seed"]): r["hparams"]["lr"] for r in found
    }
    assert sum(rate < 3e-4 for (_, seed), rate in rates.items() if seed) == 5 and len(rates) == 9
    lower = {"CLIP_ERM": 0, "CARFT": 0}
    for row in records.accuracies(found).itertuples():
        lower[row.algorithm] += rates[row.trial_seed, row.hparams_seed] < 3e-4
    text = " ".join((ROOT / "docs" / "findings.md").read_text().split())
    said = "for `CLIP_ERM` in {CLIP_ERM} of 12 cells, for `CARFT` in {CARFT}."
    assert said.format(**lower) in text


def test_the_claims_in_prose_are_those_of_the_results():
    short, readme = (
        " ".join((ROOT / name).read_text().split()) for name in ("README.md", "docs/findings.md")
    )
    probe = pd.read_csv(results.newest() / "main" / "probe" / "summary.csv")
    target = probe[probe.role == "target"].set_index(["algorithm", "context"])
    erm, carft = target.loc["CLIP_ERM"], target.loc["CARFT"]
    for group in ("background", "source"):
        row = erm.loc[group]
        assert f"{-row.change:.1f} points (" in readme
        assert f"({row['zero-shot %']:.1f} to {row['fine-tuned %']:.1f} %)" in readme
    changes = target.change.unstack("algorithm")
    assert (changes.CARFT > changes.CLIP_ERM).drop("tilt").sum() == 6 and len(changes) == 7
    cells = pd.read_csv(results.newest() / "main" / "probe" / "recognition.csv")
    tilt = cells[(cells.role == "target") & (cells.group == "tilt")]
    of = tilt.groupby(["algorithm", "trial_seed"]).fine_tuned.mean()
    _, low, high = stats.interval(of["CARFT"] - of["CLIP_ERM"])
    assert low < 0 < high  # "no difference is shown"
    kept = [f"{-carft.loc[group].change:.1f}" for group in ("background", "source")]
    assert f"(background {kept[0]}, style {kept[1]})" in readme
    lost = {n: [f"{x:.1f}" for x in sorted(-changes[n])] for n in ("CLIP_ERM", "CARFT")}
    least, most = lost["CLIP_ERM"][0], lost["CLIP_ERM"][-1]
    assert f"seven kinds of context {least} to {most} points less often than zero-shot" in readme
    assert f"are recognised {least} to {most} points less often than by zero-shot CLIP" in short
    least, most = lost["CARFT"][0], lost["CARFT"][-1]
    assert f"With `CARFT` it is {least} to {most}." in short
    assert f"it loses {least} to {most} points (" in readme
    found = records.load(results.newest() / "main" / "records")
    main = records.accuracies(found)
    chosen = 100 * main[main.algorithm == "CLIP_ZeroShot"].validation.mean()
    of_all = 100 * statistics.mean(
        record[f"env{i}_out_acc"]
        for record in found
        if record["args"]["algorithm"] == "CLIP_ZeroShot"
        for i in {*range(4)} - {*record["args"]["test_envs"]}
    )
    how_to_read = (ROOT / "docs" / "how_to_read_the_numbers.md").read_text()
    assert f"has {chosen:.1f} % where the mean of its records is {of_all:.1f}." in how_to_read
    first = main[main.trial_seed == 0].groupby("algorithm").accuracy.mean() * 100
    order = ("CLIP_ZeroShot", "CLIP_ERM", "CARFT")
    assert "(averages {:.1f}, {:.1f} and {:.1f} %;".format(*first[list(order)]) in short
    assert ((main.step == 0) & (main.trial_seed == 0)).groupby(main.algorithm).sum().CARFT == 1
    last = pd.read_csv(results.newest() / "main" / "versus_oracle.csv").set_index("algorithm")
    assert f"last step of every run: {last.loc['CARFT'].iloc[-1]};" in readme
    ablation = pd.read_csv(results.newest() / "ablation_lambda" / "table.csv")
    row = ablation[ablation.setting == 30].iloc[0]
    change = f"{row.change:+.1f} [{row['95 % low']:+.1f}, {row['95 % high']:+.1f}]"
    assert f"(λ = 30: {change} over `CLIP_ERM`, n = {row.n};" in readme
    searched = {
        rule: pd.read_csv(results.newest() / "hparams" / f"versus_{rule}.csv", index_col=0)
        for rule in ("training", "oracle")
    }
    searched_to = searched["training"].average.str.split().str[0]
    change = searched["training"].loc["CARFT"].iloc[-1]
    rise = (
        f"`CLIP_ERM` rises to {searched_to.CLIP_ERM} %, too, and no gain is shown ({change}, n = 3)"
    )
    assert rise in short
    erm_rise = f"`CLIP_ERM` rises to {searched_to.CLIP_ERM} %, `CARFT` to {searched_to.CARFT} %"
    assert f"{erm_rise}, {searched['training'].loc['CARFT'].iloc[-1]}" in readme
    assert f"by oracle (last step) {searched['oracle'].loc['CARFT'].iloc[-1]}" in readme
    length = pd.read_csv(results.newest() / "ablation_length" / "table.csv")
    by_setting = length.pivot(index="setting", columns="algorithm")
    ahead = by_setting["last step"].CARFT - by_setting["last step"].CLIP_ERM
    points = [f"{ahead[f'201 steps, lr {lr}']:.1f}" for lr in ("1e-4", "3e-4", "1e-3")]
    assert "{} points at lr 1e-4, {} at 3e-4, {} at 1e-3".format(*points) in readme
    assert (by_setting.average.CARFT < by_setting.average.CLIP_ERM).sum() == 1
    every = pd.read_csv(results.newest() / "baselines" / "compare.csv", index_col=0)
    gain = every["training − CLIP_ERM"]
    trained_or_not = every[~every.index.str.contains(results.wise_ft.WISE, regex=False)]
    assert set(trained_or_not.n) == {5}
    for name in ("LipsumFT", "Distill", "CLIPood", "MIRO"):
        assert f"`CLIP_{name}` {gain[f'CLIP_{name}']}" in readme
    assert f"ahead of `CARFT`, {gain.CARFT};" in readme
    for name in ("CLIP_L2SP", "CLIP_LP", "CLIP_FLYP"):
        assert float(gain[name].partition("[")[2].partition(",")[0]) <= 0
    assert f"loses {gain.CLIP_LPFT[1:4]}. None" in readme
    assert f"zero-shot CLIP, {gain.CLIP_ZeroShot}." in readme
    flyp = every.loc["CLIP_FLYP", "oracle − CLIP_ERM"]
    assert f"`CLIP_FLYP` none, and at the last step a loss ({flyp})" in readme
    assert f"`CLIP_ERM+WiSE` {gain['CLIP_ERM+WiSE']}, `CARFT+WiSE` {gain['CARFT+WiSE']}." in readme
    best = every.training.str.split().str[0].astype(float).drop("CLIP_ZeroShot")
    assert best[trained_or_not.index.drop("CLIP_ZeroShot")].idxmax() == "CLIP_LipsumFT"
    assert list(every.index[:2]) == ["CLIP_CLIPood", "CLIP_MIRO"]
    gains = [gain[name].split()[0] for name in ("CLIP_LipsumFT", "CLIP_Distill", "CARFT")]
    said = "`CLIP_LipsumFT` ({}) and `CLIP_Distill` ({}) gain more over"
    assert f"{said} `CLIP_ERM` than `CARFT` ({{}})".format(*gains) in short
    averaged = [every.training[f"{name}, average_ema"].split()[0] for name in ("CLIP_ERM", "CARFT")]
    assert "average `CLIP_ERM` reaches {} %, `CARFT` {} % (".format(*averaged) in short
    confirmed = pd.read_csv(results.newest() / "carft_plus" / "confirm.csv", index_col=0)
    assert set(confirmed.n) == {5}
    by_rule = [confirmed.loc["CARFT, ema", f"{rule} − CARFT"] for rule in ("training", "oracle")]
    chosen = "{} points over `CARFT` by training-domain validation, {} at the last step"
    assert chosen.format(*by_rule) in readme
    assert f"gains {by_rule[0]} points over `CARFT`, confirmed on five trials" in short
    at_last = records.accuracies(records.load(results.newest() / "main" / "records"), "oracle")
    for env in range(4):
        part = at_last[at_last.test_env == env].pivot(index="trial_seed", columns="algorithm")
        assert (
            stats.interval(part["accuracy"].CARFT - part["accuracy"].CLIP_ERM)[1] > 0
        )  # "all four"
    cells = records.accuracies(records.load(results.newest() / "main" / "records"))
    for env, label in ((2, "sign"), (3, "sketch")):
        part = cells[cells.test_env == env].pivot(index="trial_seed", columns="algorithm")
        change = 100 * (part["accuracy"].CARFT - part["accuracy"].CLIP_ERM)
        assert f"{label}, {results.interval_text(change)}" in readme
    assert f"is {carft.KL.iloc[0]:.2f} instead of {erm.KL.iloc[0]:.2f} nats" in readme


def test_the_real_host_agrees():
    """Zero-shot to the digit; the others within the 95 % prediction interval of another trial."""
    folder = results.newest()
    ours, real = (
        records.accuracies(records.load(folder / part / "records"))
        for part in ("main", "real_host")
    )
    assert len(real) == 12
    for row in real.itertuples():
        same = ours[(ours.algorithm == row.algorithm) & (ours.test_env == row.test_env)]
        if row.algorithm == "CLIP_ZeroShot":
            assert row.accuracy == same[same.trial_seed == row.trial_seed].accuracy.item()
        n, t = len(same), 2.776  # Student's t, 4 degrees of freedom
        assert n == 5
        width = t * same.accuracy.std() * (1 + 1 / n) ** 0.5
        assert abs(row.accuracy - same.accuracy.mean()) <= width
