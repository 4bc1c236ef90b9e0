"""Tables of ``carft probe --alignment``: accuracy by alignment, and at equal distance."""

from dataclasses import replace

import numpy as np
import pandas as pd

from ..algorithms.methods import METHODS, knobs_of
from ..base.stats import interval
from ..records.rows import WISE, ordered
from .whole_trials import left_out, single, whole

# The knob that sets how much a method keeps of zero-shot CLIP. At 0, the method is CLIP_ERM,
# whatever its other knobs say.
STRENGTHS = {
    "CARFT": "carft_lambda",
    "CLIP_Distill": "distill_lambda",
    "CLIP_LipsumFT": "lipsum_lambda",
    "CLIP_L2SP": "l2sp_alpha",
}
DISTANCES = {
    "kl": "KL(zero-shot ‖ fine-tuned) of classes, nats",
    "weight_distance": "relative distance of the weights",
}
BASELINE, PLAIN, ZERO_SHOT = "CARFT", "CLIP_ERM", "CLIP_ZeroShot"
COLUMNS = ("dataset", "curve", "strength", "trial_seed", "accuracy", *DISTANCES)
POINTS = 5  # distances at which curves are compared


def by_alignment(by_bin, rows):
    """Return accuracy by bin of the zero-shot margin, with a row per data set, algorithm and α.

    A cell is the mean over trials of the share of right images in the bin, of all target domains
    together, in per cent. The row "share of images" is the same for all algorithms.

    Args:
        by_bin: as analysis.alignment.measure returns it.
        rows: {label: Row} of its `algorithm`.
    """
    by_bin = whole(single(by_bin))
    lines = []
    order = {str(row): i for i, row in enumerate(ordered(rows.values()))}
    for dataset, cells in by_bin.groupby("dataset"):
        first = cells[["algorithm", "alpha", "trial_seed", "hparams_seed"]].iloc[0]
        one = cells[(cells[first.index] == first).all(axis=1)].groupby("low").n.sum()
        share = 100 * one / one.sum()
        about = {"dataset": dataset, "algorithm": "share of images", "alpha": "", "trials": ""}
        lines.append({**about, **_named(share), "all": 100.0})
        groups = dict(list(cells.groupby(["algorithm", "alpha"])))
        for algorithm, alpha in sorted(groups, key=lambda key: (order[key[0]], key[1])):
            part = groups[algorithm, alpha]
            sums = part.groupby(["low", "trial_seed"])[["right", "n"]].sum()
            shares = (100 * sums.right / sums.n).groupby("low").mean()
            about = {"dataset": dataset, "algorithm": algorithm, "alpha": f"{alpha:g}"}
            about["trials"] = str(part.trial_seed.nunique())
            total = part.groupby("trial_seed")[["right", "n"]].sum()
            all_of_them = float((100 * total.right / total.n).mean())
            lines.append({**about, **_named(shares), "all": all_of_them})
    return pd.DataFrame(lines)


def curves(moved, rows):
    """Return the points of each method's curve of accuracy over distance, by trial.

    A method's curve goes over the strengths of its regulariser, from zero-shot CLIP at distance 0
    to CLIP_ERM (strength 0), if that is in the sweep and no knob that both have is changed. Curves
    named NAME+WiSE go over α. What was not swept has a single point.

    Args:
        moved: as analysis.alignment.measure returns it.
        rows: {label: Row} of its `algorithm`.

    Returns:
        A DataFrame with a row per data set, curve, strength and trial: `accuracy` in per cent, and
        the distances, as means over the target domains. Trials that lack a domain are left out.
    """
    moved = single(moved)
    first = moved.groupby("dataset").hparams_seed.transform("min")
    moved = whole(moved[moved.hparams_seed == first])  # the others draw their strength at random
    keys = ["dataset", "algorithm", "alpha", "hparams_seed", "trial_seed"]
    means = moved.groupby(keys)[["accuracy", "zero_shot", *DISTANCES]].mean().reset_index()
    interpolated = set(means[means.alpha != 1].algorithm)
    lines, ends = [], set()
    for point in means.to_dict("records"):
        row = rows[point["algorithm"]]
        about = {key: point[key] for key in ("dataset", "trial_seed", *DISTANCES, "zero_shot")}
        about["accuracy"] = 100 * point["accuracy"]
        if point["alpha"] == 1 and row.algorithm != ZERO_SHOT:
            curve, strength = split(row, point["dataset"])
            lines.append({**about, "curve": str(curve), "strength": strength})
            ends |= {str(curve)} if _ends_at_plain(curve) else set()
        if point["algorithm"] in interpolated:
            wise = replace(_given(row), suffix=WISE)
            lines.append({**about, "curve": str(wise), "strength": point["alpha"]})
    found = pd.DataFrame(lines, columns=(*COLUMNS, "zero_shot"))
    setting = ["dataset", "curve", "strength", "trial_seed"]  # a default may also be given
    found = found.groupby(setting, sort=False, as_index=False).mean()
    starts = 100 * found.groupby(["dataset", "curve", "trial_seed"]).zero_shot.mean()
    found = found.drop(columns="zero_shot")
    plain = found[found.curve == PLAIN].set_index(["dataset", "trial_seed"])
    more = []
    for (dataset, curve), part in found.groupby(["dataset", "curve"]):
        if part.strength.nunique() == 1:  # not swept
            continue
        for trial in sorted(set(part.trial_seed)):
            about = {"dataset": dataset, "trial_seed": trial, "curve": curve}
            zero = {**about, **dict.fromkeys(DISTANCES, 0.0), "strength": "zero-shot"}
            more.append({**zero, "accuracy": starts[dataset, curve, trial]})
            has_end = curve in ends and 0 not in set(part.strength)
            if has_end and (dataset, trial) in plain.index:
                more.append({**plain.loc[(dataset, trial)].to_dict(), **about, "strength": 0.0})
    return pd.concat([found, pd.DataFrame(more)], ignore_index=True)


def by_domain(moved, rows):
    """Return the points of :func:`curves` for each target domain alone.

    `dataset` is "DATASET, DOMAIN". Data sets with a single target domain have no rows.
    """
    found = []
    for dataset, cells in single(moved).groupby("dataset"):
        domains = dict(list(cells.groupby("domain", sort=False)))
        for domain, part in domains.items() if len(domains) > 1 else ():
            found.append(curves(part, rows).assign(dataset=f"{dataset}, {domain}"))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)


def _ends_at_plain(curve):
    """Return whether strength 0 of a curve's Row is CLIP_ERM with default knobs."""
    own = METHODS[curve.algorithm].knobs if curve.algorithm in STRENGTHS else {}
    return bool(own) and not curve.suffix and all(name in own for name, _ in curve.changed)


def split(row, dataset):
    """Return (the Row without its strength, the strength or "") of a Row.

    A strength that runs do not set is the method's default.
    """
    row, knob = _given(row), STRENGTHS.get(row.algorithm)
    if knob is None or row.suffix:
        return row, ""
    changed = dict(row.changed)
    strength = changed.pop(knob, knobs_of(row.algorithm, dataset)[knob].default)
    return replace(row, changed=tuple(changed.items())), float(strength)


def _given(row):
    """Return a Row without the knobs that only other rows set."""
    return replace(row, changed=tuple(item for item in row.changed if item[1] != "default"))


def at_distance(points, distance, where):
    """Return the accuracy of one trial's curve at a distance, by linear interpolation.

    Args:
        points: the points of one curve and trial, as :func:`curves` returns them.
        distance: a key of DISTANCES.
        where: the distance. Outside of the curve, the result is NaN.
    """
    points = points.sort_values(distance)
    x, y = points[distance].to_numpy(), points.accuracy.to_numpy()
    return float(np.interp(where, x, y, left=np.nan, right=np.nan))


def equal_distance(points, baseline=BASELINE):
    """Return the differences between curves and a baseline's at equal distances from zero-shot.

    Distances are POINTS equal steps up to the largest one that all trials of both curves reach.
    They are followed by a line "mean": each trial's mean over these steps, which compares whole
    curves by one number.

    Args:
        points: as :func:`curves` returns them.
        baseline: name of a curve. Data sets in which it was not swept have no rows.

    Returns:
        A DataFrame: data set, distance measure and value, curve, its accuracy and the baseline's
        (means over the trials that both have, in per cent), and their paired difference in points
        with Student's 95 % interval, not corrected for multiple comparisons.
    """
    lines = []
    for dataset, cells in points.groupby("dataset"):
        base = cells[cells.curve == baseline]
        swept = cells[cells.strength == "zero-shot"].curve.unique()
        others = [curve for curve in swept if curve != baseline]
        for distance in DISTANCES if baseline in swept else ():
            for curve in others:
                part = cells[cells.curve == curve]
                trials = sorted(_complete(part) & _complete(base))
                pairs = [[c[c.trial_seed == trial] for c in (part, base)] for trial in trials]
                reach = min((c[distance].max() for pair in pairs for c in pair), default=0)
                if reach <= 0:
                    continue
                steps = np.linspace(0, reach, POINTS + 1)[1:]
                found = np.array(  # by step, trial, and curve or baseline
                    [[[at_distance(c, distance, x) for c in pair] for pair in pairs] for x in steps]
                )
                names = [*(f"{x:.3g}" for x in steps), "mean"]
                for at, pair in zip(names, [*found, found.mean(axis=0)]):
                    own, other = pair.T
                    mean, low, high = interval(own - other)
                    lines.append(
                        {
                            **{"dataset": dataset, "distance": distance, "at": at},
                            **{"curve": curve, "accuracy": own.mean(), baseline: other.mean()},
                            **{"difference": mean, "95 % low": low, "95 % high": high},
                            "n": len(pairs),
                        }
                    )
    return pd.DataFrame(lines)


def _complete(curve):
    """Return the trials that have all strengths of a curve."""
    n = curve.groupby("trial_seed").strength.nunique()
    return set(n.index[n == curve.strength.nunique()])


def incomplete(moved):
    """Return a sentence for each algorithm that has trials without all target domains.

    Args:
        moved: as for :func:`curves`, which leaves such trials out.
    """
    return left_out(single(moved[moved.alpha == 1]))


def _named(values):
    return {f"{low:+.1f} to {low + 0.2:+.1f}": value for low, value in values.items()}
