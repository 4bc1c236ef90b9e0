"""prompt_check.py: none cut off, no two classes alike, with either tokenizer."""

import pytest

from domainbed_carft.models import backbones, prompt_check

LONG = " ".join(["dog"] * 80)


@pytest.fixture
def loaded(any_clip):
    return backbones.load(any_clip)


def test_a_name_that_is_too_long_is_named_with_its_template(loaded):
    prompt_check.check(loaded, ["a {}", "a photo of a {}."], ["dog", " ".join(["dog"] * 60)])
    with pytest.raises(ValueError, match="class 'dog dog .* template 'a {}' has 83 tokens, .* 77"):
        prompt_check.check(loaded, ["a {}"], ["cat", LONG])


def test_the_template_counts_too(loaded):
    name = " ".join(["dog"] * 70)
    prompt_check.check(loaded, ["a {}"], ["cat", name])
    template = "a photo, a picture, a {}."
    with pytest.raises(ValueError, match="template 'a photo, a picture, a {}.' has 80 tokens"):
        prompt_check.check(loaded, ["a {}", template], ["cat", name])


def test_a_text_that_fits_exactly_is_right(loaded):
    prompt_check.check(loaded, ["a {}"], ["cat", " ".join(["dog"] * 74)])  # with start and end 77
    with pytest.raises(ValueError, match="has 78 tokens"):
        prompt_check.check(loaded, ["a {}"], ["cat", " ".join(["dog"] * 75)])


@pytest.mark.parametrize("names", [["zero", "Zero", "two"], ["a & b", "c", "a &amp; b"]])
def test_classes_that_are_one_text_are_named(loaded, names):
    with pytest.raises(ValueError, match="are the same text to the tokenizer"):
        prompt_check.check(loaded, ["a {}"], names)


def test_names_given_twice_pass_as_open_clip_s_own_do(loaded):
    prompt_check.check(loaded, ["a {}"], ["crane", "dog", "crane"])
