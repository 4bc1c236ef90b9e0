"""Contexts, class names and prompt weights: against the reference, by hand, and what is refused."""

import math
import unicodedata

import forked
import pytest
import reference
import torch

from domainbed_carft.method.prompts import (
    SETS,
    build_prompts,
    class_prompt_names,
    file_class_names,
    load_contexts,
    prompt_weights,
)

SHAPES = [(2, 3, 5), (7, 2, 3), (5, 11, 4)]  # M, K, D, pairwise different


def features(M, K, D, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    lengths = 0.1 + 10 * torch.rand(M, K, 1, generator=g, dtype=torch.float64)
    return (lengths * torch.randn(M, K, D, generator=g, dtype=torch.float64)).to(dtype)


# --- T -> W_ctx, W_cls -------------------------------------------------------------------------


def check_weights_by_hand(weights):
    # M = 2 contexts, K = 3 classes, D = 2; lengths differ and must not matter.
    #   T[0] = (1, 0), (0, 1), (1, 0)      T[1] = (0, 1), (0, 1), (0.6, 0.8)
    # Mean over classes: (2, 1)/3 and (0.6, 2.8)/3; normalised, with |(2, 1)| = √5 and
    #   |(0.6, 2.8)| = √(0.36 + 7.84) = √8.2.
    # Mean over contexts: (1, 1)/2, (0, 2)/2, (1.6, 0.8)/2; normalised with √2, 2 and
    #   |(1.6, 0.8)| = 0.8·√5, so (1.6, 0.8)/(0.8·√5) = (2, 1)/√5.
    T = torch.tensor([[[5.0, 0], [0, 2], [0.1, 0]], [[0, 3], [0, 7], [6, 8]]])
    W_ctx, W_cls = weights(T)
    r5, r2, r8 = math.sqrt(5), math.sqrt(2), math.sqrt(8.2)
    torch.testing.assert_close(W_ctx, torch.tensor([[2 / r5, 1 / r5], [0.6 / r8, 2.8 / r8]]))
    torch.testing.assert_close(W_cls, torch.tensor([[1 / r2, 1 / r2], [0, 1], [2 / r5, 1 / r5]]))


def test_weights_by_hand():
    check_weights_by_hand(prompt_weights)


def whole_matrix_norm(T):
    """The public attempt's: the mean divided by the length of the whole matrix."""
    T = T / T.norm(dim=-1, keepdim=True)
    W_ctx, W_cls = T.mean(dim=1), T.mean(dim=0)
    return W_ctx / W_ctx.norm(), W_cls / W_cls.norm()


def axes_swapped(T):
    return prompt_weights(T)[::-1]


def prompts_not_normalised(T):
    W_ctx, W_cls = T.mean(dim=1), T.mean(dim=0)
    return W_ctx / W_ctx.norm(dim=1, keepdim=True), W_cls / W_cls.norm(dim=1, keepdim=True)


def means_not_normalised(T):
    T = T / T.norm(dim=-1, keepdim=True)
    return T.mean(dim=1), T.mean(dim=0)


@pytest.mark.parametrize(
    "wrong", [whole_matrix_norm, axes_swapped, prompts_not_normalised, means_not_normalised]
)
def test_known_mistakes_fail_the_hand_computed_weights(wrong):
    with pytest.raises(AssertionError):
        check_weights_by_hand(wrong)


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_agree_with_the_reference(shape):
    T = features(*shape)
    W_ctx, W_cls = prompt_weights(T)
    expected = [reference.W_ctx(T.tolist()), reference.W_cls(T.tolist())]
    for got, rows in zip((W_ctx, W_cls), expected):
        torch.testing.assert_close(got, torch.tensor(rows, dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_have_length_one(shape):
    for weights in prompt_weights(features(*shape, dtype=torch.float32)):
        torch.testing.assert_close(weights.norm(dim=1), torch.ones(len(weights)))


def test_order_of_classes_and_of_contexts():
    T = features(5, 4, 7)
    W_ctx, W_cls = prompt_weights(T)
    classes, contexts = torch.tensor([2, 3, 1, 0]), torch.tensor([4, 2, 0, 1, 3])
    by_class = prompt_weights(T[:, classes])
    torch.testing.assert_close(by_class[0], W_ctx)
    torch.testing.assert_close(by_class[1], W_cls[classes])
    by_context = prompt_weights(T[contexts])
    torch.testing.assert_close(by_context[0], W_ctx[contexts])
    torch.testing.assert_close(by_context[1], W_cls)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_give_float32_weights(dtype):
    T = features(5, 4, 7, dtype=dtype)
    for got, wide in zip(prompt_weights(T), prompt_weights(T.float())):
        assert got.dtype == torch.float32
        assert torch.equal(got, wide)


def test_weights_have_no_gradient():
    for weights in prompt_weights(features(2, 3, 5).requires_grad_()):
        assert not weights.requires_grad


@pytest.mark.parametrize(
    ("T", "message"),
    [
        (torch.ones(3, 5), r"\(M, K, D\).* got \(3, 5\)"),
        (torch.ones(2, 0, 5), r"none of them 0.* got \(2, 0, 5\)"),
        (torch.ones(2, 3, 5).int(), r"floats .* torch.int32"),
        (torch.full((2, 3, 5), math.nan), r"finite; got 6 vectors with NaN .* of \(2, 3\)"),
        (torch.tensor([[[1.0], [math.inf]]]), r"finite; got 1 vectors .* of \(1, 2\)"),
        (torch.tensor([[[1.0], [0.0]]]), r"prompts' features .* must not be 0"),
        (torch.tensor([[[1.0], [-1.0]]]), r"context's mean over the classes .* must not be 0"),
        (torch.tensor([[[1.0]], [[-1.0]]]), r"class's mean over the contexts .* must not be 0"),
    ],
)
def test_weights_refuse(T, message):
    with pytest.raises(ValueError, match=message):
        prompt_weights(T)


# --- names and prompts -------------------------------------------------------------------------


def test_class_names_are_folder_names_with_spaces():
    folders = ["Postit_Notes", "Flipflops", "ToothBrush", "TV", "_The_Mona_Lisa "]
    names = ["Postit Notes", "Flipflops", "ToothBrush", "TV", "The Mona Lisa"]
    assert class_prompt_names(folders) == names


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["dog", "__"], r"not be empty; got '__'"),
        (["dog", ""], r"not be empty; got ''"),
        (["Mona_Lisa", "dog", "Mona Lisa"], r"'Mona_Lisa' and 'Mona Lisa' are both 'Mona Lisa'"),
    ],
)
def test_class_names_refuse(folders, message):
    with pytest.raises(ValueError, match=message):
        class_prompt_names(folders)


def test_prompts_are_contexts_by_classes():
    prompts = build_prompts(
        ["a {} in a video game.", "{oil} art of {}"], ["dog", "odd {name}", "cat"]
    )
    assert prompts == [
        ["a dog in a video game.", "a odd {name} in a video game.", "a cat in a video game."],
        ["{oil} art of dog", "{oil} art of odd {name}", "{oil} art of cat"],
    ]


@pytest.mark.parametrize(
    ("templates", "names", "message"),
    [
        ([], ["dog"], "got 0 and 1"),
        (["a {}"], [], "got 1 and 0"),
        (["a {}", "a photo"], ["dog"], "exactly one {}; got 'a photo'"),
        (["a {} and {}"], ["dog"], "exactly one {}; got 'a {} and {}'"),
    ],
)
def test_prompts_refuse(templates, names, message):
    with pytest.raises(ValueError, match=message):
        build_prompts(templates, names)


# --- context sets ------------------------------------------------------------------------------


def test_imagenet_sets_are_openai_s():
    eighty, seven = load_contexts("imagenet80"), load_contexts("imagenet7")
    assert len(set(eighty)) == len(eighty) == 80
    assert all(template.count("{}") == 1 for template in eighty)
    assert eighty[0] == "a bad photo of a {}."
    assert eighty[-1] == "a tattoo of the {}."
    assert seven == [
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ]
    assert set(seven) < set(eighty)


def test_single_set():
    assert load_contexts("single") == ["a photo of a {}."]


def test_domain_set_keeps_order_and_spelling():
    expected = ["a Real World of a {}", "a art painting of a {}", "a location 100 of a {}"]
    assert load_contexts("domains", ["Real World", "art_painting", "location_100"]) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "at least 2 training domains; got None"),
        ([], r"at least 2 training domains; got \[\]"),
        (["photo"], r"at least 2 training domains; got \['photo'\]"),
        (["a_b", "a b"], "must differ"),
        (["photo", "_"], "neither empty"),
        (["photo", "{}"], "nor contain braces"),
    ],
)
def test_domain_set_refuses(names, message):
    with pytest.raises(ValueError, match=message):
        load_contexts("domains", names)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("imagenet8", "did you mean imagenet80 or imagenet7"),
        ("IMAGENET80", "did you mean imagenet80"),
        ("domain", "did you mean domains"),
        ("/no/such/file.txt", "Unknown contexts '/no/such/file.txt'. Known"),
        ("", "Unknown contexts ''"),
    ],
)
def test_unknown_set_is_answered_with_near_ones_and_all(name, near):
    with pytest.raises(ValueError, match=near) as error:
        load_contexts(name)
    assert repr(name) in str(error.value)
    assert all(known in str(error.value) for known in SETS)
    assert "path of a text file" in str(error.value)


def test_folder_is_no_context_file(tmp_path):
    with pytest.raises(ValueError, match="Unknown contexts"):
        load_contexts(str(tmp_path))


def test_open_clip_is_imported_only_for_its_sets(tmp_path):
    code = (
        "import sys; sys.modules['open_clip'] = None\n"  # its import fails
        "from domainbed_carft.method.prompts import load_contexts as load\n"
        "load('single'); load('domains', ['a', 'b']); print('so far'); load('imagenet7')"
    )
    run = forked.run(["-c", code], tmp_path)
    assert run.stdout == "so far\n" and "import of open_clip halted" in run.stderr, run.stderr


# --- context files -----------------------------------------------------------------------------


def write(tmp_path, data):
    file = tmp_path / "contexts.txt"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(file)


def test_file_of_templates_and_contexts(tmp_path):
    text = "# ours\n\na {} in the fog\n  pencil sketch \r\n\t\nküche of the {}\n#last\n"
    expected = ["a {} in the fog", "a pencil sketch of {}", "küche of the {}"]
    assert load_contexts(write(tmp_path, text)) == expected
    assert load_contexts(write(tmp_path, b"\xef\xbb\xbf" + text.encode())) == expected
    assert load_contexts(write(tmp_path, text.replace("\r", "").replace("\n", "\r"))) == expected


def test_file_below_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "photo\nsketch\n")
    assert load_contexts("~/contexts.txt") == ["a photo of {}", "a sketch of {}"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "at least 2 contexts; {file} has 0"),
        ("# only\n\n  \n", "at least 2 contexts; {file} has 0"),
        ("#\nphoto\n", "at least 2 contexts; {file} has 1"),
        ("photo\na {} of {}\n", "once.*'a {} of {}' in {file}, line 2"),
        ("photo\n\na {dog} here\n", "once.*'a {dog} here' in {file}, line 3"),
        ("a {0}\nphoto\n", "once.*'a {0}' in {file}, line 1"),
        ("a { here\nphoto\n", "once.*'a { here' in {file}, line 1"),
        ("a {} here}\nphoto\n", "once.*'a {} here}' in {file}, line 1"),
        ("# x\nphoto\nart\nphoto\n", "differ; {file}, lines 2 and 4 both are 'a photo of {}'"),
        ("photo\na photo of {}\n", "differ; {file}, lines 1 and 2 both are 'a photo of {}'"),
        (b"photo\nart\n\xe9t\xe9\n", "UTF-8; {file}, line 3"),
        ("photo\nart\n".encode("utf-16"), "UTF-8; {file} is UTF-16"),
    ],
)
def test_file_refuses(tmp_path, data, message):
    file = write(tmp_path, data)
    with pytest.raises(ValueError) as error:
        load_contexts(file)
    for part in message.replace("{file}", file).split(".*"):
        assert part in str(error.value)


def test_names_that_are_given_twice_stay_two_classes():
    """As in open_clip's list for ImageNet: K classes must get K rows of the head."""
    assert class_prompt_names(["missile", "dog", "missile"]) == ["missile", "dog", "missile"]


def names_file(tmp_path, text, encoding="utf-8"):
    (tmp_path / "names.txt").write_bytes(text.encode(encoding))
    return str(tmp_path / "names.txt")


def test_a_file_of_names_in_the_order_of_labels(tmp_path):
    file = names_file(tmp_path, "hound\n\n feline \n", "utf-8-sig")
    assert file_class_names(file, ["cat_a", "dog_b"]) == ["hound", "feline"]
    assert file_class_names(file) == ["hound", "feline"]


def test_a_file_of_names_by_folder_in_any_order(tmp_path):
    file = names_file(tmp_path, "1\tone\n2\ttwo\n10\tten\n")
    assert file_class_names(file, ["1", "10", "2"]) == ["one", "ten", "two"]
    for folders, part in (
        (["1", "10", "2", "3"], "no line for the class '3'"),
        (["1", "10"], "a line for no class of the data: '2'"),
        (None, "has no class names: give one name per line"),
    ):
        with pytest.raises(ValueError, match=part):
            file_class_names(file, folders)
    with pytest.raises(ValueError, match="a folder twice"):
        file_class_names(names_file(tmp_path, "1\tone\n1\tuno\n"), ["1"])
    with pytest.raises(ValueError, match="a tab in each line"):
        file_class_names(names_file(tmp_path, "1\tone\ntwo\n"), ["1", "2"])


@pytest.mark.parametrize("folders", [["1", "10", "2"], ["c_1_x", "c_10_x", "c_2_x"]])
def test_plain_names_for_numbers_that_are_sorted_as_text_are_refused(folders, tmp_path):
    file = names_file(tmp_path, "one\ntwo\nten\n")
    part = f"sorted as text, not by number: {folders[0]} = one, {folders[1]} = two"
    with pytest.raises(ValueError, match=part):
        file_class_names(file, folders)
    assert file_class_names(file, ["01", "02", "10"]) == ["one", "two", "ten"]


def test_plain_names_that_are_other_folders_names_are_refused(tmp_path):
    file = names_file(tmp_path, "apple pie\nZebra\n")
    with pytest.raises(ValueError, match="its name 1, 'apple pie', falls to the folder 'Zebra'"):
        file_class_names(file, ["Zebra", "apple_pie"])
    assert file_class_names(file, ["apple_pie", "zebra"]) == ["apple pie", "Zebra"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf_16_is_one_line(encoding, tmp_path):
    file = names_file(tmp_path, "dog\ncat\n", encoding)
    with pytest.raises(ValueError, match="must be UTF-8; .*names.txt is UTF-16"):
        file_class_names(file, ["cat", "dog"])
    with pytest.raises(ValueError, match="A context file must be UTF-8; .* is UTF-16"):
        load_contexts(file)


def test_a_name_given_twice_and_no_file(tmp_path):
    with pytest.raises(ValueError, match="has 'dog' twice"):
        file_class_names(names_file(tmp_path, "dog\ndog\n"), ["a", "b"])
    with pytest.raises(FileNotFoundError, match="No file .*nope"):
        file_class_names(str(tmp_path / "nope"))


def test_unicode_forms_of_a_class_are_one_name():
    decomposed = unicodedata.normalize("NFD", "caf\u00e9")
    assert class_prompt_names([decomposed]) == ["caf\u00e9"]


@pytest.mark.parametrize("inside", ["\x0c", "\x1c", "\x85", "\u2028"])
def test_only_line_breaks_end_a_class_name(tmp_path, inside):
    file = tmp_path / "names.txt"
    file.write_bytes(f"a{inside}b\r\nc\n".encode())
    assert file_class_names(file) == [f"a{inside}b", "c"]
