"""prompt_cache.py: encoded once, told apart, and never in the way."""

import copy
import threading

import pytest
import torch
from conftest import save_clip

from domainbed_carft.models import backbones, prompt_cache

TEMPLATES, NAMES = ["a photo of a {}", "a sketch of a {}"], ["dog", "cat", "house"]


@pytest.fixture(scope="module")
def loaded(tiny_clip):
    return backbones.load(tiny_clip)


def test_prompts_are_encoded_once(loaded, tmp_path, monkeypatch):
    monkeypatch.setenv("DOMAINBED_CARFT_CACHE", str(tmp_path / "new" / "folder"))
    first = prompt_cache.cached_prompt_weights(loaded, TEMPLATES, NAMES)
    monkeypatch.setattr(backbones, "encode_prompts", None)  # a second encoding would fail
    again = prompt_cache.cached_prompt_weights(loaded, TEMPLATES, NAMES)
    assert all(torch.equal(a, b) for a, b in zip(first, again))


def test_the_cache_key_tells_weights_templates_and_classes_apart(loaded, tmp_path):
    other = backbones.load(save_clip(tmp_path / "other.pt", seed=1))
    keys = {
        prompt_cache.prompts_key(loaded, TEMPLATES, NAMES),
        prompt_cache.prompts_key(loaded, TEMPLATES[::-1], NAMES),
        prompt_cache.prompts_key(loaded, TEMPLATES, NAMES[::-1]),
        prompt_cache.prompts_key(loaded, TEMPLATES[:1], NAMES),
        prompt_cache.prompts_key(other, TEMPLATES, NAMES),
    }
    assert len(keys) == 5


def test_the_cache_key_tells_activations_apart(loaded):
    """open_clip has models with the same weights, once with GELU and once with QuickGELU."""
    other = copy.deepcopy(loaded)
    other.text.transformer.resblocks[0].mlp.gelu = torch.nn.GELU()
    keys = [prompt_cache.prompts_key(b, TEMPLATES, NAMES) for b in (loaded, other)]
    assert keys[0] != keys[1]
    assert keys[0] == prompt_cache.prompts_key(copy.deepcopy(loaded), TEMPLATES, NAMES)


def test_a_cache_that_may_not_be_read_is_done_without(loaded, tmp_path, monkeypatch):
    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("DOMAINBED_CARFT_CACHE", str(tmp_path))
    monkeypatch.setattr(prompt_cache.files, "check_zip", forbidden)
    with pytest.warns(UserWarning, match="cannot be read .*Permission denied"):
        W_ctx, _ = prompt_cache.cached_prompt_weights(loaded, TEMPLATES, NAMES)
    assert W_ctx.shape == (2, 16)


def test_a_damaged_cache_entry_is_made_anew(loaded, tmp_path, monkeypatch):
    monkeypatch.setenv("DOMAINBED_CARFT_CACHE", str(tmp_path))
    first = prompt_cache.cached_prompt_weights(loaded, TEMPLATES, NAMES)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="cannot be read"):
        again = prompt_cache.cached_prompt_weights(loaded, TEMPLATES, NAMES)
    assert torch.equal(first[0], again[0])
    assert torch.equal(torch.load(file)["W_ctx"], first[0])


def test_a_cache_that_cannot_be_written_is_done_without(loaded, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DOMAINBED_CARFT_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="not cached"):
        W_ctx, W_cls = prompt_cache.cached_prompt_weights(loaded, TEMPLATES, NAMES)
    assert W_ctx.shape == (2, 16) and W_cls.shape == (3, 16)


def test_jobs_may_race_for_the_cache(loaded, tmp_path, monkeypatch):
    monkeypatch.setenv("DOMAINBED_CARFT_CACHE", str(tmp_path))
    results = []

    def job():
        results.append(prompt_cache.cached_prompt_weights(loaded, TEMPLATES, NAMES))

    threads = [threading.Thread(target=job) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(results) == 4
    assert all(torch.equal(r[0], results[0][0]) for r in results)
    assert len(list(tmp_path.iterdir())) == 1
