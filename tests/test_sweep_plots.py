"""report_plots.py: the numbers that are drawn, read back from the figures."""

import json

import pandas as pd
import pytest
from synthetic_sweep import make_sweep
from test_result_tables import run, write

from domainbed_carft.records import soundness
from domainbed_carft.register import known_datasets
from domainbed_carft.reports import results, sweep_plots

KNOWN = known_datasets()
NAMES = {"Debug28": ["0", "1", "2"]}


@pytest.fixture
def made(tmp_path):
    """A on three environments in three trials: 50, 70 and 90 %."""
    for trial, accuracy in enumerate((0.5, 0.7, 0.9)):
        for env in range(3):
            first, second = run(env, accuracy, trial), run(env, accuracy, trial)
            second["step"], second["context_kl"], first["context_kl"] = 5, 0.1 * trial, 0.0
            second[f"env{env}_in_acc"] = accuracy - 0.1
            write(tmp_path, f"{trial}{env}", [first, second])
    sweep = soundness.read(tmp_path, KNOWN)
    return sweep, results.summarise(sweep, NAMES, ["Debug28"])


def test_points_and_their_intervals(made):
    """Mean 70, s = 20, t(2) = 4.3027: ± 4.3027 * 20 / √3 = 49.68."""
    panels = sweep_plots.points(made[1], "Debug28").axes
    assert [axes.get_title() for axes in panels] == ["0", "1", "2", "Avg"]
    for axes in panels:
        line, point = axes.lines
        assert line.get_xdata() == pytest.approx([70 - 49.68, 70 + 49.68], abs=0.01)
        assert point.get_xdata() == pytest.approx([70]) and point.get_ydata() == [0]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["A"]


def test_one_trial_has_points_without_intervals_and_the_first_algorithm_is_on_top(tmp_path):
    for algorithm, accuracy in (("A", 0.25), ("CARFT", 0.5)):
        write(tmp_path, algorithm, [run(0, accuracy, 0, algorithm)])
    sweep = soundness.read(tmp_path, KNOWN)
    panels = sweep_plots.points(results.summarise(sweep, NAMES, []), "Debug28").axes
    assert [list(line.get_xdata()) for line in panels[0].lines] == [[50], [25]]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["CARFT", "A"]
    assert panels[0].get_ylim() == (1.5, -0.5)


def test_curves(made):
    runs = sweep_plots.chosen_runs(*made, "Debug28")
    panels = sweep_plots.curves(made[1], "Debug28", runs).axes
    assert [axes.get_title() for axes in panels[:3]] == [f"test domain: {i}" for i in range(3)]
    (target,), (source,) = panels[0].lines, panels[3].lines
    assert target.get_xdata().tolist() == [0, 5]
    assert target.get_ydata() == pytest.approx([70, 60])
    assert source.get_ydata() == pytest.approx([50, 50])


def test_a_run_of_one_record_has_no_curve(made, tmp_path):
    for env in range(3):
        write(tmp_path, f"wise{env}", [run(env, 0.6, 0, "A+WiSE")])
    sweep = soundness.read(tmp_path, KNOWN)
    found = results.summarise(sweep, NAMES, [])
    figure = sweep_plots.curves(found, "Debug28", sweep_plots.chosen_runs(sweep, found, "Debug28"))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["A"]
    assert all(len(axes.lines) == 1 for axes in figure.axes)


def test_domains_without_runs_and_their_average_have_no_panels(tmp_path):
    """As after --test_envs 2 --single_test_envs. Avg is there once one row has all domains."""

    def add(name, *about):
        write(tmp_path, name, [{**run(*about), "step": step} for step in (0, 5)])

    add("A2", 2, 0.6, 0)
    sweep = soundness.read(tmp_path, KNOWN)
    found = results.summarise(sweep, NAMES, [])
    figure = sweep_plots.points(found, "Debug28")
    assert [axes.get_title() for axes in figure.axes] == ["2"]
    runs = sweep_plots.chosen_runs(sweep, found, "Debug28")
    target, source = sweep_plots.curves(found, "Debug28", runs).axes
    assert target.get_title() == "test domain: 2"
    assert target.lines[0].get_ydata() == pytest.approx([60, 60])
    assert source.lines[0].get_ydata() == pytest.approx([50, 50])

    for env in (0, 1):
        add(f"B{env}", env, 0.6, 0, "B")
    half = results.summarise(soundness.read(tmp_path, KNOWN), NAMES, [])
    titles = [axes.get_title() for axes in sweep_plots.points(half, "Debug28").axes]
    assert titles == ["0", "1", "2"]
    add("B2", 2, 0.6, 0, "B")
    whole = results.summarise(soundness.read(tmp_path, KNOWN), NAMES, [])
    panels = sweep_plots.points(whole, "Debug28").axes
    assert [axes.get_title() for axes in panels] == ["0", "1", "2", "Avg"]
    assert [line.get_ydata().tolist() for line in panels[3].lines] == [[1]]


def test_context_kl(made):
    runs = sweep_plots.chosen_runs(*made, "Debug28")
    (axes,) = sweep_plots.context_kl(made[1], "Debug28", runs).axes
    assert axes.lines[0].get_ydata() == pytest.approx([0, 0.1])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0, 0.2))


def test_lambdas(tmp_path):
    for value, target in ((0, 0.4), (1.0, 0.6), (10.0, 0.5)):
        made = run(0, target, 0, "CARFT", hparams=json.dumps({"carft_lambda": value}))
        made["hparams"] = {"carft_lambda": value}
        write(tmp_path, str(value), [made])
    for name in ("CARFT+WiSE", "CLIP_ERM"):  # have the knob in their records, and no λ
        other = run(0, 0.9, 0, name, hparams=json.dumps({"carft_lambda": 1.0}))
        write(tmp_path, name, [{**other, "hparams": {"carft_lambda": 1.0}}])
    sweep = soundness.read(tmp_path, KNOWN)
    (axes,) = sweep_plots.lambdas(sweep, "Debug28").axes
    target, source = axes.lines
    assert target.get_xdata().tolist() == [0, 1, 10]
    assert target.get_ydata() == pytest.approx([40, 60, 50])
    assert source.get_ydata() == pytest.approx([50, 50, 50])
    assert sweep_plots.lambdas(sweep, "Other") is None


def test_lambdas_compare_the_same_test_domains_and_no_other_knobs(tmp_path):
    settings = [(0, 0, 0.4, {}), (0, 1, 0.8, {}), (1.0, 0, 0.5, {}), (1.0, 0, 0.9, {"lr": 1e-3})]
    for i, (value, env, target, more) in enumerate(settings):
        knobs = {"carft_lambda": value, **more}
        made = run(0, target, 0, "CARFT", hparams=json.dumps(knobs))
        made["args"]["test_envs"] = [env]
        made |= {f"env{env}_in_acc": target, "hparams": {"lr": 5e-6, **knobs}}
        write(tmp_path, str(i), [made])
    (axes,) = sweep_plots.lambdas(soundness.read(tmp_path, KNOWN), "Debug28").axes
    assert axes.lines[0].get_ydata() == pytest.approx([40, 50])


def alphas(path, **changes):
    frame = pd.DataFrame(
        {
            **{"dataset": "PACS", "algorithm": "CARFT", "test_env": [0, 0, 1, 1]},
            **{"trial_seed": 0, "alpha": [0.0, 1.0, 0.0, 1.0]},
            **{"source_validation": [0.8, 0.9, 0.6, 0.7], "target_accuracy": [0.5, 0.4, 0.7, 0.8]},
            **changes,
        }
    )
    frame.drop(columns=[k for k, v in changes.items() if v is None]).to_csv(path, index=False)


def test_alpha_curve(tmp_path):
    alphas(tmp_path / "wise_ft.csv")
    frame, problems = sweep_plots.read_alphas(tmp_path)
    (axes,) = sweep_plots.alpha_curve(frame, ["CARFT"]).axes
    assert axes.lines[0].get_xdata() == pytest.approx([70, 80])
    assert axes.lines[0].get_ydata() == pytest.approx([60, 60]) and not problems


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"alpha": None}, "no columns alpha"),
        ({"alpha": 2.0}, "alpha outside"),
        ({"target_accuracy": "x"}, "x"),
    ],
)
def test_a_wrong_alpha_file_is_named(changes, message, tmp_path):
    alphas(tmp_path / "wise_ft.csv", **changes)
    frame, (problem,) = sweep_plots.read_alphas(tmp_path)
    assert frame is None and message in str(problem) and "wise_ft.csv" in str(problem)


def test_no_alpha_file(tmp_path):
    assert sweep_plots.read_alphas(tmp_path) == (None, [])


def test_nothing_is_drawn_of_nothing(tmp_path):
    make_sweep(tmp_path, algorithms=("A",), trials=1, steps=(0,))
    sweep = soundness.read(tmp_path, KNOWN)
    found = results.summarise(sweep, {"PACS": list("ACPS")}, [])
    plots = sweep_plots.draw(sweep, found, None, tmp_path / "plots")
    assert [plot.title for plot in plots] == ["PACS: accuracy on the test domain"]
