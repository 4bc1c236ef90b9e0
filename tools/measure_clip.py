"""Print the results in the model card: zero-shot accuracy and context recognition.

The class weights are W_cls = normalise(mean over contexts.txt of normalised text features). The
weights of an attribute's value are the same mean over the probes in context_probes.json and over
the classes. Except for the shortest ones ("a red three"), no probe and no line of contexts.txt is a
possible training caption.
"""

import argparse
import json
from pathlib import Path

import clip
import numpy as np
import torch
import torch.nn.functional as F

ASSETS = Path(__file__).parent.parent / "domainbed_carft" / "assets"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def to_pixels(images):
    """Return uint8 images (N, 32, 32, 3) as tensors (N, 3, 32, 32) in CLIP's normalisation."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@torch.no_grad()
def image_features(model, images):
    """Return normalised features (N, D) of uint8 images (N, 32, 32, 3)."""
    parts = [model.encode_image(to_pixels(images[i : i + 256])) for i in range(0, len(images), 256)]
    return F.normalize(torch.cat(parts).float(), dim=-1)


@torch.no_grad()
def text_features(model, templates, classes):
    """Return normalised text features (M, K, D) of M templates and K classes."""
    prompts = [t.format(c) for t in templates for c in classes]
    features = F.normalize(model.encode_text(clip.tokenize(prompts)).float(), dim=-1)
    return features.view(len(templates), len(classes), -1)


def class_weights(model, templates, classes):
    """Return the zero-shot classifier (K, D)."""
    return F.normalize(text_features(model, templates, classes).mean(0), dim=-1)


def context_weights(model, probes, classes):
    """Return a classifier with a row per value of an attribute; probes: {value: [template]}."""
    rows = [text_features(model, templates, classes).mean((0, 1)) for templates in probes.values()]
    return F.normalize(torch.stack(rows), dim=-1)


def calibration_error(probabilities, labels, bins=10):
    """Return the expected calibration error in [0, 1], with bins of equal width."""
    sure, guess = probabilities.max(1)
    place = (sure * bins).long().clamp(max=bins - 1)
    right = (guess == labels).float()
    parts = [(sure[place == b] - right[place == b]).sum().abs() for b in range(bins)]
    return float(sum(parts) / len(labels))


def measure(model, data, templates, probes):
    """Return {environment: {"n", "class", ..., attribute: accuracy in [0, 1]}}, and of "all"."""
    classes, scale = [str(c) for c in data["classes"]], model.logit_scale.exp().item()
    w_cls = class_weights(model, templates, classes)
    w_context = {name: context_weights(model, values, classes) for name, values in probes.items()}
    rows = {}
    for env in [str(e) for e in data["environments"]]:
        z = image_features(model, data[f"{env}_images"])
        labels = torch.from_numpy(data[f"{env}_labels"])
        p = (scale * z @ w_cls.T).softmax(1)
        row = {"n": len(z), "class": (p.argmax(1) == labels).float().mean().item(),
               "confidence": p.max(1).values.mean().item(),
               "ece": calibration_error(p, labels)}  # fmt: skip
        for name, w in w_context.items():
            if f"{env}_{name}" not in data:  # LetterStyles has no sources
                continue
            truth = torch.from_numpy(data[f"{env}_{name}"]).long()
            row[name] = ((z @ w.T).argmax(1) == truth).float().mean().item()
        rows[env] = row
    rows["all"] = {key: float(np.mean([r[key] for r in rows.values()])) for key in row}
    rows["all"]["n"] = sum(r["n"] for k, r in rows.items() if k != "all")
    return rows


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--letters", action="store_true", help="letterclip on LetterStyles")
    parser.add_argument("--fonts", help="measure on the held-out pre-training families instead")
    args = parser.parse_args()
    name = "letter" if args.letters else "digit"
    model, _ = clip.load(str(ASSETS / f"{name}clip.pt"), device="cpu")
    templates = (ASSETS / "contexts.txt").read_text().split("\n")
    templates = [line for line in templates if line.strip()]
    probes = json.loads((ASSETS / "context_probes.json").read_text())
    data = held_out_pictures(args) if args.fonts else np.load(ASSETS / f"{name}styles.npz")
    rows = measure(model, data, templates, probes)
    print(f"temperature {model.logit_scale.exp().item():.1f}, {len(templates)} contexts")
    print("| environment | " + " | ".join(rows["all"]) + " |")
    print("|---" * (1 + len(rows["all"])) + "|")
    for env, row in rows.items():
        cells = [f"{v}" if k == "n" else f"{100 * v:.1f}" for k, v in row.items()]
        print(f"| {env} | " + " | ".join(cells) + " |")


def held_out_pictures(args):
    """Return pictures of held-out families and scans in independent contexts, grouped by source.

    They are of digits, or of letters, of which there are no scans.
    """
    from captions import NUMBERS
    from make_letterstyles import CLASSES
    from pictures import draw_pictures
    from render import ATTRIBUTES

    level = "letters" if args.letters else "digits"
    images, labels, contexts = draw_pictures((args.fonts, "held_out", 4000, 77, level))
    labels = labels - len(NUMBERS) if args.letters else labels
    sources = ATTRIBUTES["source"][1 if args.letters else 0 :]
    data = {"classes": CLASSES if args.letters else NUMBERS, "environments": sources}
    for env in sources:
        mine = [i for i, c in enumerate(contexts) if c["source"] == env and labels[i] >= 0]
        data |= {f"{env}_images": images[mine], f"{env}_labels": labels[mine]}
        for name, values in ATTRIBUTES.items():
            data[f"{env}_{name}"] = np.array([values.index(contexts[i][name]) for i in mine])
    return data


if __name__ == "__main__":
    main()
