"""Pre-train the small CLIP that is shipped with the package.

1. The image encoder is trained with linear heads that predict the class and the context of each
   picture. The heads are then discarded. (From scratch, the contrastive loss is much slower.)
2. The text encoder is trained with CLIP's symmetric contrastive loss, first on fixed image
   features, then together with the image encoder.

Training uses only families and scans of the split "train". Use measure_clip.py --fonts to evaluate
on "held_out".
"""

import argparse
import contextlib
import json
import math
import random
import time
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F
from clip.model import CLIP
from pictures import draw_many
from render import ATTRIBUTES
from tokens import TRAINED_LENGTH, Tokens, describe, measured_prompts
from tqdm import tqdm

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
CONTEXT_LENGTH, VOCABULARY = 77, 49408


def normalise_pixels(images):
    """Return uint8 images as floats in CLIP's normalisation."""
    return (images.float() / 255 - MEAN) / STD


def encode_text(model, embedding, rows, ends):
    """Return text features like CLIP.encode_text, for rows cut after the longest text.

    This is exact, since the causal mask hides all tokens after the end token.
    """
    length = rows.shape[1]
    x = embedding(rows) + model.positional_embedding[:length]
    x = x.permute(1, 0, 2)
    for block in model.transformer.resblocks:
        block.attn_mask = FULL_MASK[:length, :length]
        x = block(x)
    x = model.ln_final(x.permute(1, 0, 2))
    return x[torch.arange(len(x)), ends] @ model.text_projection


FULL_MASK = torch.full((CONTEXT_LENGTH, CONTEXT_LENGTH), float("-inf")).triu_(1)


def optimiser(groups, steps, warmup=100):
    """Return AdamW for [(parameters, lr)] and its schedule: linear warm-up, then cosine decay.

    Weight decay applies to matrices only.
    """
    split = []
    for parameters, lr in groups:
        parameters = list(parameters)
        split.append({"params": [p for p in parameters if p.ndim > 1], "lr": lr})
        split.append({"params": [p for p in parameters if p.ndim < 2], "lr": lr, "weight_decay": 0})
    adam = torch.optim.AdamW(split, betas=(0.9, 0.98), weight_decay=0.05)

    def factor(step):
        ramp = min(1, (step + 1) / warmup)
        return ramp * 0.5 * (1 + math.cos(math.pi * min(1, step / steps)))

    return adam, torch.optim.lr_scheduler.LambdaLR(adam, factor)


def batches(size, batch, steps, seed):
    """Yield random indices for each step, without replacement within an epoch."""
    generator, left = torch.Generator().manual_seed(seed), torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(left) < batch:
            left = torch.randperm(size, generator=generator)
        yield left[:batch]
        left = left[batch:]


def step_on(loss, adam, schedule, parameters):
    """Take an optimizer step with clipped gradients."""
    adam.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    adam.step()
    schedule.step()


def learn_attributes(model, pictures, args, log, seed, steps):
    """Train the image encoder to predict class and context (part 1)."""
    images, targets, _ = pictures
    sizes = [int(targets[0].max()) + 1, *map(len, ATTRIBUTES.values())]
    heads = torch.nn.ModuleList(torch.nn.Linear(args.width, n) for n in sizes)
    parameters = [*model.visual.parameters(), *heads.parameters()]
    adam, schedule = optimiser([(parameters, args.lr)], steps)
    drawn = batches(len(images), args.attribute_batch, steps, seed)
    bar = tqdm(drawn, desc="attributes", total=steps, mininterval=10)
    for step, index in enumerate(bar):
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            z = model.visual(normalise_pixels(images[index]))
        losses = [F.cross_entropy(h(z.float()), t) for h, t in zip(heads, targets[:, index])]
        step_on(sum(losses), adam, schedule, parameters)
        if step % 100 == 99:
            log("attributes", step + 1, [round(x.item(), 3) for x in losses])


def align(model, embedding, tokens, pictures, args, log):
    """Train the text encoder, then both encoders, with the contrastive loss (part 2)."""
    images, targets, contexts = pictures
    labels, rng, forbidden = targets[0].tolist(), random.Random(args.seed), measured_prompts()
    text = [p for n, p in model.named_parameters()
            if not n.startswith(("visual", "token_embedding"))]  # fmt: skip
    text += list(embedding.parameters())
    groups = [(text, args.lr), (model.visual.parameters(), args.lr * args.image_lr_factor)]
    steps = args.text_steps + args.joint_steps
    adam, schedule = optimiser(groups, steps)
    everything = [p for group in adam.param_groups for p in group["params"]]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
        fixed = [model.visual(normalise_pixels(part)).float() for part in images.split(1000)]
    fixed = torch.cat(fixed)
    bar = tqdm(batches(len(images), args.batch, steps, args.seed + 1), desc="align", total=steps,
               mininterval=10)  # fmt: skip
    for step, index in enumerate(bar):
        captions = [describe(labels[i], contexts[i], rng, args.name_class, forbidden)
                    for i in index.tolist()]  # fmt: skip
        rows, ends = tokens.encode(captions)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            joint = step >= args.text_steps
            z = model.visual(normalise_pixels(images[index])) if joint else fixed[index]
            t = encode_text(model, embedding, rows, ends)
        scale = model.logit_scale.exp()
        logits = scale * F.normalize(z.float(), dim=-1) @ F.normalize(t.float(), dim=-1).T
        truth = torch.arange(len(index))
        loss = (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
        step_on(loss, adam, schedule, everything)
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if step % 100 == 99:
            log("joint" if joint else "text", step + 1, [round(loss.item(), 3),
                                                         round(scale.item(), 2)])  # fmt: skip


def save(model, embedding, tokens, path):
    """Save the model in OpenAI's format, in fp16 and compressed (untrained rows are zeros)."""
    state = {k: v.detach().half() for k, v in model.state_dict().items()}
    table = torch.zeros(VOCABULARY, embedding.weight.shape[1], dtype=torch.float16)
    table[tokens.ids] = embedding.weight.detach()[1:].half()
    state["token_embedding.weight"] = table
    state["positional_embedding"][TRAINED_LENGTH:] = state["positional_embedding"][
        TRAINED_LENGTH - 1
    ].clone()
    state["logit_scale"] = model.logit_scale.detach().float()
    torch.save(state, path)
    with zipfile.ZipFile(path) as stored:
        entries = [(name, stored.read(name)) for name in stored.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as small:
        for name, data in entries:
            small.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


@contextlib.contextmanager
def logging_to(path):
    """Give log(stage, step, values), which writes a line of JSON with the seconds since now."""
    start = time.time()
    with open(path, "w") as lines:

        def log(stage, step, values):
            row = {"stage": stage, "step": step, "values": values, "s": round(time.time() - start)}
            print(json.dumps(row), file=lines, flush=True)

        yield log


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fonts", required=True, help="folder of the npm packages of fonts.txt")
    parser.add_argument("--output", default="digitclip.pt")
    parser.add_argument("--log", default="digitclip.jsonl")
    parser.add_argument("--encoder", help="prefix of files with the encoder after each round")
    parser.add_argument("--pictures", type=int, default=60_000)
    parser.add_argument("--attribute_steps", type=int, nargs="+", default=[3000, 4000, 3000],
                        help="steps of each round; a round draws new pictures")  # fmt: skip
    parser.add_argument("--text_steps", type=int, default=1000)
    parser.add_argument("--joint_steps", type=int, default=1000)
    parser.add_argument("--attribute_batch", type=int, default=128)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--image_lr_factor", type=float, default=0.2)
    parser.add_argument(
        "--name_class", type=float, default=0.7, help="share of captions that name the class"
    )
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--image_layers", type=int, default=4)
    parser.add_argument("--text_layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no_bf16", dest="bf16", action="store_false")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    with logging_to(args.log) as log:
        tokens = Tokens()
        model = CLIP(args.width, 32, args.image_layers, args.width, args.patch, CONTEXT_LENGTH, 1,
                     args.width, args.width // 64, args.text_layers)  # fmt: skip
        embedding = torch.nn.Embedding(len(tokens.ids) + 1, args.width, padding_idx=0)
        torch.nn.init.normal_(embedding.weight, std=0.02)
        embedding.weight.data[0] = 0
        for rounds, steps in enumerate(args.attribute_steps):
            kept = Path(f"{args.encoder}{rounds}.pt") if args.encoder else None
            last = rounds == len(args.attribute_steps) - 1  # part 2 uses its pictures
            trained = kept and kept.exists()
            seed, level = args.seed + 100 * rounds, "hard" if rounds else "easy"
            if last or not trained:
                pictures = draw_many(args.fonts, "train", args.pictures, seed, args.threads, level)
                log("drawn", rounds, [args.pictures])
            if trained:
                model.visual.load_state_dict(torch.load(kept))
                continue
            torch.manual_seed(seed)
            learn_attributes(model, pictures, args, log, seed, steps)
            if kept:
                torch.save(model.visual.state_dict(), kept)
        align(model, embedding, tokens, pictures, args, log)
        save(model, embedding, tokens, args.output)
        log("saved", 0, [Path(args.output).stat().st_size])


if __name__ == "__main__":
    main()
