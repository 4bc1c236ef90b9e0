"""Plots of ``carft probe``: context recognition, context KL and context distributions."""

import math

import numpy as np

from ..method.preprocess import IMAGENET_MEAN, IMAGENET_STD
from ..records.rows import Row, ordered
from . import plots
from .context_tables import counted
from .whole_trials import RUN

ZERO_SHOT = Row("CLIP_ZeroShot")
ROLES = {"source": "source domains (held-out images)", "target": "target domain"}


def recognition(table, rows, path):
    """Save a bar plot of the change in context recognition, with panels for source and target.

    Nothing is drawn if the table has only CLIP_ZeroShot, whose recognition does not change.

    Args:
        table: as context_tables.summary returns it. Only its first data set is drawn.
        rows: {label: Row} of the table's `algorithm`.
        path: of the PNG file.
    """
    name = table.dataset.iloc[0]
    table = table[(table.dataset == name) & (table.algorithm != str(ZERO_SHOT))]
    shown = ordered(rows[text] for text in table.algorithm.unique())
    groups = list(table.context.unique())
    if not shown:
        return
    columns = 4  # of the legend
    height = 4.4 + 0.25 * math.ceil(len(shown) / columns)
    figure, axes = plots.new(1, 2, width=10, height=height, sharey=True)
    width = 0.8 / len(shown)
    for ax, (role, title) in zip(axes, ROLES.items()):
        part = table[table.role == role]
        for j, row in enumerate(shown):
            found = part[part.algorithm == str(row)].set_index("context").reindex(groups)
            errors = np.array([found.change - found["95 % low"], found["95 % high"] - found.change])
            ax.bar(
                np.arange(len(groups)) + (j - (len(shown) - 1) / 2) * width,
                found.change,
                width,
                yerr=errors if np.isfinite(errors).all() else None,
                label=str(row),
                color=plots.look(row, shown)["color"],
                ecolor="gray",
                capsize=2,
            )
        before = dict(list(part.groupby("context")["zero-shot %"]))
        ticks = [f"{group}\n({_span(before.get(group, [np.nan]))} %)" for group in groups]
        ax.set_xticks(range(len(groups)), ticks, fontsize=8)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_title(title)
    axes[0].set_ylabel("context recognition, fine-tuned − zero-shot, points")
    bars = axes[0].get_legend_handles_labels()
    figure.legend(*bars, loc="outside lower center", ncols=columns, frameon=False)
    has_lines = table["95 % low"].notna().any()
    note = f"; lines: 95 % interval over {_span(table.trials)} trials" if has_lines else ""
    figure.suptitle(f"{name}; below each group: zero-shot recognition{note}", fontsize=10)
    plots.save(figure, path)


def _span(values):
    """Return the numbers from the lowest to the highest, as they are shown."""
    low, high = (f"{x:.1f}" if isinstance(x, float) else f"{x}" for x in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def kl_over_steps(moved, rows, path):
    """Save a plot of the mean context KL against the step, with panels for source and target.

    Runs count as in context_tables.summary. A curve has the steps that all runs of its row have.
    Nothing is drawn if there is only CLIP_ZeroShot, whose KL is 0.

    Args:
        moved: the KL cells of analysis.contexts.measure. Only the first data set is drawn.
        rows: {label: Row} of their `algorithm`.
        path: of the PNG file.
    """
    moved, _ = counted(moved)
    moved = moved[(moved.dataset == moved.dataset.iloc[0]) & (moved.algorithm != str(ZERO_SHOT))]
    shown = ordered(rows[text] for text in moved.algorithm.unique())
    if not shown:
        return
    figure, axes = plots.new(1, 2, width=10, height=4, sharey=True)
    for ax, (role, title) in zip(axes, ROLES.items()):
        for row in shown:
            part = moved[(moved.role == role) & (moved.algorithm == str(row))]
            n = part.step.map(part.drop_duplicates([*RUN, "step"]).step.value_counts())
            part = part[n == len(part.drop_duplicates(RUN))]
            by_step = part.groupby(["step", "trial_seed"]).kl.mean().groupby("step").mean()
            ax.plot(by_step.index, by_step, label=str(row), **plots.look(row, shown))
        ax.set_title(title)
        ax.set_xlabel("training step")
    axes[0].set_ylabel("KL(zero-shot ‖ fine-tuned) of contexts, nats")
    axes[0].set_ylim(bottom=0)
    axes[0].legend()
    plots.save(figure, path)


def distributions(pictured, path, n_contexts=10):
    """Save a plot of one image and the context distribution of each model for it.

    Args:
        pictured: {"image": (3, H, W) in ImageNet's normalisation, "title", "templates": M texts,
            "zero-shot": probabilities (M,), "fine-tuned": {Row: (M,)}}.
        path: of the PNG file.
        n_contexts: number of contexts shown, those with the highest probability in any model.
    """
    rows = [ZERO_SHOT, *pictured["fine-tuned"]]
    names = ["zero-shot", *map(str, pictured["fine-tuned"])]
    found = [pictured["zero-shot"], *pictured["fine-tuned"].values()]
    probabilities = list(map(np.asarray, found))
    highest = np.max(probabilities, axis=0)
    shown = np.argsort(-highest)[:n_contexts]
    figure, axes = plots.new(
        1, 1 + len(probabilities), width=3 + 2.6 * len(probabilities), height=4
    )
    image = np.asarray(pictured["image"]).transpose(1, 2, 0)
    axes[0].imshow(np.clip(image * IMAGENET_STD + IMAGENET_MEAN, 0, 1))
    axes[0].set_axis_off()
    axes[0].set_title(pictured["title"], fontsize=9)
    for ax, row, name, p in zip(axes[1:], rows, names, probabilities):
        look = plots.look(row, rows)
        ax.barh(range(len(shown)), 100 * p[shown], color=look["color"])
        ax.set_yticks(range(len(shown)), [pictured["templates"][i] for i in shown])
        ax.tick_params(labelleft=ax is axes[1])
        ax.invert_yaxis()
        ax.set_xlim(0, 100 * highest.max() * 1.05)
        ax.set_xlabel("probability, %")
        ax.set_title(name)
    plots.save(figure, path)
