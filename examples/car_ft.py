"""CAR-FT in one file, without DomainBed (Mao et al., arXiv 2211.16175).

    python car_ft.py --data PACS --target sketch --clip ViT-B/16

The data is a folder DOMAIN/CLASS/IMAGE. Training uses all domains but the target. Notation: B
images, D feature dimensions, K classes, M contexts; f is the image encoder, f0 its frozen copy, g
the text encoder, τ the logit scale.
"""

import argparse
import copy
import math
import os

import torch
import torch.nn.functional as F
from torch.utils.data import ConcatDataset, DataLoader
from torchvision import transforms as t
from torchvision.datasets import ImageFolder

CONTEXTS = ("photo", "painting", "drawing", "sketch", "cartoon", "sculpture", "rendering")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def load_clip(name):
    """Return (model, tokenize, size, mean, std) of an OpenAI CLIP or of open_clip:MODEL/TAG."""
    if name.startswith("open_clip:"):
        import open_clip

        architecture, _, tag = name.removeprefix("open_clip:").partition("/")
        quick = open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False)
        model = open_clip.create_model(architecture, pretrained=tag, force_quick_gelu=quick)
        size, mean, std = (getattr(model.visual, f"image_{x}") for x in ("size", "mean", "std"))
        size = size if isinstance(size, int) else size[0]
        return model, open_clip.get_tokenizer(architecture), size, mean, std
    import clip

    model, _ = clip.load(name, device="cpu", jit=False)
    return model.float(), clip.tokenize, model.visual.input_resolution, MEAN, STD


@torch.no_grad()
def prompt_weights(model, tokenize, contexts, classes):
    """Return W_ctx (M, D) and W_cls (K, D), the normalised means of normalised prompt features."""
    prompts = [[f"a {context} of {name}" for name in classes] for context in contexts]
    features = [model.encode_text(tokenize(row)) for row in prompts]  # g
    T = F.normalize(torch.stack(features), dim=-1)  # (M, K, D)
    return F.normalize(T.mean(1), dim=-1), F.normalize(T.mean(0), dim=-1)


class CarFT:
    """The encoder in training, its frozen copy, the head and the optimizer."""

    def __init__(self, model, W_ctx, W_cls, lam=1.0, lr=5e-6, weight_decay=0.1, steps=5000):
        device = next(model.parameters()).device
        self.f, self.f0 = model.visual, copy.deepcopy(model.visual).eval().requires_grad_(False)
        self.W_ctx, self.lam = W_ctx.to(device), lam
        self.tau = model.logit_scale.exp().item()
        self.head = torch.nn.Linear(*W_cls.T.shape, bias=False).to(device)
        self.head.weight.data = self.tau * W_cls.to(device)  # starts as zero-shot CLIP
        self.f.eval()  # as in pre-training: no batch statistics, no dropout
        self.trained = [*self.f.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.trained, lr=lr, weight_decay=weight_decay)
        warmup = round(0.1 * steps)

        def rate(step):  # linear warm-up, then cosine to 0
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)

    def encode(self, encoder, x):
        """Return normalised features (B, D)."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
            features = encoder(x)
        return F.normalize(features.float(), dim=-1)

    def logits(self, x):
        """Return logits (B, K)."""
        return self.head(self.encode(self.f, x))

    def step(self, x, y):
        """Take a training step on images x (B, 3, R, R) and labels y (B,); return (L, CE, KL)."""
        z = self.encode(self.f, x)
        with torch.no_grad():
            log_p0 = F.log_softmax(self.tau * self.encode(self.f0, x) @ self.W_ctx.T, dim=1)
        log_p = F.log_softmax(self.tau * z @ self.W_ctx.T, dim=1)
        ce = F.cross_entropy(self.head(z), y)
        kl = F.kl_div(log_p, log_p0, log_target=True, reduction="batchmean")  # KL(p0_ctx ‖ p_ctx)
        loss = ce + self.lam * kl
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.schedule.step()
        return loss.item(), ce.item(), kl.item()

    @torch.no_grad()
    def accuracy(self, loader):
        """Return the share of correctly classified images, in [0, 1]."""
        device = self.W_ctx.device
        right = [(self.logits(x.to(device)).argmax(1).cpu() == y).float() for x, y in loader]
        return torch.cat(right).mean().item()


def batches(loader, n):
    """Yield n batches, repeating the loader as needed."""
    while n > 0:
        for batch in loader:
            if n > 0:
                yield batch
            n -= 1


def main(argv=None):
    """Run the command."""
    parser = argparse.ArgumentParser(description="CAR-FT on a folder DOMAIN/CLASS/IMAGE.")
    parser.add_argument("--data", required=True, help="folder DOMAIN/CLASS/IMAGE")
    parser.add_argument("--target", required=True, help="test domain")
    parser.add_argument("--clip", default="ViT-B/16", help="a name, file, or open_clip:MODEL/TAG")
    parser.add_argument(
        "--contexts", nargs="+", default=CONTEXTS, help="as in 'a CONTEXT of CLASS'"
    )
    parser.add_argument("--lam", type=float, default=1.0, help="λ, the weight of the context KL")
    parser.add_argument("--lr", type=float, default=5e-6)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--output", default="car_ft.pt")
    args = parser.parse_args(argv)
    domains = sorted(entry.name for entry in os.scandir(args.data) if entry.is_dir())
    if args.target not in domains or len(domains) < 2 or len(args.contexts) < 2:
        parser.error(f"needs at least 2 contexts, and a target among at least 2 domains: {domains}")

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenize, size, mean, std = load_clip(args.clip)
    finish = [t.ToTensor(), t.Normalize(mean, std)]
    cubic = {"interpolation": t.InterpolationMode.BICUBIC}
    crop = t.RandomResizedCrop(size, scale=(0.7, 1.0), **cubic)
    train = t.Compose([crop, t.RandomHorizontalFlip(), *finish])
    test = t.Compose([t.Resize(size, **cubic), t.CenterCrop(size), *finish])
    sources = [ImageFolder(f"{args.data}/{d}", train) for d in domains if d != args.target]
    target = ImageFolder(f"{args.data}/{args.target}", test)
    sources, classes = ConcatDataset(sources), target.classes
    if any(part.classes != classes for part in sources.datasets) or len(sources) < args.batch:
        parser.error("all domains must have the same classes, and at least --batch images in total")

    names = [name.replace("_", " ") for name in classes]
    W_ctx, W_cls = prompt_weights(model, tokenize, args.contexts, names)
    method = CarFT(model.to(device), W_ctx, W_cls, args.lam, args.lr, steps=args.steps)
    loader = DataLoader(sources, args.batch, shuffle=True, drop_last=True, num_workers=2)
    held_out = DataLoader(target, args.batch, num_workers=2)
    print(f"{args.target}, zero-shot: {100 * method.accuracy(held_out):.1f} %")
    for step, (x, y) in enumerate(batches(loader, args.steps)):
        loss, ce, kl = method.step(x.to(device), y.to(device))
        if step % 100 == 0:
            print(f"step {step}: loss {loss:.4f} = CE {ce:.4f} + {args.lam:g} · KL {kl:.4f}")
    print(f"{args.target}, fine-tuned: {100 * method.accuracy(held_out):.1f} %")
    weights = {"visual": method.f.state_dict(), "head": method.head.state_dict()}
    torch.save({**weights, "classes": classes}, args.output)


if __name__ == "__main__":
    main()
