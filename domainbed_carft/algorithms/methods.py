"""Table of methods: class, knobs, plot style and documentation of each.

To add a method to this package, write its loss and its class, and add a row below and a section to
docs/methods.md. Users add their own methods with :func:`.own_methods.add`. This module does not
import torch.
"""

import difflib
import importlib
from dataclasses import dataclass, field, replace
from typing import Any

from ..base.messages import unknown
from ..method import recipes
from ..method.knobs import HOST_RULES, Knob, check_values, log_uniform, number, one_of, shared, text

OF_USERS = "user_"  # prefix of knobs that only a user's own code reads


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: name of the algorithm, for DomainBed's --algorithm.
        place: "module:Class", where a module without a dot is one of this package.
        knobs: {name: Knob} of the knobs that not all methods have.
        defaults: {name: value} that override defaults of shared knobs.
        look: (colour, marker) in plots, as indices into reports.plots.PALETTE and MARKERS.
        card: link to its documentation.
        trains: whether the weights of the image encoder are trained.
        own: the class, if the method was added by a user.
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
        """Import and return the class. The host must be registered."""
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
            "carft_contexts": Knob("", text("contexts as for clip_contexts, or ''")),
            "carft_teacher": Knob("zero-shot", one_of("zero-shot", "ema", "beta")),
        },
        look=(0, 0),
    ),
    Method("CLIP_LP", "linear_probes:CLIP_LP", {"lp_l2": _LP_L2}, look=(2, 2)),
    Method(
        "CLIP_LPFT",
        "linear_probes:CLIP_LPFT",
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
        "CLIP_FTP",
        "baselines:CLIP_FTP",
        {"ftp_k": Knob(1.0, number(0, 1, closed=True), lambda r: r.uniform(0.0, 1.0))},
        look=(6, 4),
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
    Method("CLIP_FLYP", "contrastive:CLIP_FLYP", look=(4, 1)),
    Method(
        "CLIP_CaRot",
        "contrastive:CLIP_CaRot",
        {
            "carot_distill": Knob(1.5, number(0), log_uniform(-1.0, 1.0)),
            "carot_orthogonality": Knob(0.2, number(0), log_uniform(-2.0, 0.0)),
            "carot_cross": Knob(0.05, number(0)),
            "carot_every": Knob(0, number(0, whole=True)),
        },
        look=(7, 1),
    ),
    Method(
        "CLIP_CoOp",
        "prompt_learners:CLIP_CoOp",
        {
            "coop_tokens": Knob(16, number(1, whole=True)),
            "coop_lr": Knob(2e-3, number(0, open_low=True), log_uniform(-3.5, -2.0)),
        },
        look=(1, 3),
    ),
    Method(
        "CLIP_CLIPood",
        "baselines:CLIP_CLIPood",
        {"clipood_lambda": Knob(0.3, number(0), lambda r: r.uniform(0.0, 0.6))},
        {"clip_train_head": False, "clip_average": "beta"},
        look=(4, 2),
    ),
)
SHIPPED = {row.name: replace(row, card=f"docs/methods.md#{row.name.lower()}") for row in _ROWS}
METHODS = dict(SHIPPED)  # users' methods are added to it


def knobs_of(name, dataset):
    """Return {knob: Knob} of a method for a data set: the shared knobs and its own."""
    method = METHODS[name]
    knobs = {
        knob: replace(found, default=method.defaults.get(knob, found.default))
        for knob, found in shared(dataset).items()
    }
    return {**knobs, **method.knobs}


def table(name, dataset, random_seed):
    """Return {knob: (default, random value)} of a method, like DomainBed's _hparams."""
    return {
        knob: (found.default, found.draw(knob, random_seed))
        for knob, found in knobs_of(name, dataset).items()
    }


def rules():
    """Return {knob: rule} for all knobs of all methods, and for the host's knobs they use."""
    found = {name: knob.rule for name, knob in shared("").items()}
    for method in METHODS.values():
        found.update({name: knob.rule for name, knob in method.knobs.items()})
    return {**found, **HOST_RULES, recipes.KNOB: recipes.rule}


def without_effect(name, hparams):
    """Return the names in hparams that are knobs of other methods only."""
    own = METHODS[name].knobs
    foreign = {k for method in METHODS.values() for k in method.knobs} - own.keys()
    return [knob for knob in hparams if knob in foreign]


def check(name, hparams, host_knobs=None, typed=None):
    """Check the knobs of a method.

    All values of this package's knobs are checked. A sweep passes its --hparams to all of its
    algorithms, so knobs of other methods are allowed. Names are only checked if the user typed
    them, since a trainer may add keys of its own. A typed name must be a knob of this package or of
    the host, or start with OF_USERS. If the host's knobs are unknown, only names that resemble a
    knob of this package are refused.

    Args:
        name: name of the method.
        hparams: {name: value} from the host, including its own knobs.
        host_knobs: names of all of the host's knobs, or None if they are unknown.
        typed: names that the user typed. None stands for all of hparams.

    Raises:
        ValueError: a value is out of range, a knob is missing, or a name is unknown.
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
    check_values(known_rules, hparams)
    for knob in needed:
        if knob not in hparams:
            raise ValueError(
                f"{name} needs the knob {knob}: get hparams from "
                f"domainbed.hparams_registry.default_hparams({name!r}, dataset)"
            )
