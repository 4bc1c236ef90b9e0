"""embedded/lib/label_sets.py, and that the trainer's records heed it."""

from types import SimpleNamespace

import pytest
import torch
from domainbed.lib import misc, training

from domainbed_carft.base import label_sets


class Env(torch.utils.data.TensorDataset):
    label_set = (0, 2)
    accepts = {2: (1, 2)}  # noqa: RUF012


LOGITS = torch.tensor([[1.0, 9, 0], [0, 9, 1], [5, 4, 3], [0, 9, 1]])
LABELS = torch.tensor([0, 2, 2, 0])
# Over all labels: 1 1 0 1; among 0 and 2: 0 2 0 2. Right: yes, yes, no, no.


class Net(torch.nn.Module):
    def predict(self, x):
        return x


def test_predictions_are_made_within_the_set_and_any_accepted_label_is_right():
    rule = label_sets.Rule((0, 2), {2: (1, 2)})
    restricted = rule.restrict(LOGITS)
    assert restricted.argmax(1).tolist() == [0, 2, 0, 2]
    assert restricted[:, 1].tolist() == [-torch.inf] * 4 and LOGITS[0, 1] == 9
    assert rule.right(torch.tensor([0, 1, 2, 0]), torch.tensor([0, 2, 2, 2])).tolist() == [
        *(True, True, True, False),
    ]
    assert rule.right(torch.tensor([1, 2]), torch.tensor([1, 1])).tolist() == [True, False]


def test_without_a_rule_all_labels_count():
    rule = label_sets.rule_of(torch.utils.data.TensorDataset(LOGITS, LABELS))
    assert rule.restrict(LOGITS) is LOGITS
    assert rule.right(LOGITS.argmax(1), LABELS).tolist() == [False, False, False, False]


def test_a_split_of_a_split_has_the_rule_of_its_environment():
    rule = label_sets.rule_of(misc.Split(misc.Split(Env(LOGITS, LABELS), [0, 1]), [1]))
    assert rule.label_set == [0, 2] and rule.accepts == {2: (1, 2)}


@pytest.mark.parametrize("env, expected", [(Env, 0.5), (torch.utils.data.TensorDataset, 0.0)])
def test_the_trainer_s_records_are_within_label_sets(env, expected):
    split = misc.Split(env(LOGITS, LABELS), [0, 1, 2, 3])
    splits = SimpleNamespace(evaluated=[("env0_in", split)])
    found = training.evaluate(
        Net(), SimpleNamespace(seed=0), SimpleNamespace(N_WORKERS=0), splits, step=0
    )
    assert found == {"env0_in_acc": expected}


def test_weights_still_count():
    batches = [(LOGITS, LABELS)]
    rule, weights = label_sets.Rule((0, 2)), torch.tensor([4.0, 1, 2, 3])
    # right: the first two, of weight 4 + 1 of 10
    assert misc.accuracy(Net(), batches, weights, "cpu", rule) == pytest.approx(0.5)
