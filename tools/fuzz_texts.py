"""Fuzz targets: files of names, knobs, records, command lines, environment variables."""

import io
import json
import math
import os
import re
import sys
import unicodedata
from unittest import mock

from fuzz_folders import form, hidden, names
from fuzz_rules import REFUSED, Target, Wrong, compared, is_clear
from hypothesis import strategies as st

# ---- files of names -----------------------------------------------------------------------------

words = st.one_of(
    st.sampled_from(["dog", "cat", "Dog", "a_b", "a b", "é", "e\u0301", "1", "2", "10", "x\x85y"]),
    st.sampled_from(["", " ", "#x", "{}", "a {} b", "{", "}{", "\u2028", "x\x0cy", "\x1c"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
line_ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])
encodings = st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])


def text_of(data):
    """Return the lines of a file as people mean them, None where it is not UTF-8."""
    if b"\0" in data[:200] or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return re.split(r"\r\n|\r|\n", text)


@st.composite
def name_files(draw):
    """Draw [bytes of a file of class names as latin-1, folders or None]."""
    folders = draw(st.one_of(st.none(), st.lists(words.filter(bool), max_size=4, unique=True)))
    lines = draw(st.lists(words, max_size=4))
    if folders and draw(st.booleans()):
        lines = [f"{f}\t{n}" for f, n in zip(draw(st.permutations(folders)), [*lines, *"wxyz"])]
    elif folders and draw(st.booleans()):
        lines = draw(st.permutations(folders))
    data = draw(line_ends).join(lines).encode(draw(encodings), "replace")
    return [data.decode("latin-1"), folders]


def readable(name):
    return form(name).replace("_", " ").strip()


def names_meant(data, folders):
    """Return the class names in a file in the order of the folders, or REFUSED."""
    lines = text_of(data)
    if lines is None:
        return REFUSED
    lines = [line for line in lines if line.strip()]
    tabs = ["\t" in line for line in lines]
    if any(tabs):
        pairs = [[part.strip() for part in line.split("\t", 1)] for line in lines if "\t" in line]
        found = {form(folder): name for folder, name in pairs}
        if not all(tabs) or folders is None or len(found) < len(pairs):
            return REFUSED
        if {form(f) for f in folders} != set(found):
            return REFUSED
        result = [found[form(f)] for f in folders]
    else:
        result = [line.strip() for line in lines]
        if folders and len(result) == len(folders):
            digits = [re.fullmatch(r"(\D*)(\d+)(\D*)", f) for f in folders]
            if all(digits) and len({m.group(1, 3) for m in digits}) == 1:
                numbers = [int(m[2]) for m in digits]
                if numbers != sorted(numbers):
                    return REFUSED
            at = {}
            for i, f in enumerate(folders):
                at[readable(f).casefold()] = i
            if any(at.get(readable(n).casefold(), i) != i for i, n in enumerate(result)):
                return REFUSED
    return REFUSED if len(set(result)) < len(result) else result


def check_names(value, folder):
    """A file of class names, as clip_class_names takes it."""
    from domainbed_carft.method.prompts import file_class_names

    data, folders = value[0].encode("latin-1"), value[1]
    path = os.path.join(folder, "names.txt")
    with open(path, "wb") as file:
        file.write(data)
    return compared(lambda: file_class_names(path, folders), names_meant(data, folders))


def check_contexts(value, folder):
    """A file of contexts, as clip_contexts takes it."""
    from domainbed_carft.method.prompts import load_contexts

    data = value[0].encode("latin-1")
    path = os.path.join(folder, "contexts.txt")
    with open(path, "wb") as file:
        file.write(data)
    lines, right = text_of(data), []
    for line in map(str.strip, lines or ()):
        if line and line[0] != "#":
            braces = re.findall(r"[{}]", line)
            if braces and not (braces == ["{", "}"] and "{}" in line):
                right = REFUSED
                break
            right.append(line if braces else f"a {line} of {{}}")
    if right is not REFUSED and (lines is None or len(right) < 2 or len({*right}) < len(right)):
        right = REFUSED
    return compared(lambda: load_contexts(path), right)


# ---- knobs --------------------------------------------------------------------------------------


def _number(low, high=math.inf, above=False, whole=False):
    def right(value):
        if type(value) not in ((int,) if whole else (int, float)):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        if abs(value) > sys.float_info.max:
            return False
        return (value > low if above else value >= low) and value < high

    return right


def _choice(*allowed):
    return lambda value: type(value) is str and value in allowed


def _six(value):
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        return False
    return len(numbers) == 6 and all(map(math.isfinite, numbers)) and min(numbers[3:]) > 0


PRECISION = _choice("auto", "fp32", "bf16", "fp16")
KNOBS = {  # what docs/knobs.md says of each, for CARFT
    "clip_backbone": lambda v: type(v) is str and v != "",
    "clip_input_norm": lambda v: (
        type(v) is str and (v in ("auto", "openai", "imagenet", "inception") or _six(v))
    ),
    "clip_activation": _choice("auto", "gelu", "quick_gelu"),
    "clip_dropout": lambda v: type(v) is bool,
    "clip_precision": PRECISION,
    "clip_frozen_precision": PRECISION,
    "clip_checkpoint": lambda v: type(v) is bool,
    "clip_accumulate": _number(1, whole=True),
    "clip_contexts": lambda v: type(v) is str and v != "",
    "clip_class_names": lambda v: type(v) is str,
    "clip_input": _choice("imagenet", "none"),
    "clip_transform": lambda v: (
        type(v) is str and re.fullmatch(r"host|clip(@[1-9][0-9]{0,3})?", v) is not None
    ),
    "clip_crop": lambda v: type(v) in (int, float) and 0 < v <= 1,
    "clip_flip": lambda v: type(v) is bool,
    "clip_cache": lambda v: type(v) is str,
    "clip_exif": lambda v: type(v) is bool,
    "clip_images": _choice("exact", "fast", "scaled"),
    "clip_steps": _number(0, whole=True),
    "clip_warmup": _number(0, 1),
    "clip_grad_clip": _number(0),
    "clip_train": _choice("full", "lora", "attention", "layernorm", "bias", "last_k"),
    "clip_last_k": _number(0, whole=True),
    "clip_lora_rank": _number(1, whole=True),
    "clip_lora_alpha": _number(0),
    "clip_lora_layers": _choice("attention", "mlp", "all"),
    "clip_train_head": lambda v: type(v) is bool,
    "clip_average": _choice("none", "ema", "beta", "swad"),
    "clip_ema_decay": _number(0, 1),
    "clip_beta": _number(0, above=True),
    "clip_swad_start": _number(0, 1),
    "lr": _number(0, above=True),
    "weight_decay": _number(0),
    "carft_lambda": _number(0),
    "carft_direction": _choice("forward", "reverse"),
    "carft_tau": _number(0),
    "carft_teacher": _choice("zero-shot", "ema", "beta"),
    "miro_lambda": _number(0),
    "lipsum_texts": _number(1, whole=True),
    "batch_size": _number(1, whole=True),
    "data_augmentation": lambda v: type(v) is bool,
}
values = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 0.5, 1.0, -0.0, 1e-300, 1e308, 10**400, -(10**400), 2**63, 1e-5]),
    st.sampled_from(
        ["auto", "host", "clip", "clip@224", "clip@0", "clip@٣", "clip\n", "", "False"]
    ),
    st.sampled_from(["none", "ema", "fp16", "forward", "imagenet", "0.5,0.5,0.5,0.5,0.5,0.5"]),
    st.sampled_from(["1,1,1,1,1,nan", "0.5,0.5,0.5,0.5,0.5,0", "1_0,1,1,1,1,1", "False", "1e-5"]),
    st.sampled_from([[], {}, [1], {"lr": 1}, [[]], ["auto"]]),
    st.integers(),
    st.floats(allow_nan=True),
    st.text(max_size=4),
)
knob_names = st.one_of(
    st.sampled_from(sorted(KNOBS)),
    st.sampled_from(["user_x", "user_", "carft_lamda", "LR", "lr ", "clip_lr", "", "é", "self"]),
    st.text(max_size=4),
)
RIGHT = {  # values at the ends of the ranges, and within
    "lr": [1, 1e-5, 1e-300, 1e308],
    "weight_decay": [0, 0.0, 10],
    "carft_lambda": [0, 1.5],
    "clip_warmup": [0, 0.999],
    "clip_beta": [0.1, 0.999, 2],
    "batch_size": [1, 32],
    "clip_steps": [0, 10**9],
    "clip_exif": [True, False],
    "clip_transform": ["host", "clip", "clip@1", "clip@9999"],
    "clip_input_norm": ["auto", "0,0,0,1,1,1", " 1 ,1,1,1e-3,1,1", "-1,-1,-1,.5,.5,.5"],
    "carft_direction": ["forward", "reverse"],
    "data_augmentation": [True, False],
    "user_x": [None, [], {}, "x", 1],
}
SPOILED = ["", "{", "[]", "null", "1", '"lr"', "{'lr': 1}", "{lr: 1}", '{"lr": 1,}', "[" * 5000]
SPOILED += ['{"lr": ' + "9" * 5000 + "}", "{}{}", "NaN", '{"lr": 1e-5', "\ufeff{}", "lr=1e-5"]


@st.composite
def knob_texts(draw):
    """Draw the text of --hparams."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.one_of(st.sampled_from(SPOILED), st.text(max_size=12)))
    known = st.sampled_from(sorted(RIGHT)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(RIGHT[name]))
    )
    some = draw(st.sampled_from([known, known | st.tuples(knob_names, values)]))
    pairs = draw(st.lists(some, max_size=3))
    return "{" + ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in pairs) + "}"


def knobs_meant(text):
    try:
        pairs = json.loads(text or "{}", object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError):
        return REFUSED
    if not isinstance(pairs, list) or (text or "{}").lstrip()[:1] != "{":
        return REFUSED
    found = json.loads(text or "{}")
    if len(found) < len(pairs):
        return REFUSED  # a knob twice
    for name, value in found.items():
        if name in KNOBS:
            if not KNOBS[name](value):
                return REFUSED
        elif not name.startswith("user_"):
            return REFUSED
    return found


def check_knobs(text, folder):
    """--hparams, as the train and sweep commands check it for CARFT."""
    from domainbed import hparams_registry

    from domainbed_carft.algorithms import methods
    from domainbed_carft.contract import host_flags
    from domainbed_carft.method.knobs import check_types

    def call():
        host_flags.check_hparams({"hparams": text})
        given = json.loads(text or "{}")
        defaults = hparams_registry.default_hparams("CARFT", "PACS")
        methods.check("CARFT", {**defaults, **given}, {*defaults}, list(given))
        check_types({k: v for k, v in given.items() if k not in methods.rules()}, defaults)
        return given

    return compared(call, knobs_meant(text))


# ---- records ------------------------------------------------------------------------------------

ARGS = {"trial_seed": 0, "dataset": "PACS", "algorithm": "ERM", "test_envs": [0], "hparams_seed": 0}
rubbish = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0.5, 1.5, "0", "", [], [0, 0], [-1], [True], {}, 10**400, math.nan]),
    st.sampled_from([math.inf, 1e-9, [0, 1], "\ud800", "a\nb", "\x85", "é", "x" * 50, 7, 1]),
)


@st.composite
def record_lines(draw):
    """Draw the bytes of a line, as latin-1: whole, or with one thing wrong, or damaged."""
    step = draw(st.integers(0, 4))
    record = {"step": step * 5, "env0_in_acc": 0.5, "env0_out_acc": step / 4, "loss": 1.5}
    record |= {"args": dict(ARGS), "hparams": {"lr": 1e-5}}
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        key = draw(st.sampled_from([*record, "env1_in_acc", "env٣_in_acc", "env1_uda_acc"]))
        value = draw(rubbish)
        if key == "args" and isinstance(record.get("args"), dict) and draw(st.booleans()):
            record["args"][draw(st.sampled_from([*ARGS, "seed", "steps"]))] = value
        elif draw(st.booleans()):
            record.pop(key, None)
        else:
            record[key] = value
    text = json.dumps(record)
    if draw(st.integers(0, 5)) == 0:
        text = text[:-1] + f', "{draw(st.sampled_from(sorted(record)))}": 0.25}}'  # a key twice
    data = text.encode()
    damage = draw(st.integers(0, 12))
    at = draw(st.integers(0, len(data)))
    if damage == 0:
        data = data[:at]
    elif damage == 1:
        data = data[:at] + draw(st.binary(min_size=1, max_size=3)) + data[at:]
    elif damage == 2:
        data = data + data
    elif damage == 3:
        data = b"[" * 5000
    elif damage == 4:
        data = draw(st.binary(max_size=8))
    return data.decode("latin-1")


record_files = st.tuples(st.lists(record_lines(), max_size=5), st.booleans()).map(list)


def _count(value):
    return type(value) is int and value >= 0


def _is_name(text):
    odd = ("Cc", "Cs", "Zl", "Zp")  # controls, halves of characters, ends of lines
    return isinstance(text, str) and not any(unicodedata.category(c) in odd for c in text)


def meant(line):
    """Return the record in a line, or None where it is none."""
    twice = []

    def once(pairs):
        twice.extend([1] * (len(dict(pairs)) < len(pairs)))
        return dict(pairs)

    try:
        record = json.loads(line.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None
    args = record.get("args") if isinstance(record, dict) else None
    if twice or not isinstance(args, dict) or not set(ARGS) <= set(args):
        return None
    envs = args["test_envs"]
    right = _is_name(args["dataset"]) and _is_name(args["algorithm"])
    right &= all(map(_count, (record.get("step"), args["trial_seed"], args["hparams_seed"])))
    right &= isinstance(envs, list) and bool(envs) and all(map(_count, envs))
    right = right and len(set(envs)) == len(envs) and isinstance(record.get("hparams", {}), dict)
    for key, value in record.items():
        if re.fullmatch(r"env[0-9]{1,3}_(in|out|uda)_acc", key):
            right &= type(value) in (int, float) and 0 <= value <= 1
    return record if right else None


def _bytes_of(value):
    lines, ended = value
    data = "\n".join(lines) + ("\n" if ended and lines else "")
    return data.encode("latin-1")


def same(one, other):
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)  # NaN is NaN


def check_records(value, folder):
    """results.jsonl: each line is the record that it holds, or is named with its fault."""
    from domainbed_carft.contract import record_line

    data = _bytes_of(value)
    path = os.path.join(folder, "results.jsonl")
    with open(path, "wb") as file:
        file.write(data)
    lines = list(io.BytesIO(data))
    right = [(i, meant(line)) for i, line in enumerate(lines, 1)]

    def differ(got, right):
        records, faults = got
        if [i for i, r in right if r is not None] != [i for i, _ in records]:
            return "other lines count"
        if [i for i, r in right if r is None] != [i for i, _ in faults]:
            return "other lines are at fault"
        if not all(is_clear(what) for _, what in faults):
            return "no clear line"
        return not same([r for _, r in right if r is not None], [r for _, r in records])

    compared(lambda: record_line.read(path), right, differ)
    return "refused" if any(r is None for _, r in right) else "read"


sweeps = st.lists(
    st.tuples(record_files, st.sampled_from(["", "done", "err", "lock", "folder"])).map(list),
    max_size=3,
)


def check_sweep(value, folder):
    """A folder of runs: their records by step, and a state for each."""
    from domainbed_carft.records import soundness, state

    right = {}
    for i, (content, extra) in enumerate(value):
        run = os.path.join(folder, f"run{i}")
        os.makedirs(run)
        if extra == "folder":
            os.makedirs(os.path.join(run, "results.jsonl"))
            right[f"run{i}"] = []
            continue
        data = _bytes_of(content)
        with open(os.path.join(run, "results.jsonl"), "wb") as file:
            file.write(data)
        if extra:
            with open(os.path.join(run, {"err": "err.txt"}.get(extra, extra)), "w") as file:
                file.write("Traceback (most recent call last):\nKeyError: 'x'\n")
        first = {}
        for record in filter(None, map(meant, io.BytesIO(data))):
            first.setdefault(record["step"], record)
        right[f"run{i}"] = [first[step] for step in sorted(first)]

    def call():
        sweep = soundness.read(folder)
        texts = [str(state.status(job)) for job in sweep.jobs]
        texts += [str(problem) for problem in sweep.problems]
        if not all(map(is_clear, texts)):
            raise Wrong(f"no clear line | {texts}")
        return {job.folder: job.records for job in sweep.jobs}

    return compared(call, right, lambda got, right: not same(got, right))


# ---- command lines and variables ----------------------------------------------------------------

asked = st.lists(st.one_of(st.integers(-1, 4), names), max_size=3)
domains = st.lists(st.lists(names, min_size=1, max_size=2), max_size=4)


@st.composite
def domain_words(draw):
    """Draw [what --test_envs got, the names of each domain]."""
    its = draw(domains)
    known = [name for found in its for name in found] or ["a"]
    near = st.sampled_from(known).flatmap(
        lambda n: st.sampled_from([n, n.upper(), n.lower(), form(n)])
    )
    return [draw(st.lists(st.one_of(st.integers(0, 3), near, names), max_size=3)), its]


def check_words(value, folder):
    """--test_envs: names of domains as numbers."""
    from domainbed_carft.commands.domain_names import numbered

    words, its = value
    right = []
    for word in words:
        if isinstance(word, int):
            right.append(word)
            continue
        key = form(word).lower()
        at = [i for i, own in enumerate(its) if key in [form(n).lower() for n in own]]
        if len(at) != 1:
            right = REFUSED
            break
        right += at
    if right is not REFUSED and len(set(right)) < len(right):
        right = REFUSED
    return compared(lambda: numbered(words, its), right)


def check_domain(value, folder):
    """--test_envs NAME of a user's own folder: the number that the data set gives the domain."""
    from domainbed import datasets

    from domainbed_carft.commands.domain_names import domains_of, numbered
    from domainbed_carft.data import user_folders

    folders, i, own = value
    for name in folders:
        os.makedirs(os.path.join(folder, "Fuzzed", name, "c"), exist_ok=True)
        with open(os.path.join(folder, "Fuzzed", name, "c", "x.png"), "wb") as file:
            file.write(b"not looked at")
    shown = sorted(name for name in folders if not hidden(name))
    if len(shown) < 2:
        return "refused"
    word = shown[i % len(shown)]
    forms = [form(name).lower() for name in shown]
    twice = forms.count(form(word).lower()) > 1
    cls = user_folders.data_set("Fuzzed", os.path.join(folder, "Fuzzed"))
    if not own:  # the host's own kind of data set, below --data_dir
        base = datasets.MultipleEnvironmentImageFolder

        class cls(base):
            def __init__(self, root, test_envs, hparams):
                super().__init__(os.path.join(root, "Fuzzed"), test_envs, False, hparams)

    given = {"dataset": "Fuzzed", "data_dir": folder, "algorithm": "CARFT"}
    with mock.patch.object(datasets, "Fuzzed", cls, create=True):
        return compared(
            lambda: numbered([word], domains_of(given)),
            REFUSED if twice else [shown.index(word)],
        )


VARIABLES = {
    "DOMAINBED_CARFT_N_WORKERS": lambda v: re.fullmatch(r"[0-9]{1,9}", v),
    "DOMAINBED_CARFT_JOBS": lambda v: re.fullmatch(r"(?=.{1,9}$)0*[1-9][0-9]*", v),
    "DOMAINBED_CARFT_HOST": lambda v: v == "embedded",
    "DOMAINBED_CARFT_AUTOLOAD": lambda v: v in "01",
}
variables = st.tuples(
    st.sampled_from(sorted(VARIABLES)),
    st.one_of(
        st.sampled_from(["", "0", "1", "4", "-1", "１", "²", "1.0", " 1", "9" * 5000, "embedded"]),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4),
    ),
).map(list)


def check_variable(value, folder):
    """Environment variables."""
    from domainbed_carft.base import environment

    name, text = value
    right = None if not text or VARIABLES[name](text) else REFUSED
    with mock.patch.dict(os.environ, {name: text}):
        return compared(environment.check, right)


TARGETS = [
    Target("files of class names", name_files(), check_names),
    Target("files of contexts", name_files(), check_contexts),
    Target("--hparams", knob_texts(), check_knobs),
    Target("lines of results.jsonl", record_files, check_records),
    Target("folders of runs", sweeps, check_sweep),
    Target("--test_envs by name", domain_words(), check_words),
    Target(
        "--test_envs of a folder",
        st.tuples(st.lists(names, max_size=4, unique=True), st.integers(0, 3), st.booleans()).map(
            list
        ),
        check_domain,
    ),
    Target("environment variables", variables, check_variable),
]
