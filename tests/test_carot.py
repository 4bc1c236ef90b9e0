"""carot.py by hand; CLIP_CaRot and CARFT's moving teachers: zeros, averages, resuming."""

import copy
import io
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import batches, logits, train
from domainbed.lib import snapshot

from domainbed_carft.method import averaging, carot
from domainbed_carft.method.objectives import contrastive
from domainbed_carft.models import layers

ZERO = {"carot_distill": 0, "carot_orthogonality": 0, "carot_cross": 0}


def test_orthogonality_by_hand():
    # WᵀW = diag(1, 4): ‖diag(0, 3)‖ = 3
    W = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], requires_grad=True)
    loss = carot.orthogonality(W)
    assert loss.item() == pytest.approx(3)
    loss.backward()
    # d‖M‖/dW = 2 W M/‖M‖ for a symmetric M = WᵀW − I
    assert torch.allclose(W.grad, torch.tensor([[0.0, 0.0], [0.0, 4.0], [0.0, 0.0]]))
    still = torch.eye(3)[:, :2].requires_grad_()
    carot.orthogonality(still).backward()
    assert still.grad.equal(torch.zeros(3, 2))  # no NaN where it is 0


def test_cross_norm_by_hand():
    # W_v W_tᵀ = [[1, 2], [0, 0], [2, 0]]: norm 3
    W_v = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    W_t = torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    assert carot.cross_norm(W_v, W_t).item() == pytest.approx(3)


def test_self_distillation_by_hand():
    # two orthogonal pairs; the student's logits are log 3 on the diagonal and 0 beside it, so p is
    # ¾ and ¼; the teacher's texts are swapped, so p0 is ¼ and ¾, for rows and columns alike
    z = 5 * torch.eye(2)
    tau = torch.tensor(math.log(3))
    found = carot.self_distillation(z, z, tau, z, z.flip(0), tau)
    assert found.item() == pytest.approx(-2 * (0.25 * math.log(0.75) + 0.75 * math.log(0.25)))


def test_self_distillation_s_gradient_is_the_student_s_only_and_0_at_the_teacher():
    torch.manual_seed(0)
    x = [torch.randn(4, 6, requires_grad=True) for _ in range(4)]
    taus = [torch.tensor(7.0, requires_grad=True) for _ in range(2)]
    carot.self_distillation(x[0], x[1], taus[0], x[2], x[3], taus[1]).backward()
    assert all(p.grad.abs().max() > 0 for p in (*x[:2], taus[0]))
    assert all(p.grad is None for p in (*x[2:], taus[1]))
    for p in (*x, *taus):
        p.grad = None
    carot.self_distillation(x[0], x[1], taus[0], x[0], x[1], taus[0]).backward()
    assert all(p.grad.abs().max() < 1e-5 for p in x[:2])
    with pytest.raises(ValueError, match=r"must all be \(B, D\)"):
        carot.self_distillation(x[0], x[1][:2], taus[0], x[2], x[3], taus[1])


def test_the_teacher_s_shares_by_hand():
    # T = 10, warm-up 4 steps: momenta 0, 0.4 at steps 0, 2; then 0.8
    found = carot.teacher_shares(10, 2, 0.0, 0.8, 0.4)
    assert found == pytest.approx([1, 0, 0.6, 0, 0.2, 0, 0.2, 0, 0.2, 0])
    assert carot.teacher_shares(3, 1, warmup=0) == pytest.approx([0.1] * 3)


def test_carot_with_zeros_is_flyp_step_for_step(make):
    flyp, zero = make("CLIP_FLYP"), make("CLIP_CaRot", **ZERO)
    assert train(flyp) == train(zero)
    for name, value in flyp.state_dict().items():
        assert torch.equal(value, zero.state_dict()[name]), name
    assert train(make("CLIP_CaRot"))[-1]["loss"] != train(make("CLIP_FLYP"))[-1]["loss"]


def test_carot_s_loss_is_the_sum_of_its_terms(make):
    weights = {"carot_distill": 2.0, "carot_orthogonality": 0.5, "carot_cross": 0.25}
    algorithm = make("CLIP_CaRot", **weights, clip_steps=6, carot_every=1)
    train(algorithm, 2)
    images, labels = algorithm._join(batches(5))
    loss, values = algorithm.loss(images, labels)
    texts = algorithm.text(*algorithm.prompts(labels))
    scale = algorithm.text.model.logit_scale.exp()
    flyp = contrastive(algorithm.encoder(images), texts, scale)
    expected = 2 * values["distillation"] + 0.5 * values["orthogonality"] + 0.25 * values["cross"]
    assert loss.item() == pytest.approx((flyp + expected).item(), rel=1e-5)
    assert values["distillation"] > 0 and values["orthogonality"] > 0 and values["cross"] > 0


def test_carot_s_teacher_is_the_average_of_both_encoders(make):
    algorithm = make("CLIP_CaRot", clip_steps=4, carot_every=2, carot_distill=1e-3)
    shares = carot.teacher_shares(4, 2)
    parts = (algorithm.encoder, algorithm.text)
    expected = [copy.deepcopy(dict(part.named_parameters())) for part in parts]
    assert train(algorithm, 1)[0]["distillation"] == 0
    for step in range(1, 5):
        for averages, part in zip(expected, parts):
            for name, p in part.named_parameters():
                averages[name].data.lerp_(p.data, shares[step - 1])
        if step < 4:
            algorithm.update(batches(step))
    for averages, teacher in zip(expected, algorithm.teachers):
        for name, p in teacher.copy.named_parameters():
            torch.testing.assert_close(p, averages[name])
            assert not p.requires_grad


def test_projections_of_all_kinds_of_encoders(make, tiny_clip, tiny_open_clip):
    from domainbed_carft.models import backbones

    for name in (tiny_clip, tiny_open_clip):
        backbone = backbones.load(name)
        W_v, W_t = layers.projections(backbone.visual, backbone.text)
        D = backbone.text.encode_text(backbone.tokenize(["a"])).shape[1]
        assert W_v.shape == W_t.shape == (64, D)
    with pytest.raises(ValueError, match="projections of features are unknown.*CLIP_FLYP"):
        layers.projections(torch.nn.Linear(2, 2), backbone.text)


# CARFT's teachers


def test_an_average_that_is_the_student_itself_makes_carft_plain_fine_tuning(make):
    # with decay 0 the teacher is the student before each step: KL and its gradient are 0
    erm, carft = make("CLIP_ERM"), make("CARFT", carft_teacher="ema", clip_ema_decay=0.0)
    for a, b in zip(train(erm), train(carft)):
        assert b["context_kl"] == 0 and a["ce"] == b["ce"]
    for name, value in erm.state_dict().items():
        assert torch.equal(value, carft.state_dict()[name])


def test_an_average_that_stands_almost_still_is_the_paper_s_teacher(make):
    paper, slow = make("CARFT"), make("CARFT", carft_teacher="ema", clip_ema_decay=1 - 1e-12)
    for a, b in zip(train(paper), train(slow)):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize("kind", ["ema", "beta"])
def test_carft_s_teacher_is_the_average_of_the_encoder(make, kind):
    knobs = {"clip_steps": 5, "clip_ema_decay": 0.7, "clip_beta": 2.0}
    algorithm = make("CARFT", carft_teacher=kind, **knobs)
    average = copy.deepcopy(dict(algorithm.encoder.named_parameters()))
    for step, share in enumerate(averaging.shares(kind, 5, 0.7, 2.0)):
        images, _ = algorithm._join(batches(step))
        z0 = algorithm.frozen_features(images)
        values = algorithm.update(batches(step))
        assert (values["context_kl"] > 0) == (step > 0)
        for name, p in algorithm.encoder.named_parameters():
            average[name].data.lerp_(p.data, share)
    for name, p in algorithm.frozen.copy.named_parameters():
        torch.testing.assert_close(p, average[name])
    with torch.no_grad():  # the KL is taken against it
        other = torch.func.functional_call(algorithm.encoder, average, images)
        torch.testing.assert_close(algorithm.frozen_features(images), other)
    assert not torch.equal(z0, algorithm.frozen_features(images))
    zero_shot = make("CARFT").frozen(images)
    assert not torch.allclose(zero_shot, algorithm.frozen_features(images))


def test_a_moving_teacher_s_features_are_not_remembered_and_its_weights_stay_fp32(make):
    algorithm = make("CARFT", carft_teacher="ema", data_augmentation=False, clip_precision="bf16")
    assert algorithm.memory is None
    train(algorithm, 2)
    assert {p.dtype for p in algorithm.frozen.copy.parameters()} == {torch.float32}


TEACHERS = (
    ("CARFT", {"carft_teacher": "ema", "clip_ema_decay": 0.5}),
    ("CARFT", {"carft_teacher": "beta"}),
    ("CARFT", {"carft_teacher": "ema", "clip_average": "ema"}),
    ("CARFT", {"carft_teacher": "beta", "clip_train": "lora", "clip_lora_rank": 2}),
    ("CLIP_CaRot", {"carot_every": 1}),
)


@pytest.mark.parametrize("name, knobs", TEACHERS)
def test_a_resumed_run_has_the_same_teacher(make, name, knobs):
    algorithm = make(name, clip_steps=6, **knobs)
    train(algorithm, 3)
    file = io.BytesIO()
    torch.save(snapshot.capture(algorithm), file)
    file.seek(0)
    resumed = make(name, clip_steps=6, **knobs)
    snapshot.restore(resumed, torch.load(file, weights_only=False))
    resumed.train()
    for seed in range(3, 6):
        assert algorithm.update(batches(seed)) == resumed.update(batches(seed))
        assert torch.equal(logits(algorithm), logits(resumed))


@pytest.mark.parametrize("name, knobs", TEACHERS)
def test_model_pkl_is_the_student_alone(make, name, knobs):
    algorithm = make(name, clip_steps=6, **knobs)
    parent = make("CLIP_FLYP" if name == "CLIP_CaRot" else "CLIP_ERM")
    assert set(algorithm.state_dict()) == set(parent.state_dict())
    train(algorithm, 3)
    expected = logits(algorithm)
    other = make(name, dataset=False, hparams=algorithm.hparams, seed=1)
    other.load_state_dict(copy.deepcopy(algorithm.state_dict()))
    assert torch.equal(logits(other), expected)
    if "clip_average" not in knobs:
        images, _ = algorithm._join(batches(9)[:1])
        z = F.normalize(algorithm.encoder(images), dim=-1)
        torch.testing.assert_close(algorithm.head(z), expected)
