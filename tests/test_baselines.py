"""baselines.py: each method's wiring; its knob at zero is CLIP_ERM, bit for bit."""

import copy
import io

import clip
import pytest
import torch
import torch.nn.functional as F
from conftest import CLASSES, batches, logits, train
from domainbed import algorithms, datasets, hparams_registry
from domainbed.lib import snapshot
from sklearn.linear_model import LogisticRegression

from domainbed_carft.algorithms import base, methods
from domainbed_carft.method import linear_probe

CONTEXTS = ("a photo of a {}", "a sketch of a {}", "a dark {}")
GUIDED = {
    "CLIP_L2SP": ("l2sp_alpha", "distance"),
    "CLIP_LipsumFT": ("lipsum_lambda", "energy_gap"),
    "CLIP_MIRO": ("miro_lambda", "bound"),
    "CLIP_Distill": ("distill_lambda", "class_kl"),
}
TRAINED = [name for name in methods.METHODS if name not in ("CLIP_ZeroShot", "CLIP_LP")]


def same(a, b, but=()):
    a, b = a.state_dict(), b.state_dict()
    names = [name for name in a if not name.startswith(tuple(but))]
    assert set(names) == {name for name in b if not name.startswith(tuple(but))}
    return all(torch.equal(a[name], b[name]) for name in names)


def test_every_name_has_its_class():
    for name, method in methods.METHODS.items():
        cls = method.load()
        assert issubclass(cls, base.CLIPAlgorithm) and cls.__name__ == name
        assert cls.__doc__


@pytest.mark.parametrize("name", GUIDED)
def test_a_regulariser_at_0_is_clip_erm_step_for_step(make, name):
    knob, _ = GUIDED[name]
    erm, zero = make("CLIP_ERM"), make(name, **{knob: 0})
    exact = name != "CLIP_MIRO"  # its hooks see all tokens, which are computed for it
    for a, b in zip(train(erm), train(zero)):
        assert a["loss"] == (b["loss"] if exact else pytest.approx(b["loss"], rel=1e-5))
        assert b["loss"] == b["ce"]
    if exact:
        assert same(erm, zero)
    else:
        for k, v in erm.state_dict().items():
            torch.testing.assert_close(v, zero.state_dict()[k], rtol=1e-4, atol=1e-5)
    assert not same(erm, train_and_return(make(name, **{knob: 1.0})), but=["variances"])


def train_and_return(algorithm):
    train(algorithm)
    return algorithm


@pytest.mark.parametrize("name", GUIDED)
def test_a_larger_weight_holds_it_closer(make, name):
    knob, value = GUIDED[name]
    few = {"lipsum_texts": 4} if name == "CLIP_LipsumFT" else {}
    free, held = (train(make(name, **{knob: v}, **few), 8)[-1][value] for v in (0, 100.0))
    assert held < free


@pytest.mark.parametrize("name", sorted(set(GUIDED) - {"CLIP_MIRO"}))
def test_a_regulariser_is_0_before_the_first_step_and_then_above(make, name):
    value = GUIDED[name][1]
    values = train(make(name))
    assert values[0][value] == 0 < values[-1][value]
    assert values[0]["loss"] == values[0]["ce"]


@pytest.mark.parametrize("name", GUIDED)
def test_the_loss_is_the_sum(make, name):
    knob, value = GUIDED[name]
    for v in train(make(name, **{knob: 0.5})):
        assert v["loss"] == pytest.approx(v["ce"] + 0.5 * v[value], rel=1e-5)


def test_clipood_at_0_without_average_is_clip_erm_with_a_fixed_head(make):
    erm = make("CLIP_ERM", clip_train_head=False)
    clipood = make("CLIP_CLIPood", clipood_lambda=0, clip_average="none")
    for a, b in zip(train(erm), train(clipood)):
        assert a["loss"] == b["loss"] == b["ce"]
    assert same(erm, clipood)


def test_clipood_s_margins_make_the_loss_larger_and_leave_the_head(make):
    algorithm = make("CLIP_CLIPood")
    head = algorithm.head.weight.detach().clone()
    values = train(algorithm)
    assert all(v["loss"] > v["ce"] for v in values)
    assert torch.equal(algorithm.head.weight, head)


def test_l2sp_s_distance_is_that_of_encoder_and_head(make):
    algorithm = make("CLIP_L2SP", l2sp_alpha=0)
    before = copy.deepcopy(algorithm.state_dict())
    train(algorithm, 3)
    after = algorithm.state_dict()
    expected = sum((after[k].double() - before[k].double()).square().sum() for k in before) / 2
    assert algorithm.update(batches(3))["distance"] == pytest.approx(expected.item(), rel=1e-4)


def test_distill_s_teacher_is_zero_shot_clip(make):
    algorithm, zero_shot = make("CLIP_Distill"), make("CLIP_ZeroShot")
    train(algorithm)
    images, labels = algorithm._join(batches(5))
    _, values = algorithm.loss(images, labels)
    with torch.no_grad():
        p = F.log_softmax(algorithm.classify(algorithm.encoder(images)), 1)
        p0 = F.log_softmax(zero_shot.classify(zero_shot.encoder(images)), 1)
    expected = F.kl_div(p, p0, log_target=True, reduction="batchmean")
    assert values["class_kl"].item() == pytest.approx(expected.item(), rel=1e-3)


def test_without_augmentation_the_frozen_copy_sees_an_image_once(make):
    algorithm = make("CLIP_Distill", data_augmentation=False)
    algorithm.update(batches(0))
    algorithm.frozen = None
    algorithm.update(batches(0))


# MIRO


def test_miro_s_bound_before_the_first_step_is_that_of_its_variances(make):
    # nothing has moved, and every variance is 0.1: 3 layers (the first, two blocks) of ½ log 0.1
    first = train(make("CLIP_MIRO"), 1)[0]
    assert first["bound"] == pytest.approx(3 * 0.5 * -2.302585, rel=1e-6)


def test_miro_s_variances_learn_at_ten_times_the_rate_without_decay(make):
    algorithm = make("CLIP_MIRO", lr=1e-3, clip_warmup=0)
    model, variances = algorithm.optimizer.param_groups
    assert (variances["initial_lr"], variances["weight_decay"]) == (1e-2, 0.0)
    assert (model["initial_lr"], model["weight_decay"]) == (1e-3, 0.1)
    before = [p.detach().clone() for p in algorithm.variances]
    train(algorithm, 1)
    for p, old in zip(algorithm.variances, before):  # Adam's first step is the learning rate
        torch.testing.assert_close(old - p, torch.full_like(p, 1e-2), rtol=1e-2, atol=0)
    assert len(model["params"]) == len(make("CLIP_ERM").optimizer.param_groups[0]["params"])


def test_miro_on_a_resnet(make, tmp_path):
    from conftest import save_clip

    file = save_clip(tmp_path / "rn.pt", vision_layers=(1, 1, 1, 1))
    algorithm = make("CLIP_MIRO", clip_backbone=file)
    assert len(algorithm.variances) == 5
    assert train(algorithm, 1)[0]["bound"] == pytest.approx(5 * 0.5 * -2.302585, rel=1e-3)


# Lipsum-FT


def test_random_texts_differ_between_steps_and_are_the_same_in_a_second_run(make):
    algorithm = make("CLIP_LipsumFT")
    seen = []
    draw = algorithm.draw
    algorithm.draw = lambda *a: seen.append(draw(*a)) or seen[-1]
    train(algorithm, 2)
    other = make("CLIP_LipsumFT")
    other.draw = lambda *a: seen.append(draw(*a)) or seen[-1]
    train(other, 1)
    assert seen[0].shape == (80, 77)
    assert not torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    another = make("CLIP_LipsumFT", seed=1)
    assert another.seed != algorithm.seed


def test_a_random_text_s_features_are_clip_s(make, tiny_clip):
    algorithm = make("CLIP_LipsumFT")
    tokens = algorithm.draw(5, 8, torch.Generator().manual_seed(3))
    assert (tokens[:, 0] == 49406).all() and (tokens[:, 9] == 49407).all()
    assert (tokens[:, 1:9] < 49406).all() and (tokens[:, 10:] == 0).all()
    model, _ = clip.load(tiny_clip, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(algorithm.text(tokens), model.encode_text(tokens))


def test_drawing_texts_leaves_the_process_s_generator_alone(make):
    for name in ("CLIP_LipsumFT", "CLIP_FLYP"):
        algorithm = make(name)
        before = torch.get_rng_state()
        train(algorithm, 1)
        assert torch.equal(torch.get_rng_state(), before)


def test_text_towers_are_kept_where_they_are_needed_only(make):
    for name in methods.METHODS:
        saved = [k for k in make(name).state_dict() if "token_embedding" in k]
        assert len(saved) == (name in ("CLIP_FLYP", "CLIP_CaRot")), name


# the linear probe


def test_the_probe_is_scikit_learn_s_logistic_regression(make):
    algorithm = make("CLIP_LP")
    for seed in range(3):
        assert algorithm.update(batches(seed)) == {"probe_images": 12.0 * (seed + 1)}
    logits(algorithm)
    images, labels = algorithm._join([b for seed in range(3) for b in batches(seed)])
    with torch.no_grad():
        z = algorithm.logit_scale * F.normalize(algorithm.encoder(images), dim=1)
    C = 1 / (36 * algorithm.hparams["lp_l2"])
    theirs = LogisticRegression(C=C, fit_intercept=False, tol=1e-10, max_iter=10000)
    expected = torch.tensor(theirs.fit(z.double().numpy(), labels.numpy()).coef_)
    found = algorithm.head.weight.detach().double() / algorithm.logit_scale
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()  # features are float32


def test_the_probe_encodes_each_image_once_and_fits_when_it_is_asked(make, monkeypatch):
    fits = []
    fit = linear_probe.fit
    monkeypatch.setattr(linear_probe, "fit", lambda *a, **k: fits.append(1) or fit(*a, **k))
    algorithm = make("CLIP_LP", lp_l2=1.0)
    encoder = copy.deepcopy(algorithm.encoder.state_dict())
    for _ in range(3):
        algorithm.update(batches(0))
    assert len(algorithm.seen) == 12 and not fits
    first = logits(algorithm)
    assert torch.equal(logits(algorithm), first) and len(fits) == 1
    algorithm.update(batches(1))
    assert not torch.equal(logits(algorithm), first) and len(fits) == 2
    assert all(torch.equal(v, algorithm.encoder.state_dict()[k]) for k, v in encoder.items())


def test_lpft_with_no_share_for_the_probe_is_clip_erm(make):
    erm, lpft = make("CLIP_ERM"), make("CLIP_LPFT", lpft_share=0)
    assert train(erm) == train(lpft)
    assert same(erm, lpft)


def test_lpft_is_the_probe_first_and_then_fine_tuning_from_it(make):
    knobs = {"lp_l2": 1.0, "clip_steps": 10, "lpft_share": 0.3, "clip_warmup": 0}
    probe, lpft = make("CLIP_LP", lp_l2=1.0), make("CLIP_LPFT", **knobs)
    for seed in range(3):
        assert probe.update(batches(seed)) == lpft.update(batches(seed))
    assert torch.equal(logits(probe), logits(lpft))
    head = lpft.head.weight.detach().clone()
    values = [lpft.update(batches(seed)) for seed in range(3, 10)]
    assert set(values[0]) == {"loss", "ce"}
    assert lpft.scheduler.get_last_lr() == [0.0]  # its schedule ends with the run
    assert not torch.equal(lpft.head.weight, head)
    assert not torch.equal(logits(probe), logits(lpft)) and len(lpft.seen) == 0


def test_lpft_starts_fine_tuning_at_the_fitted_head_though_nobody_evaluated(make):
    lpft = make("CLIP_LPFT", clip_steps=10, lpft_share=0.2, lr=1e-9, lp_l2=1.0)
    train(lpft, 3)
    probe = make("CLIP_LP", lp_l2=1.0)
    train(probe, 2)
    logits(probe)
    torch.testing.assert_close(lpft.head.weight, probe.head.weight, rtol=1e-3, atol=1e-3)


# FLYP


def test_flyp_s_first_loss_is_open_clip_s_on_the_prompts_of_the_labels(make, tiny_clip):
    import open_clip

    algorithm = make("CLIP_FLYP")
    seen = []
    text = algorithm.text.forward
    algorithm.text.forward = lambda tokens, **_: seen.append(tokens) or text(tokens)
    first = algorithm.update(batches(0))
    prompts = {}
    for c in CONTEXTS:
        for k, name in enumerate(CLASSES):
            prompts[tuple(clip.tokenize(c.format(name.replace("_", " ")))[0].tolist())] = (c, k)
    labels = torch.cat([y for _, y in batches(0)])
    chosen = [prompts[tuple(row)] for row in seen[0].tolist()]
    assert [k for _, k in chosen] == labels.tolist()
    assert len({c for c, _ in chosen}) > 1
    model, _ = clip.load(tiny_clip, device="cpu")
    with torch.no_grad():
        images = algorithm.input(torch.cat([x for x, _ in batches(0)]))
        z, t = F.normalize(model.encode_image(images)), F.normalize(model.encode_text(seen[0]))
        expected = open_clip.loss.ClipLoss()(z, t, model.logit_scale.exp())
    assert first["loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_too_long_random_texts_are_refused_before_training(make):
    with pytest.raises(ValueError, match="^lipsum_length must be 1 to 75 for .*, got 76$"):
        make("CLIP_LipsumFT", lipsum_length=76)


@pytest.mark.parametrize("name", ["CLIP_FLYP", "CLIP_CaRot"])
def test_contrastive_methods_want_two_pairs_to_contrast(make, data_dir, tiny_clip, name):
    """With one, the contrastive loss is 0 whatever the weights are."""
    hparams = hparams_registry.default_hparams(name, "PACS")
    hparams.update(batch_size=1, clip_backbone=tiny_clip)
    data = datasets.PACS(data_dir, [0, 1, 2], hparams)
    with pytest.raises(ValueError, match=f"{name} .*domains must be at least 2, got 1") as raised:
        vars(algorithms)[name]((3, 32, 32), len(CLASSES), len(data) - 3, hparams)
    assert "\n" not in str(raised.value)
    algorithm = make("CLIP_FLYP", batch_size=1)  # of three domains: three pairs
    assert algorithm.update(batches(0, n=1, domains=3))["loss"] > 0


def test_flyp_trains_both_towers_and_evaluates_with_prompts_encoded_anew(make):
    algorithm = make("CLIP_FLYP")
    before = copy.deepcopy(algorithm.state_dict())
    start = logits(algorithm)
    train(algorithm)
    moved = {k for k, v in before.items() if not torch.equal(v, algorithm.state_dict()[k])}
    assert moved == set(before)  # the head follows the text encoder
    assert not torch.equal(logits(algorithm), start)
    model = algorithm.text.model
    with torch.no_grad():
        texts = [clip.tokenize([c.format(n.replace("_", " ")) for n in CLASSES]) for c in CONTEXTS]
        T = torch.stack([F.normalize(model.encode_text(tokens)) for tokens in texts])
        expected = model.logit_scale.exp() * F.normalize(T.mean(0))
    torch.testing.assert_close(algorithm.head.weight, expected)


def test_flyp_encodes_prompts_once_for_all_splits_of_an_evaluation(make):
    algorithm = make("CLIP_FLYP")
    train(algorithm, 1)
    calls = []
    text = algorithm.text.forward
    algorithm.text.forward = lambda tokens: calls.append(len(tokens)) or text(tokens)
    for _ in range(3):
        logits(algorithm)
    assert calls == [9]  # 3 contexts x 3 classes


# all of them: averages, saving, resuming

AVERAGED = [(name, "none") for name in TRAINED] + [
    ("CARFT", "ema"),
    ("CLIP_ERM", "beta"),
    ("CLIP_ERM", "swad"),
    ("CLIP_FLYP", "ema"),
    ("CLIP_LPFT", "beta"),
    ("CLIP_MIRO", "swad"),
]


@pytest.mark.parametrize("name, kind", [*AVERAGED, ("CLIP_LP", "none")])
def test_a_saved_model_predicts_what_was_evaluated(make, name, kind):
    algorithm = make(name, clip_average=kind, clip_steps=6, lp_l2=1.0)
    train(algorithm)
    expected = logits(algorithm)
    file = io.BytesIO()
    torch.save({"hparams": algorithm.hparams, "model": algorithm.state_dict()}, file)
    file.seek(0)
    read = torch.load(file, weights_only=True)
    for dataset in (False, True):
        other = make(name, dataset=dataset, hparams=read["hparams"], seed=1)
        other.load_state_dict(read["model"])
        assert torch.equal(logits(other), expected)


@pytest.mark.parametrize("name, kind", [*AVERAGED, ("CLIP_LP", "none")])
def test_a_resumed_run_goes_on_with_the_same_numbers(make, name, kind):
    knobs = {"clip_average": kind, "clip_steps": 6, "lpft_share": 0.5, "lp_l2": 1.0}
    two_parts = kind != "none" or name == "CLIP_LPFT"  # before the average or in the probe, after
    for at in (2, 4) if two_parts else (3,):
        algorithm = make(name, **knobs)
        train(algorithm, at)
        logits(algorithm)
        file = io.BytesIO()
        torch.save(snapshot.capture(algorithm), file)
        file.seek(0)
        resumed = make(name, **knobs)
        snapshot.restore(resumed, torch.load(file, weights_only=False))
        resumed.train()
        for seed in range(at, 6):
            assert algorithm.update(batches(seed)) == resumed.update(batches(seed))
            assert torch.equal(logits(algorithm), logits(resumed))
        assert same(algorithm, resumed)


@pytest.mark.parametrize("name", TRAINED)
def test_bf16_autocast_keeps_fp32_masters(make, name):
    algorithm = make(name, clip_precision="bf16", lpft_share=0)
    values = train(algorithm, 2)
    assert {p.dtype for p in algorithm.parameters()} == {torch.float32}
    assert all(torch.isfinite(torch.tensor(list(v.values()))).all() for v in values)
