"""Target accuracy by alignment with zero-shot CLIP, and the distance of models from it."""

import contextlib
import itertools
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from ..base.label_sets import rule_of
from ..base.messages import unknown
from ..contract import record_line
from ..contract.run_files import RECORDS
from ..method.averaging import interpolate
from ..method.losses import context_kl
from ..records.rows import row_of
from .opening import Opening
from .prober import Prober
from .saved_run import OtherAlgorithm, check_algorithm

# Bins of the margin, [low, high); 0 is an edge: zero-shot CLIP is wrong below, and right above it.
EDGES = tuple(i / 5 for i in range(-5, 6))
RUN = ("dataset", "algorithm", "alpha", "trial_seed", "hparams_seed", "test_envs", "domain")


def margins(logits, labels, rule):
    """Return the margins (N,) of the right class, in [-1, 1].

    It is the probability of the right class minus the highest probability of a wrong one. It is
    positive where the prediction is right. If several classes are right, the most probable counts.

    Args:
        logits: (N, K).
        labels: (N,) right classes.
        rule: base.label_sets.Rule with the label set and classes that are right, too.
    """
    p = rule.restrict(logits.double()).softmax(dim=1)
    classes = torch.arange(p.shape[1])
    right = torch.stack([rule.right(classes, label.expand_as(classes)) for label in labels])
    return torch.where(right, p, 0).amax(1) - torch.where(right, 0, p).amax(1)


def bins_of(margins):
    """Return the index (N,) of each margin's bin in EDGES."""
    return torch.bucketize(margins, torch.tensor(EDGES[1:-1], dtype=margins.dtype), right=True)


def class_kl(logits0, logits):
    """Return the mean over N of KL(softmax(logits0) ‖ softmax(logits)), in nats.

    Args:
        logits0, logits: (N, K). Classes with −infinity in both do not count.
    """
    log_p0, log_p = (x.double().log_softmax(dim=1) for x in (logits0, logits))
    return torch.where(log_p0.isinf(), 0, log_p0.exp() * (log_p0 - log_p)).sum(1).mean().item()


def weight_distance(weights, start):
    """Return ‖w − w⁰‖ / ‖w⁰‖ of {name: tensor} from the start {name: tensor}."""
    moved = sum((weights[name] - w0).double().square().sum() for name, w0 in start.items())
    return (moved / sum(w0.double().square().sum() for w0 in start.values())).sqrt().item()


def measure(found, data_dir=None, alphas=(1.0,), alpha_of=None):
    """Measure the last model of each run on its target domains.

    Args:
        found: [(Row, {step: model file})], as opening.find returns it.
        data_dir: as for saved_run.load.
        alphas: α of WiSE-FT, including 1, the run itself.
        alpha_of: names of the algorithms that other α than 1 apply to, or None for all.

    Returns:
        A tuple of

        * a DataFrame with a row per run, α, target domain and bin: the columns RUN, `low` and
          `high` of the bin, `n` images and the number of `right` ones,
        * a DataFrame with a row per run, α and target domain: RUN, `n`, `accuracy` and `zero_shot`
          accuracy in [0, 1], `kl` of classes and `context_kl` from the run's zero-shot start in
          nats, and the relative `weight_distance` of the image encoder,
        * a list of messages on models that could not be opened,
        * {label: Row} of the column `algorithm`.

    Raises:
        FileNotFoundError: no model can be opened; see saved_run.load.
        ValueError: no model can be opened (see saved_run.load), or `alpha_of` has a name that none
            of the models has, in which case none is opened.
    """
    names = _algorithms(found) if alpha_of else ()
    for name in alpha_of or ():
        if name not in names:
            raise ValueError(unknown("algorithm (--alpha_of)", name, sorted(names)))
    prober, opening, by_bin, moved = Prober(), Opening(data_dir), [], []
    for given, files in tqdm(found, desc="runs", unit="run"):
        run = None
        with opening.attempt():
            run, row = opening.open(given, files[max(files)])
        if run is None:
            continue
        with_alphas = alpha_of is None or row.algorithm in alpha_of
        of_it = of_run(prober, run, str(row), alphas if with_alphas else (1.0,))
        by_bin += of_it[0]
        moved += of_it[1]
    opening.finish(moved)
    return pd.DataFrame(by_bin), pd.DataFrame(moved), opening.failed, opening.rows


def _algorithms(found):
    """Return the names of the algorithms whose models can be measured, without opening one."""
    names = set()
    for row, files in found:
        path = next(iter(files.values()))
        if row is None:  # a run alone
            record = record_line.last(Path(path).parent / RECORDS)
            row = row_of(record["args"] if record else {"algorithm": ""})
        with contextlib.suppress(OtherAlgorithm):
            check_algorithm(path, row.in_records)
            names.add(row.algorithm)
    return names


@torch.no_grad()
def of_run(prober, run, name, alphas=(1.0,)):
    """Return (rows by bin, rows of distances) of a run's model, as lists of dicts.

    Bins are those of the backbone's default prompts, so that all runs of a sweep have the same
    images in a bin, whatever contexts they were trained with.

    Args:
        prober: a Prober.
        run: a saved_run.Run.
        name: the label of its row.
        alphas: as for :func:`measure`.
    """
    _, (W_ctx, W_cls), _ = prober.prompts(run, {})
    tau, start = run.algorithm.logit_scale, run.zero_shot
    ends = [{k: v.clone().cpu() for k, v in m.state_dict().items()} for m in (start, run.algorithm)]
    names = [name for name, _ in start.named_parameters() if name.startswith("encoder.")]
    encoder = {name: ends[0][name] for name in names}
    by_bin, moved = [], []
    for i in run.args["test_envs"]:
        env, domain = run.dataset[i], run.description.domains[i]
        rule = rule_of(env)
        z0, labels = prober.zero_shot_labelled(run, i)
        aligned = tau * torch.nn.functional.normalize(z0, dim=1) @ W_cls.T
        bins = bins_of(margins(aligned, labels, rule))
        logits0 = rule.restrict(start.cpu().classify(z0))
        right0 = rule.right(logits0.argmax(1), labels)
        for alpha in alphas if run.algorithm.trains else (1.0,):
            state = interpolate(*ends, alpha)
            run.algorithm.load_state_dict(state)
            z = prober.features(run.algorithm, env, range(len(env)), f"{name}, {domain}")
            algorithm = run.algorithm.cpu()
            logits = rule.restrict(algorithm.classify(z))
            right = rule.right(logits.argmax(1), labels)
            where = " ".join(map(str, run.args["test_envs"]))
            seeds = run.args["trial_seed"], run.args["hparams_seed"]
            about = dict(zip(RUN, (run.args["dataset"], name, alpha, *seeds, where, domain)))
            for j, (low, high) in enumerate(itertools.pairwise(EDGES)):
                inside = bins == j
                counts = {"n": int(inside.sum()), "right": int(right[inside].sum())}
                by_bin.append({**about, "low": low, "high": high, **counts})
            moved.append(
                {
                    **about,
                    "n": len(labels),
                    "accuracy": right.double().mean().item(),
                    "zero_shot": right0.double().mean().item(),
                    "kl": class_kl(logits0, logits),
                    "context_kl": context_kl(z, z0, W_ctx, tau).item(),
                    "weight_distance": weight_distance(state, encoder),
                }
            )
    return by_bin, moved
