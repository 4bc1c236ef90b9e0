"""layers.py: random texts, layers' outputs."""

import pytest
import torch
from conftest import save_clip
from torch import nn

from domainbed_carft.models import backbones
from domainbed_carft.models.layers import Tap, random_tokens, stages


def test_random_texts_are_framed_as_the_tokenizer_does(any_clip):
    backbone = backbones.load(any_clip)
    tokens = random_tokens(backbone)(5, 8, torch.Generator().manual_seed(3))
    frame = torch.as_tensor(backbone.tokenize(["dog"]))[0]
    assert tokens.shape == (5, 77)
    assert (tokens[:, 0] == frame[0]).all() and (tokens[:, 9] == frame[2]).all()
    assert (tokens[:, 1:9] < frame[0]).all() and (tokens[:, 10:] == 0).all()
    assert len(tokens[:, 1:9].unique()) > 30


def test_random_texts_are_of_known_words_only():
    backbone = backbones.load("embedded")
    draw = random_tokens(backbone)
    used = draw(200, 8, torch.Generator().manual_seed(0))[:, 1:9].unique()
    known = backbone.text.token_embedding.weight[used].abs().sum(1)
    assert (known > 0).all() and 20 < len(used) < 1000
    with pytest.raises(ValueError, match="lipsum_length must be 1 to 75 for .*, got 76"):
        draw(1, 76, None)


def test_another_tokenizer_is_refused(tiny_clip):
    backbone = backbones.load(tiny_clip)
    # what follows a text is not what follows an empty one
    backbone.tokenize = lambda texts: torch.tensor([[1, 2, 0, 0], [1, 5, 2, 7]])
    with pytest.raises(
        ValueError, match=r"between a start and an end, .* \[1, 5, 2, 7\] for 'dog'"
    ):
        random_tokens(backbone)


STAGES = {1: [1], 2: [1, 2], 4: [1, 2, 3, 4], 6: [1, 3, 4, 6], 12: [3, 6, 9, 12]}


@pytest.mark.parametrize("layers", STAGES)
def test_a_vit_s_stages_are_its_first_layer_and_the_ends_of_four_groups(tmp_path, layers):
    visual = backbones.load(save_clip(tmp_path / "vit.pt", vision_layers=layers)).visual
    first, *blocks = (module for module, _ in stages(visual))
    every = list(visual.transformer.resblocks)
    assert first is visual.conv1
    assert [every.index(block) + 1 for block in blocks] == STAGES[layers]


def test_another_encoder_is_refused():
    with pytest.raises(ValueError, match="is of type Identity: use another clip_backbone"):
        stages(nn.Identity())


def test_a_tap_has_the_last_outputs_with_channels_last(any_clip):
    visual = backbones.load(any_clip).visual
    tap = Tap(stages(visual))
    x = torch.randn(3, 3, 32, 32)
    visual(x)
    assert [output.shape[-1] for output in tap.outputs] == [64, 64, 64]
    torch.testing.assert_close(tap.outputs[0], visual.conv1(x).permute(0, 2, 3, 1))
    # 2 x 2 patches and the class token, of 3 images
    assert {tuple(sorted(output.shape[:-1])) for output in tap.outputs[1:]} == {(3, 5)}
    before = tap.outputs[2]
    visual(2 * x)
    assert not torch.equal(tap.outputs[2], before)


def test_a_tap_on_a_resnet(tmp_path):
    file = save_clip(tmp_path / "rn.pt", vision_layers=(1, 1, 1, 1))
    visual = backbones.load(file).visual
    tap = Tap(stages(visual))
    visual(torch.randn(2, 3, 32, 32))
    # width 4: stem 4 channels, then 4·4·2^i; sides 8, 8, 4, 2, 1
    assert [tuple(o.shape) for o in tap.outputs] == [
        *[(2, 8, 8, 4), (2, 8, 8, 16), (2, 4, 4, 32), (2, 2, 2, 64), (2, 1, 1, 128)],
    ]
