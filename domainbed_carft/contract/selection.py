"""DomainBed's model selection: which step of a run, and which hparams seed.

The records of a method's ``run_acc`` and ``sweep_acc`` are one group of
``lib.reporting.get_grouped_records``: one trial, data set, algorithm and test environment.
Ties are broken as DomainBed does: the first of a run's records, the last of the hparams seeds.
"""

import math

import numpy as np


def get_test_records(records):
    """Return the records of runs with a single test environment."""
    return [record for record in records if len(record["args"]["test_envs"]) == 1]


class SelectionMethod:
    """A selection rule; ``name`` is its name in the tables."""

    name = None

    @classmethod
    def run_acc(cls, records):
        """Return {"val_acc", "test_acc"} of the best step of one hparams seed, or None."""
        raise NotImplementedError  # each rule's own

    @classmethod
    def hparams_accs(cls, records):
        """Return [(run_acc, records)] per hparams seed, best first."""
        by_seed = {}
        for record in records:
            by_seed.setdefault(record["args"]["hparams_seed"], []).append(record)
        runs = [(cls.run_acc(by_seed[seed]), by_seed[seed]) for seed in sorted(by_seed)]
        runs = [run for run in runs if run[0] is not None]

        def order(run):
            return -math.inf if math.isnan(run[0]["val_acc"]) else run[0]["val_acc"]

        return sorted(runs, key=order)[::-1]

    @classmethod
    def sweep_acc(cls, records):
        """Return the test accuracy of the best hparams seed, or None."""
        runs = cls.hparams_accs(records)
        return runs[0][0]["test_acc"] if runs else None


class IIDAccuracySelectionMethod(SelectionMethod):
    """Highest mean accuracy on the ``out`` splits of the training environments."""

    name = "training-domain validation set"

    @classmethod
    def run_acc(cls, records):
        return _best(filter(None, map(cls._step_acc, get_test_records(records))))

    @staticmethod
    def _step_acc(record):
        test_env = record["args"]["test_envs"][0]
        validation = [record[f"env{i}_out_acc"] for i in _environments(record) if i != test_env]
        if not validation or f"env{test_env}_in_acc" not in record:
            return None
        return {"val_acc": np.mean(validation), "test_acc": record[f"env{test_env}_in_acc"]}


class LeaveOneOutSelectionMethod(SelectionMethod):
    """Highest mean accuracy on training environments that were left out, each in a run of its own.

    A step counts if it has exactly one record in which only the test environment was left out, and
    at least one for each pair of the test environment with another. Of several the last is used.
    """

    name = "leave-one-domain-out cross-validation"

    @classmethod
    def run_acc(cls, records):
        by_step = {}
        for record in records:
            by_step.setdefault(record["step"], []).append(record)
        return _best(filter(None, map(cls._step_acc, by_step.values())))

    @staticmethod
    def _step_acc(records):
        alone = get_test_records(records)
        if len(alone) != 1:
            return None
        test_env = alone[0]["args"]["test_envs"][0]
        validation = {}
        for record in records:
            others = [env for env in record["args"]["test_envs"] if env != test_env]
            if len(others) == 1:
                validation[others[0]] = record.get(f"env{others[0]}_in_acc")
        found = [validation.get(i) for i in _environments(alone[0]) if i != test_env]
        if not found or None in found or f"env{test_env}_in_acc" not in alone[0]:
            return None
        return {"val_acc": np.mean(found), "test_acc": alone[0][f"env{test_env}_in_acc"]}


class OracleSelectionMethod(SelectionMethod):
    """Accuracy on the test environment itself, at the last step: no early stopping."""

    name = "test-domain validation set (oracle)"

    @classmethod
    def run_acc(cls, records):
        records = get_test_records(records)
        if not records:
            return None
        last = sorted(records, key=lambda record: record["step"])[-1]
        test_env = last["args"]["test_envs"][0]
        keys = f"env{test_env}_out_acc", f"env{test_env}_in_acc"
        if any(key not in last for key in keys):
            return None
        return {"val_acc": last[keys[0]], "test_acc": last[keys[1]]}


def _environments(record):
    """Return the numbers of the environments that have a validation accuracy in the record."""
    names = [key[3:-8] for key in record if key.startswith("env") and key.endswith("_out_acc")]
    return sorted(int(name) for name in names if name.isdigit())


def _best(accuracies):
    """Return the first of the highest accuracies, or None."""
    return max(accuracies, key=lambda found: found["val_acc"], default=None)
