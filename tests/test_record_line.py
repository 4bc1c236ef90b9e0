"""record_line.py: which lines are records."""

import json

import pytest

from domainbed_carft.contract import record_line

ARGS = {"trial_seed": 0, "dataset": "PACS", "algorithm": "ERM", "test_envs": [0], "hparams_seed": 0}
LINE = json.dumps({"step": 0, "args": ARGS, "env0_in_acc": 0.5})


def test_a_line_is_its_record():
    assert record_line.parse(LINE.encode() + b"\n") == json.loads(LINE)


@pytest.mark.parametrize(
    "line, said",
    [
        (LINE.replace('"step": 0', '"step": 0, "step": 5'), "'step' is there twice"),
        (LINE.replace('"trial_seed"', '"hparams_seed": 1, "trial_seed"'), "is there twice"),
        (LINE.replace("PACS", "\\ud800"), "of the wrong type: dataset"),
        (LINE.replace("PACS", "a\\nb"), "of the wrong type: dataset"),
        (LINE.replace("0.5", '"\\ud800"'), r"env0_in_acc is \\ud800, not an accuracy"),
    ],
)
def test_what_is_no_record_is_said_in_a_line_that_can_be_printed(line, said):
    with pytest.raises(ValueError, match=said) as raised:
        record_line.parse(line.encode() + b"\n")
    assert str(raised.value).isprintable()


def test_accuracies_have_numbers_of_ascii():
    assert record_line.is_accuracy("env10_in_acc")
    assert not record_line.is_accuracy("env\u0663_in_acc")
