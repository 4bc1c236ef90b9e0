"""prompted.py and CLIP_CoOp: learned vectors in place of words."""

import copy
import io

import clip
import pytest
import torch
import torch.nn.functional as F
from conftest import NAMES, batches, logits, train
from domainbed.lib import snapshot

from domainbed_carft.models import backbones
from domainbed_carft.models.prompted import PromptedText


def test_vectors_of_words_are_the_words(any_clip):
    backbone = backbones.load(any_clip)
    expected = backbones.encode_prompts(backbone, [[f"a photo of a {name}." for name in NAMES]])[0]
    text = PromptedText(backbone, 4)
    tokens = text.prompts(NAMES)
    assert text.start == 1 and tokens.shape == (3, 77)
    ids = torch.as_tensor(backbone.tokenize(["a photo of a"])).long()[0, 1:5]
    table = next(m for m in text.text.copy.modules() if isinstance(m, torch.nn.Embedding))
    vectors = table(ids).detach()
    torch.testing.assert_close(text(tokens, vectors), expected)
    own = vectors.expand(3, -1, -1) + torch.arange(3).reshape(3, 1, 1)
    for k in range(3):
        torch.testing.assert_close(text(tokens, own)[k], text(tokens[k : k + 1], own[k])[0])
    assert not torch.allclose(text(tokens, own), expected)
    with torch.no_grad():  # without vectors it is the plain encoder again
        again = backbones.encode_prompts(backbone, [[f"a photo of a {name}." for name in NAMES]])[0]
    torch.testing.assert_close(again, expected)


def test_the_tokens_are_coop_s(tiny_clip):
    text = PromptedText(backbones.load(tiny_clip), 5)
    theirs = clip.tokenize([f"X X X X X {name}." for name in NAMES])
    found = text.prompts(NAMES)
    assert torch.equal(found[:, 6:], theirs[:, 6:]) and torch.equal(
        found[:, 0], theirs[:, 0].long()
    )
    assert torch.equal(found.argmax(1), theirs.argmax(1))  # where features are read


def test_a_prompt_that_is_too_long_is_named(tiny_clip):
    text = PromptedText(backbones.load(tiny_clip), 73)
    text.prompts(["dog"])
    with pytest.raises(
        ValueError, match="73 learned tokens and 'giant panda' is longer.* 77 tokens"
    ):
        text.prompts(NAMES)


def test_coop_trains_the_vectors_alone(make):
    algorithm = make("CLIP_CoOp", coop_tokens=4)
    before = copy.deepcopy(algorithm.state_dict())
    start = logits(algorithm)
    values = train(algorithm)
    moved = {k for k, v in before.items() if not v.equal(algorithm.state_dict()[k])}
    assert moved == {"context", "head.weight"}  # the head follows the vectors
    assert algorithm.context.shape == (4, 64) and set(values[0]) == {"loss", "ce"}
    assert not torch.equal(logits(algorithm), start)
    assert all(p.grad is None for p in algorithm.text.text.copy.parameters())
    group = algorithm.optimizer.param_groups[0]
    assert (group["initial_lr"], group["weight_decay"]) == (2e-3, 0.0)


def test_coop_s_loss_and_gradient_are_those_of_its_formula(make):
    algorithm = make("CLIP_CoOp", coop_tokens=4)
    images, labels = algorithm._join(batches(1))
    loss, _ = algorithm.loss(images, labels)
    loss.backward()
    found = algorithm.context.grad.clone()
    model = algorithm.text.text.copy.model
    context = algorithm.context.detach().requires_grad_()
    tokens = clip.tokenize([f"X X X X {name}." for name in NAMES])
    embedded = model.token_embedding(tokens)
    x = torch.cat([embedded[:, :1], context.expand(3, -1, -1), embedded[:, 5:]], dim=1)
    x = model.transformer((x + model.positional_embedding).permute(1, 0, 2)).permute(1, 0, 2)
    x = model.ln_final(x)[torch.arange(3), tokens.argmax(-1)] @ model.text_projection
    z = F.normalize(algorithm.encoder(images), dim=1)
    expected = F.cross_entropy(algorithm.logit_scale * z @ F.normalize(x, dim=1).T, labels)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(found, context.grad, rtol=1e-3, atol=3e-5)


def test_coop_s_head_is_that_of_its_vectors_and_is_computed_once(make):
    algorithm = make("CLIP_CoOp", coop_tokens=4)
    train(algorithm, 2)
    calls = []
    text = algorithm.text.forward
    algorithm.text.forward = lambda *a: calls.append(1) or text(*a)
    for _ in range(3):
        logits(algorithm)
    assert len(calls) == 1
    with torch.no_grad():
        expected = algorithm.logit_scale * algorithm.class_weights()
    torch.testing.assert_close(algorithm.head.weight, expected)


@pytest.mark.parametrize("kind", ["none", "ema"])
def test_coop_resumes_and_saves(make, kind):
    knobs = {"coop_tokens": 4, "clip_average": kind, "clip_steps": 6, "clip_train": "lora"}
    algorithm = make("CLIP_CoOp", **knobs)  # clip_train has no effect on it
    train(algorithm, 3)
    logits(algorithm)
    file = io.BytesIO()
    torch.save(snapshot.capture(algorithm), file)
    file.seek(0)
    resumed = make("CLIP_CoOp", seed=1, **knobs)
    snapshot.restore(resumed, torch.load(file, weights_only=False))
    resumed.train()
    for seed in range(3, 6):
        assert algorithm.update(batches(seed)) == resumed.update(batches(seed))
        assert torch.equal(logits(algorithm), logits(resumed))
    other = make("CLIP_CoOp", dataset=False, hparams=algorithm.hparams, seed=2)
    expected = logits(algorithm)
    algorithm.eval()
    other.load_state_dict(copy.deepcopy(algorithm.state_dict()))
    assert torch.equal(logits(other), expected)
