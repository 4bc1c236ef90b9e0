"""The pictures of ``python -m domainbed_carft.probe``."""

import numpy as np

from ..method.preprocess import IMAGENET_MEAN, IMAGENET_STD
from ..records.rows import ordered
from . import plots

ROLES = {"source": "source domains (held-out images)", "target": "target domain"}


def recognition(table, path):
    """Draw how much context recognition changed by fine-tuning, per group; source, target apart.

    Args:
        table: of probe.summary, one data set or several (the first is drawn). Where it has nothing
            but CLIP_ZeroShot, whose recognition does not change, nothing is drawn.
    """
    name = table.dataset.iloc[0]
    table = table[(table.dataset == name) & (table.algorithm != "CLIP_ZeroShot")]
    algorithms, groups = ordered(table.algorithm.unique()), list(table.context.unique())
    if not algorithms:
        return
    figure, axes = plots.new(1, 2, width=10, height=4.4, sharey=True)
    width = 0.8 / len(algorithms)
    for ax, (role, title) in zip(axes, ROLES.items()):
        part = table[table.role == role]
        for j, algorithm in enumerate(algorithms):
            found = part[part.algorithm == algorithm].set_index("context").reindex(groups)
            errors = np.array([found.change - found["95 % low"], found["95 % high"] - found.change])
            ax.bar(
                np.arange(len(groups)) + (j - (len(algorithms) - 1) / 2) * width,
                found.change,
                width,
                yerr=errors if np.isfinite(errors).all() else None,
                label=algorithm,
                color=plots.look(algorithm, algorithms)["color"],
                ecolor="gray",
                capsize=2,
            )
        before = part.drop_duplicates("context").set_index("context")["zero-shot %"]
        ticks = [f"{group}\n({before.get(group, np.nan):.1f} %)" for group in groups]
        ax.set_xticks(range(len(groups)), ticks, fontsize=8)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_title(title)
    axes[0].set_ylabel("context recognition, fine-tuned − zero-shot, points")
    axes[0].legend(loc="lower left")
    trials = table.trials.max()
    note = f"; lines: 95 % interval over {trials} trials" if trials > 1 else ""
    figure.suptitle(f"{name}; below each group: zero-shot recognition{note}", fontsize=10)
    plots.save(figure, path)


def kl_over_steps(moved, path):
    """Draw the mean context KL against the training step, source and target apart.

    Of CLIP_ZeroShot alone, whose KL is 0, nothing is drawn.
    """
    moved = moved[(moved.dataset == moved.dataset.iloc[0]) & (moved.algorithm != "CLIP_ZeroShot")]
    names = ordered(moved.algorithm.unique())
    if not names:
        return
    figure, axes = plots.new(1, 2, width=10, height=4, sharey=True)
    for ax, (role, title) in zip(axes, ROLES.items()):
        for name in names:
            part = moved[(moved.role == role) & (moved.algorithm == name)]
            by_step = part.groupby("step").kl.mean()
            ax.plot(by_step.index, by_step, label=name, **plots.look(name, names))
        ax.set_title(title)
        ax.set_xlabel("training step")
    axes[0].set_ylabel("KL(zero-shot ‖ fine-tuned) of contexts, nats")
    axes[0].set_ylim(bottom=0)
    axes[0].legend()
    plots.save(figure, path)


def distributions(pictured, path, n_contexts=10):
    """Draw one image and what each model sees in it: the likeliest contexts of any of them.

    Args:
        pictured: {"image": (3, H, W) in ImageNet's normalisation, "title", "templates": M texts,
            "probabilities": {model: (M,)}}.
    """
    probabilities = {name: np.asarray(p) for name, p in pictured["probabilities"].items()}
    highest = np.max(list(probabilities.values()), axis=0)
    shown = np.argsort(-highest)[:n_contexts]
    figure, axes = plots.new(
        1, 1 + len(probabilities), width=3 + 2.6 * len(probabilities), height=4
    )
    image = np.asarray(pictured["image"]).transpose(1, 2, 0)
    axes[0].imshow(np.clip(image * IMAGENET_STD + IMAGENET_MEAN, 0, 1))
    axes[0].set_axis_off()
    axes[0].set_title(pictured["title"], fontsize=9)
    for ax, (name, p) in zip(axes[1:], probabilities.items()):
        look = plots.look("CLIP_ZeroShot" if name == "zero-shot" else name, list(probabilities))
        ax.barh(range(len(shown)), 100 * p[shown], color=look["color"])
        ax.set_yticks(range(len(shown)), [pictured["templates"][i] for i in shown])
        ax.tick_params(labelleft=ax is axes[1])
        ax.invert_yaxis()
        ax.set_xlim(0, 100 * highest.max() * 1.05)
        ax.set_xlabel("probability, %")
        ax.set_title(name)
    plots.save(figure, path)
