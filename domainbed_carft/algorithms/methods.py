"""The table of methods: class, knobs, look and card of each. Nothing here imports torch.

A new method of this package is its loss, its class, one row below and its card in docs/methods.md.
A user's own method is added from outside, by :func:`.own_methods.add`.
"""

import difflib
import importlib
from dataclasses import dataclass, field, replace
from typing import Any

from ..base.messages import unknown
from ..method.knobs import HOST_RULES, Knob, log_uniform, number, one_of, shared

OF_USERS = "user_"  # knobs that a user's own data set or algorithm reads


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: of the algorithm, as DomainBed's --algorithm takes it.
        place: "module:Class" of its class; modules of this package by their last name.
        knobs: {name: Knob} that it has and that not all methods have.
        defaults: {name: value} of shared knobs whose default is another one here.
        look: (colour, marker) in plots, indices into reports.plots.PALETTE and MARKERS.
        card: where the method is described.
        trains: whether weights of the image encoder are trained.
        own: the class itself, of a method that is a user's.
    """

    name: str
    place: str
    knobs: dict[str, Knob] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    look: tuple[int, int] | None = None
    card: str = ""
    trains: bool = True
    own: type | None = None

    def load(self) -> type:
        """Import and return the class; the host must be registered."""
        if self.own is not None:
            return self.own
        module, _, name = self.place.partition(":")
        path = module if "." in module else f"{__package__}.{module}"
        return getattr(importlib.import_module(path), name)


_LP_L2 = Knob(1e-2, number(0, open_low=True), log_uniform(-4.0, 0.0))
_ROWS = (  # in the order of tables and plots
    Method("CLIP_ZeroShot", "car_ft:CLIP_ZeroShot", look=(6, 6), trains=False),
    Method("CLIP_ERM", "car_ft:CLIP_ERM", look=(1, 1)),
    Method(
        "CARFT",
        "car_ft:CARFT",
        {
            "carft_lambda": Knob(1.0, number(0), log_uniform(-1.0, 1.0)),
            "carft_direction": Knob("forward", one_of("forward", "reverse")),
            "carft_tau": Knob(0.0, number(0)),
        },
        look=(0, 0),
    ),
    Method("CLIP_LP", "baselines:CLIP_LP", {"lp_l2": _LP_L2}, look=(2, 2)),
    Method(
        "CLIP_LPFT",
        "baselines:CLIP_LPFT",
        {
            "lp_l2": _LP_L2,
            "lpft_share": Knob(0.1, number(0, 1), lambda r: r.uniform(0.05, 0.3)),
        },
        look=(2, 4),
    ),
    Method(
        "CLIP_L2SP",
        "baselines:CLIP_L2SP",
        {"l2sp_alpha": Knob(1e-2, number(0), log_uniform(-4.0, 0.0))},
        look=(3, 3),
    ),
    Method(
        "CLIP_MIRO",
        "baselines:CLIP_MIRO",
        {"miro_lambda": Knob(1.0, number(0), log_uniform(-2.0, 1.0))},
        look=(3, 5),
    ),
    Method(
        "CLIP_Distill",
        "baselines:CLIP_Distill",
        {
            "distill_lambda": Knob(1.0, number(0), log_uniform(-1.0, 1.0)),
            "distill_temperature": Knob(1.0, number(0, open_low=True)),
        },
        look=(5, 0),
    ),
    Method(
        "CLIP_LipsumFT",
        "baselines:CLIP_LipsumFT",
        {
            "lipsum_lambda": Knob(1.0, number(0), log_uniform(-2.0, 1.0)),
            "lipsum_texts": Knob(80, number(1, whole=True)),
            "lipsum_length": Knob(8, number(1, whole=True)),
        },
        look=(5, 7),
    ),
    Method("CLIP_FLYP", "baselines:CLIP_FLYP", look=(4, 1)),
    Method(
        "CLIP_CLIPood",
        "baselines:CLIP_CLIPood",
        {"clipood_lambda": Knob(0.3, number(0), lambda r: r.uniform(0.0, 0.6))},
        {"clip_train_head": False, "clip_average": "beta"},
        look=(4, 2),
    ),
)
SHIPPED = {row.name: replace(row, card=f"docs/methods.md#{row.name.lower()}") for row in _ROWS}
METHODS = dict(SHIPPED)  # and the methods that users add


def knobs_of(name, dataset):
    """Return {knob: Knob} of a method for a data set: what all share, and its own."""
    method = METHODS[name]
    knobs = {
        knob: replace(found, default=method.defaults.get(knob, found.default))
        for knob, found in shared(dataset).items()
    }
    return {**knobs, **method.knobs}


def table(name, dataset, random_seed):
    """Return {knob: (default, random value)} of a method, as DomainBed's _hparams does."""
    return {
        knob: (found.default, found.draw(knob, random_seed))
        for knob, found in knobs_of(name, dataset).items()
    }


def rules():
    """Return {knob: rule} of all knobs of all methods, and of the host's that ours heed."""
    found = {name: knob.rule for name, knob in shared("").items()}
    for method in METHODS.values():
        found.update({name: knob.rule for name, knob in method.knobs.items()})
    return {**found, **HOST_RULES}


def without_effect(name, hparams):
    """Return the names in hparams that are knobs of another method only."""
    own = METHODS[name].knobs
    foreign = {k for method in METHODS.values() for k in method.knobs} - own.keys()
    return [knob for knob in hparams if knob in foreign]


def check(name, hparams, host_knobs=None, typed=None):
    """Check the knobs of a method: the values of ours, and the names of those that were typed.

    A sweep gives its --hparams to all of its algorithms, so knobs of another method may be there;
    they are checked, too. A trainer may add keys of its own, which are not.

    Args:
        name: of the method.
        hparams: {name: value} as the host hands them over, its own knobs included.
        host_knobs: names of all of the host's knobs; None where they are not known.
        typed: the names that the user typed. None, where no command did: all of hparams.
            Of them, a name is refused that is neither one of ours nor the host's, unless it starts
            with OF_USERS. Where the host's are not known: one that is nearly one of ours.

    Raises:
        ValueError: a value outside its range, a knob that is missing, a name that is refused.
    """
    needed = [*knobs_of(name, ""), "batch_size"]
    known_rules = rules()
    own = {f"{knob.partition('_')[0]}_" for method in METHODS.values() for knob in method.knobs}
    prefixes = ("clip_", *own)
    for knob in hparams if typed is None else typed:
        if knob in known_rules or knob.startswith(OF_USERS):
            continue
        if host_knobs is None:
            near = difflib.get_close_matches(knob, known_rules, n=1, cutoff=0.8)
            wrong = near or knob.startswith(prefixes)
        else:
            wrong = knob not in host_knobs
        if wrong:
            known = [*needed, "class_balanced", "data_augmentation"]
            raise ValueError(
                f"{unknown(f'knob of {name}', knob, known, [*known, *known_rules])}. "
                f"A knob that only your own code reads must start with {OF_USERS}"
            )
    for knob, value in hparams.items():
        rule = known_rules[knob](value) if knob in known_rules else None
        if rule:
            raise ValueError(f"{knob} must be {rule}, got {value!r}")
    for knob in needed:
        if knob not in hparams:
            raise ValueError(
                f"{name} needs the knob {knob}: take hparams from "
                f"domainbed.hparams_registry.default_hparams({name!r}, dataset)"
            )
