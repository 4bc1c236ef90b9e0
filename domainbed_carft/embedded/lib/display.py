"""Terminal output of a training run. out.txt has DomainBed's columns instead."""

import os
import sys
import textwrap

from domainbed_carft.base.assets import CLIPS

from . import misc

WIDTH = 100
# Knobs of DomainBed's own networks. Algorithms with clip_backbone do not use them.
OF_NETWORKS = (
    *("resnet18", "resnet50_augmix", "dinov2", "vit", "vit_attn_tune", "freeze_bn", "lars"),
    *("linear_steps", "resnet_dropout", "vit_dropout", "nonlinear_classifier"),
)
USED = {  # knob: (knobs that decide whether it is used, start of the values that use it)
    "clip_ema_decay": (("clip_average", "carft_teacher"), "ema"),
    "clip_beta": (("clip_average", "carft_teacher"), "beta"),
    "clip_swad_start": (("clip_average",), "swad"),
    "clip_lora_rank": (("clip_train",), "lora"),
    "clip_lora_alpha": (("clip_train",), "lora"),
    "clip_lora_layers": (("clip_train",), "lora"),
    "clip_crop": (("clip_transform",), "clip"),
    "clip_flip": (("clip_transform",), "clip"),
}
OFF = ("", "none", None, False, 0)


def domain_names(dataset):
    """Return the names of a data set's environments, from their folders or else their class."""
    labels = dataset.ENVIRONMENTS or range(len(dataset))
    return [
        os.path.basename(os.path.normpath(env.root)) if getattr(env, "root", None) else str(label)
        for env, label in zip(dataset, labels)
    ]


def opening(args, hparams, defaults, dataset):
    """Return the text shown before training: data, domains, weights and relevant knobs.

    Args:
        args: arguments of the command.
        hparams: {knob: value} of the run.
        defaults: {knob: default} of the algorithm on this data set.
        dataset: the data set.
    """
    names = domain_names(dataset)
    trained = [name for i, name in enumerate(names) if i not in args.test_envs]
    tested = [names[i] for i in args.test_envs]
    counted = [f"{name} ({len(env):,})" for name, env in zip(names, dataset)]
    lines = [
        ("Algorithm", args.algorithm),
        ("Data set", f"{args.dataset}: {', '.join(counted)} images"),
        ("Trained on", ", ".join(trained)),
        ("Tested on", ", ".join(tested)),
    ]
    if "clip_backbone" in hparams:
        shipped = hparams["clip_backbone"] in CLIPS
        lines.append(("Weights", "the shipped small CLIP" if shipped else hparams["clip_backbone"]))
    shown = relevant_knobs(hparams, defaults)
    lines.append(("Knobs", ", ".join(f"{name}={value}" for name, value in shown)))
    lines.append(("Folder", f"{args.output_dir} (all knobs and numbers: out.txt)"))
    return "\n".join(
        textwrap.fill(text, WIDTH, initial_indent=f"{title:<12}", subsequent_indent=" " * 12)
        for title, text in lines
    )


def relevant_knobs(hparams, defaults):
    """Return [(knob, value)] of the knobs that affect a run, changed ones first.

    Unchanged knobs are left out if they are off, or if the algorithm does not use them: those of
    DomainBed's own networks (with clip_backbone), and those of choices that were not made (LoRA's).
    """
    shown, kept = [], []
    for name, value in sorted(hparams.items()):
        changed = name not in defaults or value != defaults[name]
        idle = name in OF_NETWORKS and "clip_backbone" in hparams
        others, start = USED.get(name, ((), ""))
        idle |= bool(others) and not any(str(hparams.get(k)).startswith(start) for k in others)
        if name == "clip_backbone" or (not changed and (idle or value in OFF)):
            continue
        default = f" (default {defaults[name]})" if changed and name in defaults else ""
        (shown if changed else kept).append((name, f"{value}{default}"))
    return shown + kept


class Table:
    """Prints records, with one accuracy per domain on the terminal and all columns in out.txt.

    Training domains show the accuracy on their `out` splits, test domains on their `in` splits,
    in per cent.

    Args:
        names: names of the domains.
        test_envs: indices of the test domains.
    """

    def __init__(self, names, test_envs):
        self.columns = {}  # {key in records: title}
        for i, name in enumerate(names):
            is_test = i in test_envs
            self.columns[f"env{i}_{'in' if is_test else 'out'}_acc"] = name + "*" * is_test
        self.shown, self.written = None, None

    def print(self, record):
        """Print a record (a dict), after a header if the columns are new or have changed."""
        terminal = getattr(sys.stdout, "stream", sys.stdout)
        file = getattr(sys.stdout, "file", None)
        skipped = {"step", "epoch", "step_time", "mem_gb"}
        values = [k for k in record if k not in skipped and not k.endswith("_acc")]
        accuracies = [key for key in self.columns if key in record]
        titles = ["step", *values, *(self.columns[key] for key in accuracies)]
        widths = [max(6, len(title)) for title in titles]
        if self.shown != titles:
            self.shown = titles
            note = "accuracy in per cent on held-out images; *: test domain, its other images"
            print(f"\n{note}\n{_row(titles, widths)}", file=terminal)
        cells = [str(record["step"]), *(f"{record[key]:.3g}" for key in values)]
        cells += [f"{100 * record[key]:.1f}" for key in accuracies]
        print(_row(cells, widths), file=terminal, flush=True)
        if file is not None:
            if self.written != sorted(record):
                self.written = sorted(record)
                misc.print_row(self.written, colwidth=12, file=file)
            misc.print_row([record[key] for key in self.written], colwidth=12, file=file)
            file.flush()


def _row(cells, widths):
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths))
