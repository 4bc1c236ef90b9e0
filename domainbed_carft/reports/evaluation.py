"""Tables from the records of ``carft evaluate``."""

import json

import pandas as pd

from ..base.stats import mean_text
from ..records.rows import differing
from . import corruptions

# Arguments of a run that change its model or its splits, beside its seeds and knobs.
ARGS = ("dataset", "test_envs", "steps", "holdout_fraction", "uda_holdout_fraction", "task")

# What records may know of their data beside numbers, and what a difference means.
KEYS = {"files_sha256": "other files or labels", "sizes_sha256": "files of other sizes"}


def label(row):
    """Return the name of a row: its environment, and the split unless it is "all"."""
    return row["environment"] + ("" if row["split"] == "all" else f" {row['split']}")


def frame(record):
    """Return a record's rows as a DataFrame, with shares in per cent."""
    shown = pd.DataFrame(record["rows"])
    for name in ("top1", "per_class", "macro_f1", "worst_group", "ece", "effective_robustness"):
        if name in shown:
            shown[name] = 100 * shown[name]
    if shown["alpha"].isna().all():
        return shown.drop(columns="alpha")
    return shown


def compare(paths):
    """Return a table of several records, with a row per algorithm and α.

    There is a column per environment. Cells are mean ± standard error over the trials of a row, in
    per cent; with one trial, the mean alone. `n` is the number of trials; cells with fewer say so.
    Records of one algorithm that differ in hparams, test environments, steps or training data are
    not trials of each other. They get rows of their own, for example "CARFT [carft_lambda=3.0]".
    Only runs of equal given knobs that were each evaluated on the data set that they were trained
    on share a row over several data sets, whose columns name them.

    Args:
        paths: JSON files written by ``carft evaluate``.

    Raises:
        ValueError: a file is not a record of evaluate, two records are of the same trial, or data
            of one name differ in images, classes or files.
    """
    found = gathered(paths)
    columns = list(dict.fromkeys(name for *_, cells in found for name in cells))
    rows = []
    for algorithm, alpha, _, cells in found:
        n = max(map(len, cells.values()))
        texts = {name: _cell(values, n) for name, values in cells.items()}
        rows.append({"algorithm": algorithm, "alpha": alpha, "n": n, **texts})
    return pd.DataFrame(rows, columns=["algorithm", "alpha", "n", *columns])


def _cell(values, n):
    """Return the text of a cell in a row of n trials."""
    return mean_text(values) + (f" (n = {len(values)})" if len(values) < n else "")


def gathered(paths):
    """Return the accuracies of several records, trials of one algorithm and α together.

    Returns:
        A list of (label of the algorithm, α as text or "" for zero-shot CLIP, its records,
        {environment: accuracies in per cent, one per trial}).

    Raises:
        ValueError: as :func:`compare`.
    """
    records = [_read_record(path) for path in paths]
    varied = _varied(records)
    cells, sources, together, data = {}, {}, {}, {}
    for path, record in zip(paths, records):
        settings, shown = {**_given(record), **_settings(record)}, varied[_kind(record)]
        algorithm = record["algorithm"] + (
            f" [{', '.join(f'{k}={settings.get(k)}' for k in shown)}]" if shown else ""
        )
        args = record["args"] or {}
        trial = args.get("trial_seed"), args.get("seed"), args.get("hparams_seed")
        for row in corruptions.as_rows(record) or record["rows"]:
            suite = "" if record["data"].startswith("imagenet") else f"{record['data']} "
            name = suite + label(row)
            _check_data(data.setdefault(name, {}), name, path, _data_of(record, row))
            key = algorithm, "" if row["alpha"] is None else f"{row['alpha']:g}"
            first = sources.setdefault((*key, name, *trial), path)
            if first != path or paths.count(path) > 1:
                raise ValueError(
                    f"{first} and {path} are of the same trial: leave one of them out (--table)"
                )
            together.setdefault(key, {})[path] = record
            cells.setdefault(key, {}).setdefault(name, []).append(100 * row[record["metric"]])
    return [(*key, list(together[key].values()), found) for key, found in cells.items()]


def _data_of(record, row):
    """Return what is known of the data of a row: numbers and hashes, None if unknown."""
    known = (record.get("environments") or {}).get(row["environment"], {})
    found = {key: known.get(key) for key in ("images", "files_sha256", "sizes_sha256")}
    if row["split"] == "all":
        found["classes"] = row.get("classes")
        found["images"] = row.get("images") or found["images"]
    return found


def _check_data(seen, name, path, found):
    """Check that the data of a record are those of the other records under its name.

    Args:
        seen: {key: (path, value)} of these, to which new ones are added.
        name: of the column.
        path: of the record.
        found: as :func:`_data_of` returns it.

    Raises:
        ValueError: they are others.
    """
    for key, value in found.items():
        if value is None:
            continue
        first, other = seen.setdefault(key, (path, value))
        if other != value:
            what = KEYS.get(key) or f"{other} {key}, and {value}"
            raise ValueError(
                f"{first} and {path} are of different data under the name {name!r}: {what}. "
                "Evaluate them on the same data, or rename one of the folders"
            )


def _read_record(path):
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        for key in ("rows", "metric", "algorithm", "data", "args", "hparams"):
            record[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a record of evaluate: {error!r}") from error
    return record


def _settings(record):
    """Return the settings that must be equal in all trials of a row.

    The runs of a soup have drawn knobs, which are others in each trial. Those that were given are
    equal.
    """
    args = record["args"] or {}
    knobs = _given(record) if record.get("soup") else record["hparams"]
    return {**knobs, **{name: args.get(name) for name in ARGS}}


def _given(record):
    """Return the settings that must be equal in a row on different data sets, too.

    They are the knobs that were given for a run, since defaults depend on the data set, and those
    of the model for zero-shot CLIP. Names of classes and contexts belong to a data set.
    """
    if record["args"] is None:
        found = {k: v for k, v in record["hparams"].items() if k.startswith("clip_")}
    else:
        found = json.loads(record["args"].get("hparams") or "{}")
    return {k: v for k, v in found.items() if k not in ("clip_class_names", "clip_contexts")}


def _kind(record):
    """Return a key of the records that may share a row: zero-shot CLIP and runs never do."""
    return record["algorithm"], record["args"] is None


def _varied(records):
    """Return {_kind: names of the settings that differ between records, as :func:`compare` says}.

    Runs trained on one data set are compared whatever they were evaluated on, since they are other
    models. If splits of one data set are shown, of which runs left out other environments, all rows
    of runs say which: a column may have what one run was trained on, and another was not.
    """
    homes, given, is_away, left_out = {}, {}, {}, {}
    for record in records:
        if record["args"] and any(row["split"] != "all" for row in record["rows"]):
            left_out.setdefault(record["data"], set()).add(str(record["args"].get("test_envs")))
    with_roles = any(len(found) > 1 for found in left_out.values())
    for record in records:
        kind, data = _kind(record), record["data"]
        home = (record["args"] or {}).get("dataset", data)
        is_own = data == home or (data.startswith("imagenet") and home.startswith("ImageNet"))
        is_away[kind] = is_away.get(kind, False) or not is_own
        homes.setdefault(kind, {}).setdefault(home, []).append(_settings(record))
        given.setdefault(kind, []).append(_given(record))
    varied = {}
    for kind, by_home in homes.items():
        keys = {"dataset"} if is_away[kind] and len(by_home) > 1 else set()
        for first, *others in (*by_home.values(), given[kind]):
            keys |= {key for other in others for key in differing(first, other)}
        is_run = not kind[1]
        varied[kind] = sorted(keys | {"test_envs"} if with_roles and is_run else keys)
    return varied
