"""Context recognition of the models of a sweep, before and after fine-tuning."""

import pandas as pd
from tqdm import tqdm

from ..method.losses import context_probs
from ..records.rows import ordered
from .opening import Opening
from .prober import Prober, known_contexts
from .saved_run import load


def measure(found, data_dir=None):
    """Measure context recognition and context KL of all models of this package's algorithms.

    Args:
        found: [(Row, {step: model file})], as opening.find returns it.
        data_dir: as for saved_run.load.

    Returns:
        A tuple of

        * a DataFrame of recognition cells,
        * a DataFrame of KL cells,
        * the argument of reports.context_plots.distributions, or None,
        * a list of messages on models that could not be opened,
        * {label: Row} of the cells' `algorithm`.

    Raises:
        FileNotFoundError: no model can be opened; see saved_run.load.
        ValueError: no model can be opened; see saved_run.load.
    """
    prober, opening, cells, moved, trained = Prober(), Opening(data_dir), [], [], {}
    with tqdm(total=sum(len(files) for _, files in found), desc="models", unit="model") as bar:
        for given, files in found:
            with opening.attempt():
                run, row = opening.open(given, next(iter(files.values())))
                own_cells, own_moved = [], []
                for step, path in files.items():
                    run.use(path)
                    more_cells, more_moved = prober.model(run, step, str(row))
                    own_cells += more_cells
                    own_moved += more_moved
                    bar.update()
                # only now: of a run with a broken model, an earlier step would count as its last
                cells += own_cells
                moved += own_moved
                if run.algorithm.trains:
                    args = run.args
                    shared = (args["dataset"], args["trial_seed"], args["hparams_seed"])
                    together = trained.setdefault((*shared, *args["test_envs"]), {})
                    together.setdefault(row, path)
    opening.finish(cells)
    pictured = _one_image(prober, trained.values(), data_dir)
    return pd.DataFrame(cells), pd.DataFrame(moved), pictured, opening.failed, opening.rows


def _one_image(prober, trained, data_dir):
    """Return a test image with the context distributions of several models.

    The image has the median KL of the first model. The models have the same trial, hparams seed and
    test environment.

    Args:
        prober: a Prober.
        trained: [{Row: model file}] of runs with the same trial, hparams seed and test environment.
        data_dir: as for saved_run.load.

    Returns:
        The argument of reports.context_plots.distributions, or None if no two such models exist.
    """
    for files in trained:
        if len(files) < 2:
            continue
        rows = ordered(files)
        first = load(files[rows[0]], data_dir)
        i = first.args["test_envs"][0]
        env, tau = first.dataset[i], first.algorithm.logit_scale
        groups, _ = known_contexts(first.dataset, first.description.domains)
        _, W_ctx, templates = prober.text(first, groups)
        every = list(range(len(env)))
        z0 = prober.zero_shot(first, i, every)
        z = {}
        for row in rows:
            run = first if row == rows[0] else load(files[row], data_dir)
            z[row] = prober.features(run.algorithm, env, every, str(row))
        p0 = context_probs(z0, W_ctx, tau)
        p = context_probs(z[rows[0]], W_ctx, tau)
        kl = (p0 * (p0 / p).log()).sum(dim=1)
        index = kl.argsort()[len(kl) // 2].item()
        return {
            "image": env[index][0],
            "title": f"{first.description.name}, {first.description.domains[i]}, image {index}\n"
            f"(median KL of {rows[0]})",
            "templates": templates,
            "zero-shot": context_probs(z0[index : index + 1], W_ctx, tau)[0],
            "fine-tuned": {
                row: context_probs(x[index : index + 1], W_ctx, tau)[0] for row, x in z.items()
            },
        }
    return None
