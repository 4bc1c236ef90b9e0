"""What contexts the models of a sweep recognise, before and after fine-tuning."""

import json
import os
import sys

import pandas as pd
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..algorithms.settings import context_templates
from ..base import environment, workers
from ..base.assets import ASSETS
from ..contract.run_files import RECORDS
from ..method.losses import context_kl, context_probs
from ..method.prompts import build_prompts, prompt_weights
from ..models import backbone_names, backbones, prompt_cache
from ..records import soundness
from ..records.rows import ordered, row_of
from .saved_run import OtherAlgorithm, check_algorithm, load, models, splits

BATCH = 256

KEYS = ["dataset", "algorithm", "trial_seed", "hparams_seed", "test_envs", "step", "domain", "role"]


def group_weights(text_features):
    """Return the weights that recognise the values of one group of contexts.

    W[v] = normalise(mean over phrases p and classes k of normalise(g(phrase p of v, class k)))

    Args:
        text_features: g's output (V, P, K, D): values, phrases, classes, embedding.

    Returns:
        W (V, D), rows of length 1.
    """
    return prompt_weights(text_features.flatten(1, 2))[0]


def recognition(features, weights, truth):
    """Return the share of images whose nearest value is the true one: argmax_v z·W[v] = truth.

    Args:
        features: z (B, D) of any length.
        weights: W (V, D) of :func:`group_weights`.
        truth: indices (B,) in [0, V).
    """
    seen = (F.normalize(features, dim=-1) @ weights.T).argmax(dim=1)
    return (seen == truth).double().mean().item()


def known_contexts(dataset, names):
    """Return ({group: {value: [template]}}, [{group: truth (N,)} per environment]).

    The groups that a data set of ours knows of its images; for others the one group "domain",
    whose values are the names of the domains, with the template "a DOMAIN of a {}".
    """
    if hasattr(dataset, "contexts"):
        file = ASSETS / "context_probes.json"
        phrases = json.loads(file.read_text(encoding="utf-8"))
        groups = {g: {v: phrases[g][v] for v in values} for g, values in dataset.contexts.items()}
        return groups, [env.contexts for env in dataset]
    readable = [name.replace("_", " ") for name in names]
    groups = {"domain": {name: [f"a {name} of a {{}}"] for name in readable}}
    truths = [{"domain": torch.full((len(env),), i)} for i, env in enumerate(dataset)]
    return groups, truths


class Prober:
    """Measures models; keeps what does not change from one model to the next."""

    def __init__(self, device=None):
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.weights, self.contexts, self.before = {}, {}, {}

    def features(self, algorithm, env, keys, desc):
        """Return f(x) (len(keys), D) of an environment's images, on the CPU."""
        asked = environment.n_workers(min(4, os.cpu_count() or 1))
        in_memory = hasattr(env, "contexts") or len(keys) < workers.FEW_IMAGES
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(env, keys),
            batch_size=BATCH,
            **workers.forked(0 if in_memory else asked),
        )
        algorithm.to(self.device)
        with torch.no_grad():
            found = [
                algorithm.encoder(algorithm.input(x.to(self.device))).cpu()
                for x, _ in tqdm(loader, desc=desc, unit="batch", leave=False, delay=2)
            ]
        return torch.cat(found)

    def zero_shot(self, run, i, keys):
        """Return f_0(x) of images of environment i, each computed once in a sweep."""
        knobs = [run.hparams[f"clip_{knob}"] for knob in ("precision", "input", "transform")]
        key = (*backbone_names.of_knobs(run.hparams), *knobs, run.args["dataset"], i)
        if key not in self.before:
            every = range(len(run.dataset[i]))
            self.before[key] = self.features(run.zero_shot, run.dataset[i], every, "zero-shot")
        return self.before[key][keys]

    def text(self, run, groups):
        """Return ({group: W (V, D)}, W_ctx (M, D), templates), encoded once in a sweep."""
        # Everybody's KL is over the same contexts, those of the defaults: runs whose contexts
        # differ could not be compared otherwise.
        templates = context_templates({**run.hparams, "clip_contexts": "auto"}, run.description)
        names = run.algorithm.class_names
        key = (*backbone_names.of_knobs(run.hparams), *names, *templates, json.dumps(groups))
        if key not in self.weights:
            backbone = backbones.load(*backbone_names.of_knobs(run.hparams))
            found = {}
            for group, values in groups.items():
                flat = [phrase for phrases in values.values() for phrase in phrases]
                T = backbones.encode_prompts(backbone, build_prompts(flat, names))
                found[group] = group_weights(T.unflatten(0, (len(values), -1)))
            W_ctx, _ = prompt_cache.cached_prompt_weights(backbone, templates, names)
            self.weights[key] = found, W_ctx, templates
        return self.weights[key]

    def model(self, run, step, name):
        """Return (recognition rows, KL rows) of the model that the run holds now, called `name`."""
        names = run.description.domains
        groups, truths = known_contexts(run.dataset, names)
        weights, W_ctx, _ = self.text(run, groups)
        parts, recognised, moved = splits(run), [], []
        for i, env in enumerate(run.dataset):
            role = "target" if i in run.args["test_envs"] else "source"
            keys = list(range(len(env))) if role == "target" else list(parts[f"env{i}_out"].keys)
            z0 = self.zero_shot(run, i, keys)
            z = self.features(run.algorithm, env, keys, f"{name}, {names[i]}")
            of = {
                **{k: run.args[k] for k in KEYS[:4]},
                "algorithm": name,
                "test_envs": " ".join(map(str, run.args["test_envs"])),
                "step": step,
                "domain": names[i],
                "role": role,
            }
            kl = context_kl(z, z0, W_ctx, run.algorithm.logit_scale).item()
            moved.append({**of, "n": len(keys), "kl": kl})
            for group, W in weights.items():
                truth = truths[i][group][keys]
                seen = {
                    when: recognition(x, W, truth)
                    for when, x in (("zero_shot", z0), ("fine_tuned", z))
                }
                recognised.append({**of, "group": group, "n": len(keys), **seen})
        return recognised, moved


def measure(found, data_dir=None):
    """Measure models, but for those of other algorithms.

    Args:
        found: [(its Row, {step: model file})] of :func:`judged`.
        data_dir: of runs.load.

    Returns:
        (recognition cells, KL cells, what reports.context_plots draws, [what could not be
        opened, and why], {text: Row} of the cells' `algorithm`).

    Raises:
        FileNotFoundError, ValueError: as runs.load, where no model can be opened.
    """
    prober, cells, moved, trained, failed, rows, others = Prober(), [], [], {}, [], {}, 0
    with tqdm(total=sum(len(files) for _, files in found), desc="models", unit="model") as bar:
        for row, files in found:
            try:
                first = next(iter(files.values()))
                if row:  # before it is opened, which numpy's values in its knobs may prevent
                    check_algorithm(first, row.in_records)
                run = load(first, data_dir)
                row = row or row_of(run.args)
                rows[str(row)] = row
                for step, path in files.items():
                    run.use(path)
                    more_cells, more_moved = prober.model(run, step, str(row))
                    cells += more_cells
                    moved += more_moved
                    bar.update()
            except OtherAlgorithm as error:
                others, other = others + 1, error
                continue
            except (FileNotFoundError, ValueError) as error:
                failed.append(str(error))
                continue
            if run.algorithm.trains:
                args = run.args
                shared = (args["dataset"], args["trial_seed"], args["hparams_seed"])
                together = trained.setdefault((*shared, *args["test_envs"]), {})
                together.setdefault(row, path)
    if not cells:
        raise ValueError(failed[0]) if failed else other
    if others:
        print(f"{others} runs of other algorithms are left out.", file=sys.stderr)
    pictured = _one_image(prober, trained.values(), data_dir)
    return pd.DataFrame(cells), pd.DataFrame(moved), pictured, failed, rows


def _one_image(prober, trained, data_dir):
    """Return one target image and the context distributions of the models that share its run.

    The image at the median of the first model's KL, so that it stands for the others; None where
    no two models share trial, knobs and test environment.

    Args:
        prober: a Prober.
        trained: [{Row: model file}], of runs that share them.
        data_dir: of runs.load.
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


def find(input_dir):
    """Return [(run's folder, {step: model file})] of a sweep or of one run, by folder name.

    Raises:
        FileNotFoundError: no such folder, or no models in it.
    """
    if not os.path.isdir(input_dir):
        raise FileNotFoundError(f"No folder {input_dir} (--input_dir)")
    folders = [input_dir, *sorted(entry.path for entry in os.scandir(input_dir) if entry.is_dir())]
    found = [(folder, models(folder)) for folder in folders]
    found = [(folder, files) for folder, files in found if files]
    if not found:
        raise FileNotFoundError(
            f"No models in {input_dir} or its folders: train writes model.pkl when it ends, unless "
            "--skip_model_save is given"
        )
    return found


def judged(input_dir, found, known):
    """Return ([(its Row, {step: model file})], [what is left out, and why]) of find's runs.

    Rows are those of the tables: a run that does not count there is left out, and runs of other
    arguments have a row of their own. Of one run alone all is taken, and its Row is None.

    Args:
        known: of soundness.read.
    """
    if os.path.isfile(os.path.join(input_dir, RECORDS)):
        return [(None, files) for _, files in found], []
    jobs = {job.path: job for job in soundness.read(input_dir, known).jobs}
    kept, left_out = [], []
    for folder, files in found:
        job = jobs.get(folder)
        if job and job.unsound:
            left_out.append(f"{folder}: {job.unsound}")
        else:
            kept.append((job and job.row, files))
    if not kept:
        raise ValueError("\n".join(["No run that counts:", *left_out]))
    return kept, left_out
