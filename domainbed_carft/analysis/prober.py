"""Measuring context recognition and context KL of one model."""

import json
import os

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..algorithms.settings import context_templates
from ..base import environment, workers
from ..base.assets import ASSETS
from ..method.losses import context_kl
from ..method.prompts import build_prompts, prompt_weights
from ..models import backbone_names, backbones, prompt_cache
from .saved_run import splits

BATCH = 256

KEYS = ["dataset", "algorithm", "trial_seed", "hparams_seed", "test_envs", "step", "domain", "role"]


def group_weights(text_features):
    """Return a classifier of the values of one group of contexts.

    W[v] = normalise(mean over phrases p and classes k of normalise(g(phrase p of v, class k)))

    Args:
        text_features: g's output (V, P, K, D) for V values, P phrases, K classes.

    Returns:
        W (V, D), with normalised rows.
    """
    return prompt_weights(text_features.flatten(1, 2))[0]


def recognition(features, weights, truth):
    """Return the share of images in [0, 1] with argmax_v z·W[v] = truth.

    Args:
        features: z (B, D), which need not be normalised.
        weights: W (V, D), as :func:`group_weights` returns it.
        truth: indices (B,) in [0, V).
    """
    seen = (F.normalize(features, dim=-1) @ weights.T).argmax(dim=1)
    return (seen == truth).double().mean().item()


def known_contexts(dataset, names):
    """Return ({group: {value: [template]}}, [{group: truth (N,)} of each environment]).

    DigitStyles has several groups of known contexts. Other data sets have the group "domain", whose
    values are the names of the domains, with the template "a DOMAIN of a {}".
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
    """Measures models, and caches what several models of a sweep share."""

    def __init__(self, device=None):
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.weights, self.contexts, self.before = {}, {}, {}

    def features(self, algorithm, env, keys, desc):
        """Return f(x) (len(keys), D) of an environment's images, on the CPU."""
        return self.labelled(algorithm, env, keys, desc)[0]

    def labelled(self, algorithm, env, keys, desc):
        """Return (f(x) (len(keys), D), labels (len(keys),)) of an environment, on the CPU."""
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
                (algorithm.encoder(algorithm.input(x.to(self.device))).cpu(), y)
                for x, y in tqdm(loader, desc=desc, unit="batch", leave=False, delay=2)
            ]
        return tuple(map(torch.cat, zip(*found)))

    def zero_shot(self, run, i, keys):
        """Return f_0(x) of images of environment i, computed once per sweep."""
        return self.zero_shot_labelled(run, i)[0][keys]

    def zero_shot_labelled(self, run, i):
        """Return (f_0(x) (N, D), labels (N,)) of environment i, computed once per sweep."""
        names = ("precision", "input", "transform", "images", "exif")
        knobs = [run.hparams[f"clip_{name}"] for name in names]
        key = (*backbone_names.of_knobs(run.hparams), *knobs, run.args["dataset"], i)
        if key not in self.before:
            every = range(len(run.dataset[i]))
            self.before[key] = self.labelled(run.zero_shot, run.dataset[i], every, "zero-shot")
        return self.before[key]

    def text(self, run, groups):
        """Return ({group: W (V, D)}, W_ctx (M, D), templates), encoded once per sweep."""
        found, (W_ctx, _), templates = self.prompts(run, groups)
        return found, W_ctx, templates

    def prompts(self, run, groups):
        """Return ({group: W (V, D)}, (W_ctx, W_cls), templates), encoded once per sweep."""
        # The KL always uses the default contexts, so that runs with other contexts are comparable.
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
            both = prompt_cache.cached_prompt_weights(backbone, templates, names)
            self.weights[key] = found, both, templates
        return self.weights[key]

    def model(self, run, step, name):
        """Return (recognition rows, KL rows) of the run's current model under the label `name`."""
        names = run.description.domains
        groups, truths = known_contexts(run.dataset, names)
        weights, W_ctx, _ = self.text(run, groups)
        parts, recognised, moved = splits(run), [], []
        for i, env in enumerate(run.dataset):
            role = "target" if i in run.args["test_envs"] else "source"
            keys = list(range(len(env))) if role == "target" else list(parts[f"env{i}_out"].keys)
            z0 = self.zero_shot(run, i, keys)
            z = self.features(run.algorithm, env, keys, f"{name}, {names[i]}")
            about = {
                **{k: run.args[k] for k in KEYS[:4]},
                "algorithm": name,
                "test_envs": " ".join(map(str, run.args["test_envs"])),
                "step": step,
                "domain": names[i],
                "role": role,
            }
            kl = context_kl(z, z0, W_ctx, run.algorithm.logit_scale).item()
            moved.append({**about, "n": len(keys), "kl": kl})
            for group, W in weights.items():
                truth = truths[i][group][keys]
                seen = {
                    when: recognition(x, W, truth)
                    for when, x in (("zero_shot", z0), ("fine_tuned", z))
                }
                recognised.append({**about, "group": group, "n": len(keys), **seen})
        return recognised, moved
