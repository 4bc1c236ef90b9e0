"""Tables of a sweep's selected hparams, shared hparams and missing runs."""

import pandas as pd

from .results import Table, frame_of

CHOSEN = (
    *("rule", "dataset", "algorithm", "domain", "trial", "hparams_seed", "step"),
    *("validation", "accuracy"),
)


def chosen_table(summary, sweep):
    """Return a Table of the hparams and step that each rule selected, by cell and trial."""
    jobs = {}
    for job in sweep.sound:
        key = (*_kind(job), job.args["hparams_seed"])
        for env in job.args["test_envs"]:
            jobs.setdefault((*key, job.args["trial_seed"], env), []).append(job)
    varied = _varied_hparams(sweep)
    by = ("dataset", "algorithm", "test_env", "trial_seed")
    rows, data = [], []
    for rule, frame in summary.chosen.items():
        for row in frame.sort_values([*by]).itertuples():
            key = (row.dataset, row.algorithm, row.hparams_seed, row.trial_seed, row.test_env)
            hparams = jobs[key][0].records[0].get("hparams") or {}
            shown = {k: hparams.get(k) for k in varied.get((row.dataset, row.algorithm), ())}
            domain = summary.datasets[row.dataset][row.test_env]
            about = [rule, row.dataset, row.algorithm, domain, row.trial_seed]
            chosen = f"{row.hparams_seed} of {row.n_hparams}"
            shares = (f"{100 * share:.1f}" for share in (row.validation, row.accuracy))
            rows.append([*about, chosen, row.step, *shares, _knobs(shown)])
            numbers = [*about, row.hparams_seed, row.step, row.validation, row.accuracy]
            data.append({**dict(zip(CHOSEN, numbers)), "n_hparams": row.n_hparams, **hparams})
    return Table(
        "chosen",
        "Selected hparams and steps",
        frame_of(rows, [*CHOSEN, "knobs that vary"]),
        pd.DataFrame(data),
        "hparams_seed 0 has the default values, the others are random draws. validation is the "
        "accuracy that the rule maximizes. The CSV file has all knobs.",
    )


def knobs_table(sweep):
    """Return a Table of the hparams shared by all runs of an algorithm on a data set."""
    varied = _varied_hparams(sweep)
    rows = []
    for (dataset, algorithm), names in varied.items():
        jobs = (j for j in sweep.sound if _kind(j) == (dataset, algorithm))
        hparams = next(jobs).records[0].get("hparams") or {}
        shared = {k: v for k, v in sorted(hparams.items()) if k not in names}
        rows.append([dataset, algorithm, _knobs(shared)])
    frame = frame_of(rows, ["dataset", "algorithm", "knobs shared by all runs"])
    return Table("knobs", "Knobs", frame, frame)


def missing_table(lacking, datasets):
    """Return a Table of the runs that do not count, by data set, algorithm and reason."""
    groups = {}
    for lack in lacking:
        where = f" ({lack.job.folder})" if lack.job else ""
        key = (lack.args["dataset"], str(lack.row), str(lack.status))
        groups.setdefault(key, []).append((lack.args, where))
    rows = []
    for (dataset, algorithm, reason), found in groups.items():
        names = datasets[dataset]
        gone = {i: f"env{i}" for a, _ in found for i in a["test_envs"]}  # since the launch
        names = {**gone, **dict(enumerate(names))}
        envs = dict.fromkeys(" + ".join(names[i] for i in a["test_envs"]) for a, _ in found)
        seeds = [sorted({a[k] for a, _ in found}) for k in ("trial_seed", "hparams_seed")]
        where = found[0][1] if len(found) == 1 else ""
        seeds = [", ".join(map(str, s)) for s in seeds]
        rows.append([dataset, algorithm, len(found), ", ".join(envs), *seeds, reason + where])
    columns = ("dataset", "algorithm", "runs", "test domains", "trials", "hparams seeds")
    frame = frame_of(rows, [*columns, "reason"])
    return Table("missing", "Runs that are missing or do not count", frame, frame)


def _varied_hparams(sweep):
    """Return {(dataset, algorithm): names of the hparams that differ between its sound runs}."""
    first, varied = {}, {}
    for job in sweep.sound:
        hparams = job.records[0].get("hparams") or {}
        one = first.setdefault(_kind(job), hparams)
        names = varied.setdefault(_kind(job), {})
        names.update(dict.fromkeys(k for k in one | hparams if one.get(k) != hparams.get(k)))
    return {kind: sorted(names) for kind, names in varied.items()}


def _kind(job):
    return job.args["dataset"], str(job.row)


def _knobs(hparams):
    texts = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in hparams.values())
    return ", ".join(f"{k}={text}" for k, text in zip(hparams, texts))
