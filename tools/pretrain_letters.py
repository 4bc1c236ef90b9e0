"""Continue the pre-training of the small CLIP with letters and the captions of LetterStyles.

It starts from digitclip.pt, and has the two parts of pretrain_clip.py:

1. The image encoder is trained with linear heads that predict the class and the context.
2. Both encoders are trained with CLIP's symmetric contrastive loss. Captions name the class as
   captions.NAMING has it. The weights with the lowest loss on typefaces of the split "held_out" are
   kept. The data set is never opened.
"""

import argparse
import random
from pathlib import Path

import clip
import torch
import torch.nn.functional as F
from captions import LETTERS, caption, forget, web_words
from pictures import draw_many
from pretrain_clip import (
    batches,
    encode_text,
    learn_attributes,
    logging_to,
    normalise_pixels,
    optimiser,
    save,
    step_on,
)
from tokens import ASSETS, Tokens, measured_prompts
from tqdm import tqdm

NAME_ATTRIBUTE = 0.4


def captions_of(labels, contexts, rng, forbidden):
    """Return a random caption for each picture, none of which is a prompt of the evaluation."""
    found = []
    for label, context in zip(labels, contexts):
        words = None
        while words is None or " ".join(w for w in words if w != ".") in forbidden:
            words = caption(
                label, context, rng, name_attribute=NAME_ATTRIBUTE, thing=web_words(label, rng)
            )
        found.append(forget(words, rng))
    return found


def contrastive(model, embedding, images, text, bf16):
    """Return CLIP's symmetric contrastive loss of images and their captions."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        z = model.visual(normalise_pixels(images))
        t = encode_text(model, embedding, *text)
    logits = model.logit_scale.exp() * F.normalize(z.float(), dim=-1)
    logits = logits @ F.normalize(t.float(), dim=-1).T
    truth = torch.arange(len(images))
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


def align(model, embedding, tokens, pictures, held_out, args, log):
    """Train both encoders, and save the weights with the lowest held-out loss."""
    images, targets, contexts = pictures
    labels, rng = targets[0].tolist(), random.Random(args.seed)
    forbidden = measured_prompts([f"letter {c.lower()}" for c in LETTERS])
    text = [p for n, p in model.named_parameters()
            if not n.startswith(("visual", "token_embedding"))]  # fmt: skip
    groups = [([*text, *embedding.parameters()], args.lr),
              (model.visual.parameters(), args.lr * args.image_lr_factor)]  # fmt: skip
    adam, schedule = optimiser(groups, args.steps)
    everything = [p for group in adam.param_groups for p in group["params"]]
    fixed = captions_of(held_out[1][0].tolist(), held_out[2], random.Random(args.seed), forbidden)
    best = float("inf")
    drawn = batches(len(images), args.batch, args.steps, args.seed + 1)
    for step, index in enumerate(tqdm(drawn, desc="align", total=args.steps, mininterval=10)):
        drawn_labels, drawn_contexts = (
            [column[i] for i in index.tolist()] for column in (labels, contexts)
        )
        words = captions_of(drawn_labels, drawn_contexts, rng, forbidden)
        loss = contrastive(model, embedding, images[index], tokens.encode(words), args.bf16)
        step_on(loss, adam, schedule, everything)
        if step % args.check == args.check - 1:
            with torch.no_grad():
                losses = [
                    contrastive(model, embedding, held_out[0][i : i + args.batch],
                                tokens.encode(fixed[i : i + args.batch]), args.bf16).item()
                    for i in range(0, len(fixed) - args.batch + 1, args.batch)
                ]  # fmt: skip
            now = sum(losses) / len(losses)
            log("align", step + 1, [round(loss.item(), 3), round(now, 4)])
            if now < best:
                best = now
                save(model, embedding, tokens, args.output)


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fonts", required=True, help="folder of the npm packages of fonts.txt")
    parser.add_argument("--output", default="letterclip.pt")
    parser.add_argument("--log", default="letterclip.jsonl")
    parser.add_argument("--pictures", type=int, default=60_000)
    parser.add_argument("--attribute_steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=1000, help="steps of part 2, at most")
    parser.add_argument("--check", type=int, default=100, help="steps between held-out losses")
    parser.add_argument("--attribute_batch", type=int, default=128)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--image_lr_factor", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that draw pictures")
    parser.add_argument("--no_bf16", dest="bf16", action="store_false")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with logging_to(args.log) as log:
        tokens = Tokens()
        model = clip.load(str(ASSETS / "digitclip.pt"), device="cpu")[0].float()
        args.width = model.visual.output_dim
        embedding = torch.nn.Embedding(len(tokens.ids) + 1, args.width, padding_idx=0)
        table = model.token_embedding.weight.detach()
        embedding.weight.data = torch.cat([torch.zeros(1, args.width), table[tokens.ids]])
        seed, workers = 1000 * args.seed, args.workers
        pictures = draw_many(args.fonts, "train", args.pictures, seed, workers, "letters")
        held_out = draw_many(args.fonts, "held_out", 5000, seed + 999, workers, "letters")
        log("drawn", 0, [len(pictures[0]), len(held_out[0])])
        torch.manual_seed(args.seed)
        learn_attributes(model, pictures, args, log, seed, args.attribute_steps)
        align(model, embedding, tokens, pictures, held_out, args, log)
        log("saved", 0, [Path(args.output).stat().st_size])


if __name__ == "__main__":
    main()
