"""Table and plots of probe's recognition: which runs count in means, by hand."""

import pandas as pd
import pytest

from domainbed_carft.records.rows import Row
from domainbed_carft.reports import context_plots, context_tables, plots, whole_trials

DOMAINS = "APCS"


def cells(algorithm="CARFT", trial=0, test_envs="0", fine_tuned=0.5, kl=1.0, seed=0, step=2):
    """Return cells of both kinds of one run on its first test domain, and on a source domain."""
    env = int(test_envs.split()[0])
    about = {"dataset": "PACS", "algorithm": algorithm, "trial_seed": trial, "hparams_seed": seed}
    about |= {"test_envs": test_envs, "step": step, "group": "domain", "n": 9, "zero_shot": 0.5}
    about |= {"fine_tuned": fine_tuned, "kl": kl}
    source = {"domain": DOMAINS[(env + 1) % 4], "role": "source"}
    return [{**about, "domain": DOMAINS[env], "role": "target"}, {**about, **source}]


def summary(*runs):
    frame = pd.DataFrame([cell for run in runs for cell in run])
    table = context_tables.summary(frame, frame)
    assert set(table.role) == {"source", "target"}
    return table[table.role == "target"], context_tables.counted(frame)[1]


def four(**changes):
    values = zip("0123", (0.6, 0.7, 0.8, 0.9))
    return [cells(test_envs=env, fine_tuned=value, **changes) for env, value in values]


@pytest.fixture
def figures(monkeypatch):
    """Collects figures instead of saving them."""
    found = []
    monkeypatch.setattr(plots, "save", lambda figure, path: found.append(figure))
    return found


def test_a_trial_without_all_test_domains_is_left_out():
    short = [cells(trial=1, test_envs=env, fine_tuned=0.1) for env in "01"]
    table, sentences = summary(*four(), *short)
    (row,) = table.to_dict("records")
    # trial 0 alone, (60 + 70 + 80 + 90) / 4; with trial 1, it would be 42.5
    assert (row["trials"], row["fine-tuned %"], row["change"]) == (1, 75, pytest.approx(25))
    assert row["test_envs"] == "0, 1, 2, 3" and pd.isna(row["95 % low"])
    lacks = "Left out, for lack of test domains: CARFT on PACS, trial 1 (no C, S)"
    assert sentences == [lacks]


def test_without_a_whole_trial_the_domains_that_all_trials_have_count():
    runs = [cells(test_envs=env, fine_tuned=value) for env, value in zip("01", (0.6, 0.8))]
    runs += [cells(trial=1, test_envs=env, fine_tuned=value) for env, value in zip("12", (0.9, 0))]
    table, sentences = summary(*runs, *four(algorithm="CLIP_ERM"))
    rows = table.set_index("algorithm")
    assert rows.test_envs.to_dict() == {"CARFT": "1", "CLIP_ERM": "0, 1, 2, 3"}
    assert rows.loc["CARFT", "fine-tuned %"] == pytest.approx(85)  # 80 and 90
    assert rows.trials.to_dict() == {"CARFT": 2, "CLIP_ERM": 1}
    assert sentences == [
        "No trial of CARFT on PACS has all test domains. Its means are over test_envs 1, which "
        "all of its trials have"
    ]


def test_trials_of_unequal_domains_say_so_and_have_no_interval(figures):
    runs = [cells(test_envs="0", fine_tuned=0.6), cells(trial=1, test_envs="1", fine_tuned=0.8)]
    table, (sentence,) = summary(*runs)
    (row,) = table.to_dict("records")
    assert (row["test_envs"], row["trials"]) == ("unequal", 2)
    assert row["fine-tuned %"] == pytest.approx(70)
    assert pd.isna(row["95 % low"]) and pd.isna(row["95 % high"])
    assert "unequal ones, and not comparable: its trials have none in common" in sentence
    context_plots.recognition(table, {"CARFT": Row("CARFT")}, None)
    assert "interval" not in figures[0].get_suptitle()


def test_pairs_do_not_count_beside_single_test_domains():
    pair = cells(test_envs="0 1", fine_tuned=0.1, kl=9.0)
    table, sentences = summary(*four(), pair)
    (row,) = table.to_dict("records")
    assert row["fine-tuned %"] == 75 and row["KL"] == "1.0000" and not sentences
    (note,) = whole_trials.several(pd.DataFrame([*four()[0], *pair]))
    assert note == "1 runs on PACS with several test domains do not count beside those with one"
    (alone,) = summary(pair)[0].to_dict("records")
    assert (alone["test_envs"], alone["fine-tuned %"]) == ("0 1", pytest.approx(10))


def test_kl_is_a_mean_over_trials_of_their_means():
    runs = [cells(kl=1.0), cells(kl=2.0, seed=1), cells(trial=1, kl=4.5)]
    table, _ = summary(*runs)
    assert table.KL.tolist() == ["3.0000"]  # 1.5 and 4.5; over cells, 2.5


def test_environments_are_named_in_the_order_of_numbers():
    runs = [cells(test_envs=env) for env in ("0 10", "0 2", "0 1")]
    assert summary(*runs)[0].test_envs.tolist() == ["0 1, 0 2, 0 10"]


def test_the_curve_of_kl_has_the_steps_and_domains_of_all_runs(figures):
    runs = [
        *(cells(test_envs="0", kl=1.0, step=0), cells(test_envs="0", kl=2.0, step=2)),
        *(cells(test_envs="1", kl=3.0, step=0), cells(test_envs="1", kl=4.0, step=2)),
        *(cells(test_envs="1", kl=9.0, step=1), cells(test_envs="1", kl=9.0, trial=1, step=2)),
    ]
    frame = pd.DataFrame([cell for run in runs for cell in run])
    context_plots.kl_over_steps(frame, {"CARFT": Row("CARFT")}, None)
    (line,) = figures[0].axes[1].lines
    assert line.get_xdata().tolist() == [0, 2] and line.get_ydata().tolist() == [2, 3]


def test_the_plot_names_the_trials_and_zero_shot_of_all_rows(figures):
    zero = {"zero_shot": 0.25}
    other = [[{**cell, **zero} for cell in run] for t in (0, 1) for run in four(trial=t)]
    runs = [*other, *(run for t in range(3) for run in four(algorithm="CLIP_ERM", trial=t))]
    rows = {name: Row(name) for name in ("CARFT", "CLIP_ERM")}
    frame = pd.DataFrame([cell for run in runs for cell in run])
    context_plots.recognition(context_tables.summary(frame, frame), rows, None)
    assert "95 % interval over 2 to 3 trials" in figures[0].get_suptitle()
    (tick,) = figures[0].axes[1].get_xticklabels()
    assert tick.get_text() == "domain\n(25.0 to 50.0 %)"


def test_the_legend_of_recognition_covers_no_axes(figures):
    names = ("CARFT", "CLIP_ERM", "CLIP_FLYP", "CLIP_L2SP", "CLIP_MIRO")
    runs = [run for name in names for t in range(2) for run in four(algorithm=name, trial=t)]
    table, _ = summary(*runs)
    context_plots.recognition(table, {name: Row(name) for name in names}, None)
    (figure,) = figures
    figure.draw_without_rendering()
    assert not any(axes.get_legend() for axes in figure.axes)
    (legend,) = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == sorted(names)
    box = legend.get_window_extent()
    assert not any(axes.get_tightbbox().overlaps(box) for axes in figure.axes)
