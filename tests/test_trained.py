"""trained.py: which weights move, LoRA against its formula, counts, on all kinds of encoders."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from conftest import batches, logits, save_clip, train
from domainbed.lib import snapshot
from torch import nn

from domainbed_carft.method.knobs import TRAIN
from domainbed_carft.models import trained

PARTIAL = [kind for kind in TRAIN if kind != "full"]
KNOBS = {kind: {"clip_train": kind, "clip_last_k": int(kind == "last_k")} for kind in PARTIAL}
KNOBS["lora"] |= {"clip_lora_rank": 2, "clip_lora_alpha": 4.0}
BLOCK0, BLOCK1 = "transformer.resblocks.0", "transformer.resblocks.1"


def moved(algorithm, steps=2):
    before = copy.deepcopy(algorithm.state_dict())
    train(algorithm, steps)
    after = algorithm.state_dict()
    return {k.removeprefix("encoder.visual.") for k, v in before.items() if not v.equal(after[k])}


def test_what_moves_in_a_vit_by_hand(make):
    blocks = ("transformer.resblocks.0", "transformer.resblocks.1")
    norms = ["ln_pre", "ln_post", *(f"{b}.ln_{i}" for b in blocks for i in (1, 2))]
    linear = [f"{b}.{part}" for b in blocks for part in ("attn.out_proj", "mlp.c_fc", "mlp.c_proj")]
    expected = {
        "lora": {f"{b}.attn.{w}" for b in blocks for w in ("in_proj_weight", "out_proj.weight")},
        "attention": {
            f"{b}.attn.{w}{end}"
            for b in blocks
            for w in ("in_proj_", "out_proj.")
            for end in ("weight", "bias")
        },
        "layernorm": {f"{n}.{end}" for n in norms for end in ("weight", "bias")},
        "bias": {f"{n}.bias" for n in (*norms, *linear)}
        | {f"{b}.attn.in_proj_bias" for b in blocks},
    }
    for kind, names in expected.items():
        assert moved(make("CLIP_ERM", **KNOBS[kind])) == names | {"head.weight"}, kind
    last = moved(make("CLIP_ERM", **KNOBS["last_k"]))
    assert {name for name in last if "resblocks.0" in name} == set()
    assert {name for name in last if "resblocks" not in name} == {
        *("ln_post.weight", "ln_post.bias", "proj", "head.weight")
    }
    assert sum("resblocks.1" in name for name in last) == 12


def test_lora_of_both_kinds_of_layers_in_the_last_block(make):
    knobs = {**KNOBS["lora"], "clip_lora_layers": "all", "clip_last_k": 1}
    weights = (
        "attn.in_proj_weight",
        "attn.out_proj.weight",
        "mlp.c_fc.weight",
        "mlp.c_proj.weight",
    )
    expected = {f"{BLOCK1}.{weight}" for weight in weights}
    assert moved(make("CLIP_ERM", **knobs)) == expected | {"head.weight"}


@pytest.mark.parametrize("kind", [kind for kind in PARTIAL if kind != "lora"])
def test_a_chosen_weight_s_first_step_is_that_of_full_fine_tuning(make, kind):
    full, part = (
        make("CLIP_ERM", clip_grad_clip=0),
        make("CLIP_ERM", clip_grad_clip=0, **KNOBS[kind]),
    )
    start = copy.deepcopy(full.state_dict())
    assert train(full, 1) == train(part, 1)
    chosen = set(trained.choose(part.encoder.visual, kind, KNOBS[kind]["clip_last_k"]))
    assert 0 < len(chosen) < len(start) - 1
    for name, value in part.state_dict().items():
        mine = name == "head.weight" or name.removeprefix("encoder.visual.") in chosen
        assert torch.equal(value, (full.state_dict() if mine else start)[name]), name


# LoRA


class Unmerged(nn.Module):
    """Layers with y = tanh(x W⁰ᵀ + b + (α/r)·(x Aᵀ) Bᵀ), LoRA's formula without merging."""

    def __init__(self, layers, A, B, scale):
        super().__init__()
        self.layers, self.scale = layers.requires_grad_(False), scale
        self.A, self.B = nn.ParameterList(A), nn.ParameterList(B)

    def forward(self, x):
        for layer, A, B in zip(self.layers, self.A, self.B):
            x = layer(x) + self.scale * (x @ A.T) @ B.T
            x = torch.tanh(x)
        return x


def test_lora_equals_the_unmerged_formula_step_for_step():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4), nn.Tanh())
    lora = trained.Lora([plain[0].weight, plain[2].weight], rank=3, alpha=6.0, seed=1)
    pairs = [lora._pair(i) for i in range(2)]
    copies = [[p.detach().clone() for p in ps] for ps in zip(*pairs)]
    layers = nn.ModuleList(copy.deepcopy([plain[0], plain[2]]))
    unmerged = Unmerged(layers, *copies, scale=2.0)
    for p in (plain[0].bias, plain[2].bias):
        p.requires_grad_(False)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.05) for m in (lora, unmerged)]
    x, y = torch.randn(9, 5), torch.randn(9, 4)
    for _ in range(10):
        losses = []
        for model, optimizer in zip((plain, unmerged), optimizers):
            losses.append(F.mse_loss(model(x), y))
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        lora.merge()
        torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    assert plain[0].weight.grad is None
    torch.testing.assert_close(plain(x), unmerged(x), rtol=1e-5, atol=1e-5)
    assert (plain(x) - layers[1](torch.tanh(layers[0](x))).tanh()).abs().max() > 0.1


def test_lora_of_an_attention_layer_is_added_once():
    # peft adds it to the output projection twice: findings/peft_out_proj_counts_twice.sh
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(2, 3, 8)
    start = copy.deepcopy(attention)
    weights = trained.choose(nn.ModuleDict({"a": attention}), "attention")
    matrices = [p for p in weights.values() if p.dim() == 2]
    lora = trained.Lora(matrices, rank=2, alpha=2.0)
    for i in range(2):
        nn.init.normal_(lora._pair(i)[1])
    lora.merge()
    with torch.no_grad():
        for i, W in enumerate((start.in_proj_weight, start.out_proj.weight)):
            A, B = lora._pair(i)
            W += B @ A
        torch.testing.assert_close(attention(x, x, x)[0], start(x, x, x)[0], rtol=1e-5, atol=1e-5)


def test_lora_with_alpha_0_trains_the_head_alone(make):
    lora = make("CLIP_ERM", **{**KNOBS["lora"], "clip_lora_alpha": 0, "clip_grad_clip": 0})
    head = make("CLIP_ERM", clip_grad_clip=0)
    head.encoder.requires_grad_(False)
    assert train(lora) == train(head)
    for name, value in lora.state_dict().items():
        assert torch.equal(value, head.state_dict()[name])


def test_lora_s_weights_are_what_a_saved_model_has(make):
    algorithm = make("CARFT", **KNOBS["lora"])
    start = {name: value.clone() for name, value in algorithm.state_dict().items()}
    assert set(start) == set(make("CARFT").state_dict())
    train(algorithm)
    lora, name = algorithm.lora, f"encoder.visual.{BLOCK0}.attn.in_proj_weight"
    A, B = lora._pair(0)
    expected = start[name] + 2.0 * B.detach() @ A.detach()
    torch.testing.assert_close(algorithm.state_dict()[name], expected, rtol=1e-5, atol=1e-6)
    assert B.shape == (192, 2) and A.shape == (2, 64) and B.abs().max() > 0


def test_a_loaded_model_is_where_lora_goes_on(make):
    algorithm, other = make("CLIP_ERM", **KNOBS["lora"]), make("CLIP_ERM", seed=1, **KNOBS["lora"])
    train(algorithm)
    other.load_state_dict(algorithm.state_dict())
    for a, b in zip(algorithm.state_dict().values(), other.state_dict().values()):
        assert torch.equal(a, b)
    first = other.update(batches(7))
    with torch.no_grad():
        expected = algorithm.loss(*algorithm._join(batches(7)))[0]
    assert first["loss"] == pytest.approx(expected.item(), rel=1e-6)
    name = f"encoder.visual.{BLOCK0}.attn.in_proj_weight"
    change = (other.state_dict()[name] - algorithm.state_dict()[name]).abs().max()
    assert 0 < change < 0.01  # a step from there, not from the pre-trained weights


def test_lora_s_gradients_of_parts_of_a_batch_add_up(make):
    whole, parts = (make("CARFT", **KNOBS["lora"], clip_accumulate=n) for n in (1, 5))
    for a, b in zip(train(whole), train(parts)):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-3, atol=2e-4)


def test_choosing_lora_leaves_the_process_s_generator_alone(make):
    make("CLIP_ERM")
    expected = torch.get_rng_state()
    make("CLIP_ERM", **KNOBS["lora"])
    assert torch.equal(torch.get_rng_state(), expected)


def test_an_average_is_that_of_the_weights_not_of_lora_s_factors(make):
    knobs = {**KNOBS["lora"], "clip_average": "swad", "clip_swad_start": 0.0, "clip_steps": 4}
    algorithm, name = make("CLIP_ERM", **knobs), f"encoder.visual.{BLOCK1}.attn.out_proj.weight"
    seen = [algorithm.encoder.visual.transformer.resblocks[1].attn.out_proj.weight.detach().clone()]
    for seed in range(3):
        algorithm.update(batches(seed))
        seen.append(
            algorithm.encoder.visual.state_dict()[name.removeprefix("encoder.visual.")].clone()
        )
    expected = torch.stack(seen).mean(0)
    torch.testing.assert_close(algorithm.state_dict()[name], expected)


# saving and resuming

COMBINED = (
    ("CARFT", "lora", {}),
    ("CARFT", "lora", {"clip_average": "ema"}),
    ("CLIP_FLYP", "lora", {}),
    ("CLIP_LPFT", "lora", {"lpft_share": 0.5, "lp_l2": 1.0}),
    ("CLIP_MIRO", "bias", {}),
    ("CLIP_L2SP", "last_k", {"clip_average": "beta"}),
)


@pytest.mark.parametrize("name, kind, knobs", COMBINED)
def test_a_resumed_run_goes_on_with_the_same_numbers(make, name, kind, knobs):
    knobs = {**KNOBS[kind], "clip_steps": 6, **knobs}
    algorithm = make(name, **knobs)
    train(algorithm, 4)
    logits(algorithm)
    file = io.BytesIO()
    torch.save(snapshot.capture(algorithm), file)
    file.seek(0)
    resumed = make(name, seed=1, **knobs)  # another A at the start
    snapshot.restore(resumed, torch.load(file, weights_only=False))
    resumed.train()
    for part in (algorithm, resumed):
        part.seed = 0  # of FLYP's contexts
    for seed in range(4, 6):
        assert algorithm.update(batches(seed)) == resumed.update(batches(seed))
        assert torch.equal(logits(algorithm), logits(resumed))


@pytest.mark.parametrize("name, kind, knobs", COMBINED)
def test_a_saved_model_is_a_plain_one(make, name, kind, knobs):
    algorithm = make(name, **{**KNOBS[kind], "clip_steps": 6, **knobs})
    train(algorithm)
    expected = logits(algorithm)
    file = io.BytesIO()
    torch.save(algorithm.state_dict(), file)
    file.seek(0)
    for changes in ({}, {"clip_train": "full", "clip_last_k": 0}):
        other = make(name, dataset=False, hparams={**algorithm.hparams, **changes}, seed=1)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(logits(other), expected)
        file.seek(0)


# other encoders


@pytest.mark.parametrize("kind", PARTIAL)
def test_flyp_s_choice_is_made_in_both_towers(make, kind):
    algorithm = make("CLIP_FLYP", **KNOBS[kind])
    names = moved(algorithm) - {"head.weight"}
    text = {name for name in names if name.startswith("text.")}
    assert text and names - text
    assert "text.model.logit_scale" not in names
    if kind == "last_k":
        assert "text.model.text_projection" in text
        assert not [name for name in text if "embedding" in name]


@pytest.mark.parametrize("kind", PARTIAL)
def test_open_clip_s_encoders(make, tiny_open_clip, kind):
    names = moved(make("CARFT", clip_backbone=tiny_open_clip, **KNOBS[kind]), 1)
    assert names == moved(make("CARFT", **KNOBS[kind]), 1)  # the names are OpenAI's


def test_a_resnet(make, tmp_path):
    file = save_clip(tmp_path / "rn.pt", vision_layers=(1, 1, 1, 1))
    found = {
        k: moved(make("CLIP_ERM", clip_backbone=file, **KNOBS[k]), 1) - {"head.weight"}
        for k in PARTIAL
        if k != "lora"
    }
    assert {name.split(".")[0] for name in found["attention"]} == {"attnpool"}
    assert {name.split(".")[0] for name in found["last_k"]} == {"layer4", "attnpool"}
    assert "bn1.weight" in found["layernorm"] and not [n for n in found["layernorm"] if "conv" in n]
    with pytest.raises(
        ValueError, match="'attention' for LoRA: this encoder of type ModifiedResNet"
    ):
        make("CLIP_ERM", clip_backbone=file, **KNOBS["lora"])


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "convnext_tiny", "swin_tiny_patch4_window7_224"]
)
def test_timm_s_encoders(name):
    import timm
    from open_clip.timm_model import TimmModel

    with torch.device("meta"):
        tower = TimmModel.__new__(TimmModel)
        nn.Module.__init__(tower)
        tower.trunk = timm.create_model(name, num_classes=0)
        tower.head = nn.Sequential(nn.Linear(8, 4, bias=False))
    last = trained.choose(tower, "last_k", 1)
    assert "head.0.weight" in last and not [n for n in last if "patch_embed" in n or "stem" in n]
    assert all(p.dim() == 1 for p in trained.choose(tower, "layernorm").values())
    if name.startswith("convnext"):
        with pytest.raises(ValueError, match="clip_train 'attention': this encoder"):
            trained.choose(tower, "attention")
        assert len(trained.choose(tower, "lora", 1, "mlp")) == 6  # three blocks of two matrices
        return
    assert all(".attn." in n for n in trained.choose(tower, "attention"))
    matrices = trained.choose(tower, "lora", lora_layers="all")
    ends = ("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight")
    assert all(name.endswith(ends) for name in matrices)
    blocks = [name for name, _ in tower.named_modules() if name.endswith(".attn")]
    assert len(matrices) == len(ends) * len(blocks)


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"clip_train": "last_k"}, "'last_k' needs clip_last_k, a number of blocks >= 1, got 0"),
        ({"clip_train": "last_k", "clip_last_k": 3}, "clip_last_k must be at most 2, .* got 3"),
        ({"clip_last_k": 1}, "clip_last_k must be 0 for clip_train 'full', got 1"),
        ({"clip_train": "lora", "clip_lora_rank": 65}, "clip_lora_rank must be at most 64.*got 65"),
        ({"clip_train": "loar"}, "clip_train must be one of 'full', 'lora'"),
        ({"clip_train": "lora", "clip_lora_layers": "conv"}, "clip_lora_layers must be one of"),
    ],
)
def test_a_choice_that_is_not_there_is_answered_in_one_line(make, knobs, message):
    with pytest.raises(ValueError, match=message) as error:
        make("CLIP_ERM", **knobs)
    assert "\n" not in str(error.value)


# counts


def test_counts_by_hand(make):
    algorithm = make("CARFT", **KNOBS["lora"], clip_average="ema")
    found = trained.counts(algorithm, algorithm.optimizer, algorithm._copied())
    # rank 2: 2 blocks of (192 + 64) + (64 + 64) rows and columns; a head of 3 classes
    assert found["trained_parameters"] == 2 * 2 * (256 + 128) + 48
    adapted = 2 * (192 * 64 + 64 * 64)
    visual = sum(p.numel() for p in algorithm.encoder.parameters())
    lora = 2 * 2 * (256 + 128)
    # encoder twice (the copy), head, contexts, the six numbers of the normalisation, A and B, and
    # W⁰; gradients and moments; the average
    numbers = 2 * visual + 48 + 6 + 3 * 16 + lora + adapted + 3 * (lora + 48) + adapted + 48
    assert found["training_bytes"] == 4 * numbers


def vit_b16():
    import clip.model

    with torch.device("meta"):
        return clip.model.VisionTransformer(224, 16, 768, 12, 12, 512)


def peak(kind, batch, **choice):
    """Return bytes of weights, gradients, moments and of what autograd stores, without computing.

    Storages that backward needs are counted once each, as saved_tensors_hooks sees them on
    PyTorch's meta device. Weights are left out of them.
    """
    tower = vit_b16()
    chosen = trained.choose(tower, kind, **choice)
    for name, p in tower.named_parameters():
        p.requires_grad_(name in chosen)
    head = nn.Linear(512, 7, bias=False, device="meta")
    trained_ones = [*chosen.values(), *head.parameters()]
    model = nn.ModuleList([tower, head])
    if kind == "lora":
        with torch.device("meta"):
            rows = [(p.shape[0], p.shape[1]) for p in chosen.values()]
            model.pairs = nn.ParameterList(
                nn.Parameter(torch.empty(8, n)) for pair in rows for n in pair
            )
            model.starts = nn.ParameterList(nn.Parameter(torch.empty(pair)) for pair in rows)
        trained_ones = [*model.pairs, *head.parameters()]
    optimizer = torch.optim.AdamW(trained_ones)
    weights = {p.untyped_storage()._cdata for p in tower.parameters()}
    stored, kept = {}, []

    def pack(x):
        storage = x.untyped_storage()
        if storage._cdata not in weights:
            stored[storage._cdata] = storage.nbytes()
            kept.append(x)  # so that no other storage gets its address
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        x = torch.empty(batch, 3, 224, 224, device="meta")
        F.cross_entropy(head(tower(x)), torch.zeros(batch, dtype=torch.long, device="meta"))
    return trained.counts(model, optimizer)["training_bytes"], sum(stored.values())


def test_lora_of_a_vit_b16_needs_at_most_half_the_memory_of_full_tuning():
    full, full_stored = peak("full", 96)  # DomainBed's 32 images of each of three domains
    # 86.2 M weights, gradients and two moments of 4 bytes each
    assert full == pytest.approx(4 * 4 * 86.2e6, rel=0.01)
    lora, all_stored = peak("lora", 96)
    assert lora < full / 2.9
    half, half_stored = peak("lora", 96, last=6)
    assert half + half_stored <= (full + full_stored) / 2
    assert all_stored < full_stored
