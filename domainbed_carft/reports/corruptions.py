"""Tables of ImageNet-C: accuracy per corruption and severity, their mean, and mCE."""

import numpy as np
import pandas as pd

from ..base.corruptions import ALEXNET, SEVERITIES, mean_corruption_error

COLUMNS = {"accuracy": "ImageNet-C", "mce": "ImageNet-C mCE"}


def by_corruption(rows):
    """Return {α: {corruption: {severity: accuracy}}} of rows of ``carft evaluate``.

    Args:
        rows: with the environments "CORRUPTION SEVERITY".
    """
    found = {}
    for row in rows:
        corruption, _, severity = row["environment"].rpartition(" ")
        found.setdefault(row["alpha"], {}).setdefault(corruption, {})[int(severity)] = row["top1"]
    return found


def summary(rows):
    """Return, for each α, {"alpha", "accuracy", "mce"}. Accuracies are in [0, 1].

    "accuracy" is the mean over all corruptions and severities, and "mce" is the mean corruption
    error relative to AlexNet. Both are None unless all 75 are there.
    """
    result = []
    for alpha, found in by_corruption(rows).items():
        whole = all(set(found.get(name, ())) == set(SEVERITIES) for name in ALEXNET)
        values = {name: list(found[name].values()) for name in ALEXNET} if whole else {}
        result.append(
            {
                "alpha": alpha,
                "accuracy": float(np.mean(list(values.values()))) if whole else None,
                "mce": mean_corruption_error(values) if whole else None,
            }
        )
    return result


def frame(rows):
    """Return a DataFrame in per cent: corruptions × severities, with means and corruption errors.

    The last row of an α is the mean over corruptions. Its `CE` is mCE. What is not complete is X.
    """
    lines = []
    whole = {one["alpha"]: one for one in summary(rows)}
    for alpha, found in by_corruption(rows).items():
        for name, values in found.items():
            complete = set(values) == set(SEVERITIES)
            mean = float(np.mean(list(values.values())))
            line = {"alpha": alpha, "corruption": name}
            line |= {str(s): _cell(values.get(s)) for s in SEVERITIES}
            line["mean"] = _cell(mean if complete else None)
            line["CE"] = _cell((1 - mean) / ALEXNET[name] if complete else None)
            lines.append(line)
        means = {}
        for s in SEVERITIES:
            at = [values.get(s) for values in found.values()]
            all_there = len(found) == len(ALEXNET) and None not in at
            means[str(s)] = _cell(float(np.mean(at)) if all_there else None)
        last = {"mean": _cell(whole[alpha]["accuracy"]), "CE": _cell(whole[alpha]["mce"])}
        lines.append({"alpha": alpha, "corruption": "all 15", **means, **last})
    table = pd.DataFrame(lines)
    return table.drop(columns="alpha") if table["alpha"].isna().all() else table


def _cell(value):
    return "X" if value is None else f"{100 * value:.1f}"


def as_rows(record):
    """Return rows with mean and mCE of a record on ImageNet-C, for a table of records.

    Returns:
        None for other data, and if the record has only some of the corruptions.
    """
    whole = record.get("corruptions") or ()
    if not whole or None in {one["accuracy"] for one in whole}:
        return None
    return [
        {"environment": name, "split": "all", "alpha": one["alpha"], "top1": one[key]}
        for one in whole
        for key, name in COLUMNS.items()
    ]
