"""algorithms.py: the wiring of CARFT, CLIP_ERM and CLIP_ZeroShot."""

import copy
import io
import json
import sys
import types

import clip
import pytest
import torch
import torch.nn.functional as F
from conftest import CLASSES, batches, save_clip, train
from domainbed import datasets as host_datasets
from domainbed import hparams_registry
from domainbed.lib import misc

from domainbed_carft.algorithms import car_ft, host_calls, methods, settings
from domainbed_carft.method.schedule import lr_factor
from domainbed_carft.models import backbones

CONTEXTS = ("a photo of a {}", "a sketch of a {}", "a dark {}")
IMAGENET = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
OPENAI = (
    torch.tensor([0.48145466, 0.4578275, 0.40821073]),
    torch.tensor([0.26862954, 0.26130258, 0.27577711]),
)


def zero_shot_logits(file, x):
    """CLIP's own zero-shot classifier, from clip's API alone."""
    model, _ = clip.load(file, device="cpu")
    (m0, s0), (m1, s1) = [[t.view(3, 1, 1) for t in pair] for pair in (IMAGENET, OPENAI)]
    with torch.no_grad():
        T = torch.stack(
            [
                F.normalize(
                    model.encode_text(
                        clip.tokenize([c.format(n.replace("_", " ")) for n in CLASSES])
                    )
                )
                for c in CONTEXTS
            ]
        )
        W = F.normalize(T.mean(0))
        z = F.normalize(model.encode_image(((x * s0 + m0) - m1) / s1))
        return model.logit_scale.exp() * z @ W.T


@pytest.mark.parametrize("name", methods.METHODS)
def test_predictions_at_step_0_are_zero_shot_clip_s(make, tiny_clip, name):
    x = batches(3)[0][0]
    with torch.no_grad():
        got = make(name).eval().predict(x)
    assert torch.allclose(got, zero_shot_logits(tiny_clip, x), atol=1e-4)


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_fork_s_further_arguments_are_left_alone(make, name, monkeypatch, capsys):
    monkeypatch.setattr(host_calls, "_said", set())
    algorithm = make(name)
    again = type(algorithm)((3, 224, 224), len(CLASSES), 3, algorithm.hparams, "more", step=1)
    assert torch.equal(again.head.weight, algorithm.head.weight)
    assert f"{name} ignores these arguments of the trainer: argument 5, step" in (
        capsys.readouterr().err
    )


def test_zero_shot_clip_trains_nothing(make):
    algorithm = make("CLIP_ZeroShot")
    before = copy.deepcopy(algorithm.state_dict())
    assert train(algorithm) == [{}] * 4
    assert all(torch.equal(v, algorithm.state_dict()[k]) for k, v in before.items())


def test_context_kl_is_0_at_step_0_and_then_grows(make):
    values = train(make("CARFT"), 6)
    assert values[0]["context_kl"] == 0.0
    assert values[0]["loss"] == values[0]["ce"]
    assert values[-1]["context_kl"] > 0


def test_update_returns_floats_and_the_loss_is_their_sum(make):
    for v in train(make("CARFT", carft_lambda=3.0)):
        assert set(v) == {"loss", "ce", "context_kl"}
        assert all(type(x) is float for x in v.values())
        assert v["loss"] == pytest.approx(v["ce"] + 3 * v["context_kl"], rel=1e-5)


def test_lambda_0_equals_clip_erm_step_for_step(make):
    erm, carft = make("CLIP_ERM"), make("CARFT", carft_lambda=0)
    for a, b in zip(train(erm), train(carft)):
        assert a["loss"] == b["loss"] == b["ce"]
    for k, v in erm.state_dict().items():
        assert torch.equal(v, carft.state_dict()[k]), k


def test_a_larger_lambda_keeps_the_context_distribution_closer(make):
    free, held = (train(make("CARFT", carft_lambda=v), 12)[-1] for v in (0, 30.0))
    assert held["context_kl"] < free["context_kl"]


def test_all_of_the_encoder_and_the_head_are_trained_and_nothing_else(make):
    algorithm = make("CARFT")
    before = copy.deepcopy(algorithm.state_dict())
    frozen = copy.deepcopy(algorithm.frozen._held[0].state_dict())
    contexts, tau = algorithm.context_weights.clone(), algorithm.logit_scale
    train(algorithm)
    moved = {k for k, v in before.items() if not torch.equal(v, algorithm.state_dict()[k])}
    assert moved == set(before)
    for k, v in algorithm.frozen._held[0].state_dict().items():
        assert torch.equal(v, frozen[k])
    assert torch.equal(algorithm.context_weights, contexts) and algorithm.logit_scale == tau
    assert not algorithm.context_weights.requires_grad
    assert all(p.grad is None for p in algorithm.frozen._held[0].parameters())


def test_a_frozen_head_stays(make):
    algorithm = make("CARFT", clip_train_head=False)
    before = algorithm.head.weight.detach().clone()
    train(algorithm)
    assert torch.equal(algorithm.head.weight, before)


def test_the_host_s_accuracy_leaves_the_frozen_copy_in_eval_mode(make):
    algorithm = make("CARFT")
    misc.accuracy(algorithm, [batches()[0]], None, "cpu")
    assert algorithm.encoder.training and not algorithm.frozen._held[0].training


def test_model_pkl_holds_encoder_and_head_only_and_predicts_the_same_when_loaded(make):
    algorithm = make("CARFT")
    train(algorithm)
    assert {k.split(".")[0] for k in algorithm.state_dict()} == {"encoder", "head"}
    file = io.BytesIO()
    saved = {"model_hparams": algorithm.hparams, "model_dict": algorithm.state_dict()}
    torch.save(saved, file)
    file.seek(0)
    read = torch.load(file, weights_only=True)  # plain values only
    other = make("CARFT", dataset=False, hparams=read["model_hparams"], seed=1)
    other.load_state_dict(read["model_dict"])
    x = batches(9)[0][0]
    with torch.no_grad():
        assert torch.equal(other.eval().predict(x), algorithm.eval().predict(x))
    with pytest.raises(RuntimeError, match="cannot train.*clip_class_names"):
        other.update(batches())


def test_without_a_data_set_it_does_not_predict_garbage(make):
    with pytest.raises(RuntimeError, match="load_state_dict first"):
        make("CARFT", dataset=False).predict(batches()[0][0])


def test_a_model_of_fp16_is_built_on_a_cpu_before_it_is_moved_to_a_gpu(make):
    weights = make("CARFT").state_dict()
    make("CARFT", dataset=False, clip_precision="fp16").load_state_dict(weights)


def test_hparams_stay_plain_and_as_they_were(make):
    algorithm = make("CARFT")
    given = dict(algorithm.hparams)
    train(algorithm)
    assert algorithm.hparams == given
    json.dumps(algorithm.hparams)


def test_bf16_autocast_keeps_fp32_masters_and_kl_0_at_step_0(make):
    algorithm = make("CARFT", clip_precision="bf16")
    values = train(algorithm)
    assert values[0]["context_kl"] == 0.0
    assert {p.dtype for p in algorithm.parameters()} == {torch.float32}
    full = train(make("CARFT", clip_precision="fp32"))
    assert values[0]["ce"] == pytest.approx(full[0]["ce"], rel=0.05)
    assert values[0]["ce"] != full[0]["ce"]


def test_a_frozen_copy_in_bf16_beside_an_fp32_student(make):
    values = train(make("CARFT", clip_frozen_precision="bf16"))
    assert 0 < values[0]["context_kl"] < 1e-3


def test_without_augmentation_the_frozen_copy_sees_an_image_once(make):
    plain, remembering = make("CARFT"), make("CARFT", data_augmentation=False)
    for step in range(4):
        a, b = (algorithm.update(batches(step % 2)) for algorithm in (plain, remembering))
        assert a == pytest.approx(b, abs=1e-5)
    assert len(remembering.memory.rows) == 24  # two batches of two domains of six images
    remembering.frozen = None  # not needed any more
    remembering.update(batches(1))


def test_images_of_another_size_and_of_one_channel(make):
    algorithm = make("CARFT")
    assert algorithm.predict(torch.randn(2, 3, 48, 40)).shape == (2, 3)
    grey = make("CARFT", clip_input="none")
    assert grey.predict(torch.rand(2, 1, 28, 28)).shape == (2, 3)


def test_training_domain_names_as_contexts(make):
    algorithm = make("CARFT", clip_contexts="domains")
    assert algorithm.context_weights.shape == (3, 16)  # four domains less the test domain


def test_one_context_is_a_head_but_no_distribution(make):
    assert make("CLIP_ERM", clip_contexts="single").context_weights.shape == (1, 16)
    with pytest.raises(
        ValueError, match="at least two contexts, but clip_contexts 'single' has one"
    ):
        make("CARFT", clip_contexts="single")
    with pytest.raises(ValueError, match="but carft_contexts 'single' has one"):
        make("CARFT", carft_contexts="single")
    with pytest.raises(ValueError, match="carft_contexts must be contexts as for clip_contexts"):
        make("CARFT", carft_contexts=3)


def test_contexts_of_the_kl_alone(make):
    plain, other = make("CARFT"), make("CARFT", carft_contexts="domains")
    assert torch.equal(plain.head.weight, other.head.weight)
    assert torch.equal(
        other.context_weights, make("CARFT", clip_contexts="domains").context_weights
    )
    same = make("CARFT", carft_contexts=plain.hparams["clip_contexts"])
    assert torch.equal(plain.context_weights, same.context_weights)


def test_class_names_from_a_file(make, tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("dog\ngiant panda\n\nhouse\n")
    given = make("CARFT", dataset=False, clip_class_names=str(file))
    assert torch.equal(given.head.weight, make("CARFT").head.weight)
    assert given.update(batches())["context_kl"] == 0.0
    file.write_text("dog\ncat\n")
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        make("CARFT", clip_class_names=str(file))
    with pytest.raises(FileNotFoundError, match=r"nope\.txt"):
        make("CARFT", clip_class_names="nope.txt")


def test_a_data_set_without_class_names_says_which_knob_to_pass(make):
    class Nameless(host_datasets.MultipleDomainDataset):
        def __init__(self, root, test_envs, hparams):
            self.datasets, self.num_classes = [[], [], []], 2

    hparams = hparams_registry.default_hparams("CARFT", "Nameless")
    dataset = Nameless(None, [0], hparams)
    with pytest.raises(ValueError, match="Nameless has no class names.*clip_class_names"):
        car_ft.CARFT((3, 28, 28), 2, 2, hparams)
    assert len(dataset) == 3


@pytest.mark.parametrize("knobs", [{"carft_lambda": -1}, {"carft_lamda": 1}, {"lr": "a"}])
def test_a_wrong_knob_is_refused_before_anything_is_loaded(make, monkeypatch, knobs):
    monkeypatch.setattr(backbones, "load", None)
    with pytest.raises(ValueError, match=next(iter(knobs))):
        make("CARFT", **knobs)


def test_learning_rate_factor():
    # total 10, warm-up 4: a rise in fifths, then a half cosine over 6 steps, by hand
    got = [lr_factor(s, 10, 4) for s in range(12)]
    root3 = 3**0.5
    cosine = [1, (2 + root3) / 4, 3 / 4, 1 / 2, 1 / 4, (2 - root3) / 4]
    assert got == pytest.approx([0.2, 0.4, 0.6, 0.8, *cosine, 0, 0])
    assert lr_factor(0, 10, 0) == 1


@pytest.mark.parametrize(
    "argv, steps",
    [
        (["--steps", "7"], 7),
        (["--steps=7"], 7),
        (["--st", "7", "--seed", "3"], 7),
        (["--steps", "5", "--steps", "7"], 7),
        (["--seed", "3"], 5001),
    ],
)
def test_the_run_s_length_is_read_from_the_trainer_s_command_line(make, monkeypatch, argv, steps):
    main = types.ModuleType("__main__")
    main.__spec__ = types.SimpleNamespace(name="domainbed.scripts.train")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    assert make("CLIP_ERM").planned_steps == steps
    assert make("CLIP_ERM", clip_steps=11).planned_steps == 11
    main.__spec__ = types.SimpleNamespace(name="another.program")
    assert make("CLIP_ERM").planned_steps == 5001


def test_training_beyond_the_planned_length_warns_once(make):
    algorithm = make("CLIP_ERM", clip_steps=2)
    with pytest.warns(UserWarning, match="after 2 steps.*clip_steps") as seen:
        train(algorithm, 5)
    assert len(seen) == 1
    before = copy.deepcopy(algorithm.state_dict())
    train(algorithm, 1)
    assert all(torch.equal(v, algorithm.state_dict()[k]) for k, v in before.items())


def test_gradients_are_clipped(make, monkeypatch):
    seen = []
    original = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda p, n: seen.append(n) or original(p, n)
    )
    train(make("CARFT", clip_grad_clip=0.5), 1)
    train(make("CARFT", clip_grad_clip=0), 1)
    assert seen == [0.5]


def test_a_resnet_starts_at_zero_shot_in_training_mode_too(make, tmp_path):
    file = save_clip(tmp_path / "rn.pt", vision_layers=(1, 1, 1, 1))
    values = train(make("CARFT", clip_backbone=file))
    assert values[0]["context_kl"] == pytest.approx(0, abs=1e-6)


def test_text_encoder_is_gone(make):
    algorithm = make("CARFT")
    text = [n for n, _ in algorithm.named_modules() if "transformer" in n and "visual" not in n]
    assert not text
    assert not [v for v in vars(algorithm).values() if isinstance(v, backbones.Backbone)]


def test_another_temperature_of_the_contexts_changes_their_kl_alone(make, tiny_clip):
    x, y = batches()[0]
    tau = float(clip.load(tiny_clip, device="cpu")[0].logit_scale.detach().exp())
    found = {}
    for knob in (0.0, tau, tau / 2):
        algorithm = make("CARFT", carft_tau=knob)
        g = torch.Generator().manual_seed(0)  # another encoder than the frozen one: else KL = 0
        algorithm.encoder.visual.proj.data += torch.randn(64, 16, generator=g)
        images = algorithm.input(x)
        found[knob] = algorithm.loss(images, y)[1], algorithm, images
    assert found[0.0][0] == found[tau][0]
    values, algorithm, images = found[tau / 2]
    assert values["ce"] == found[0.0][0]["ce"]
    z, z0 = algorithm.encoder(images), algorithm.frozen(images)
    p, p0 = (
        (tau / 2 * F.normalize(f) @ algorithm.context_weights.T).softmax(1).double()
        for f in (z, z0)
    )
    expected = (p0 * (p0 / p).log()).sum(1).mean().item()
    assert values["context_kl"].item() == pytest.approx(expected, rel=1e-3)
    assert values["context_kl"] != found[0.0][0]["context_kl"]


def test_a_host_whose_registry_knows_no_knobs(make, monkeypatch):
    hparams = {**hparams_registry.default_hparams("CARFT", "PACS"), "of_the_trainer": object()}
    knobs = make("CARFT").hparams
    for name in ("clip_backbone", "clip_contexts"):
        hparams[name] = knobs[name]
    monkeypatch.setattr(settings.trainer, "typed_hparams", lambda: {"batch_size": 8})

    def fails(algorithm, dataset):
        raise NotImplementedError(algorithm)

    monkeypatch.setattr(hparams_registry, "default_hparams", fails)
    assert settings.host_knobs("PACS") is None
    assert make("CARFT", hparams=hparams).hparams is hparams


def test_one_class_is_refused(tmp_path):
    """Its loss would be 0 and its accuracy 1, whatever the model."""
    from conftest import make_image_folder

    from domainbed_carft.data import user_folders

    root = make_image_folder(tmp_path / "Own", ("ink", "photo"), ("dog",))
    hparams = hparams_registry.default_hparams("CARFT", "PACS") | {"clip_backbone": "embedded"}
    dataset = user_folders.data_set("Own", str(root))(None, [1], hparams)
    with pytest.raises(
        ValueError, match="at least 2 classes, but the data set Own has one"
    ) as said:
        car_ft.CARFT(dataset.input_shape, dataset.num_classes, 1, hparams)
    assert "\n" not in str(said.value)
