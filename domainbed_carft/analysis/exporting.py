"""A run written down for others: its CLIP, its head, its classes and a model card."""

import contextlib
import copy
import json
import os
import shutil
import warnings
from pathlib import Path

import jinja2
import torch
import torch.nn.functional as F

from .. import __version__
from ..base.assets import ASSETS
from ..base.messages import unknown
from ..contract import provenance, record_line, selection
from ..contract.run_files import RECORDS
from ..data.transforms import of_knobs, parse
from ..method.prompts import class_prompt_names
from ..models import backbone_names, backbones, graphs, hf_writer, writers
from . import saved_run, zero_shot

CARD = ASSETS / "export_card.md.j2"
AS_BACKBONE = {"hf": "", "open_clip": "", "openai": "model.pt"}  # what clip_backbone takes of it
FORMS = (*AS_BACKBONE, "onnx", "torchscript")
WRITERS = {
    "hf": hf_writer.to_hf,
    "open_clip": writers.to_open_clip,
    "openai": writers.to_openai,
    "onnx": graphs.to_onnx,
    "torchscript": graphs.to_torchscript,
}
TOLERANCE = 1e-4  # of features of length 1, when the files are opened again


def export(run, to, folder):
    """Write a run's CLIP, head, classes and model card into a new folder; return its path.

    The image encoder is the fine-tuned one, with the weights that `run` predicts with: α and
    averages are in them. The text tower is its own backbone's, or the run's where it trained one.
    Weights in a form that clip_backbone takes are opened again and compared before they stay.

    Args:
        run: of open_run.
        to: one of FORMS.
        folder: to be made; may be there if it is empty.

    Raises:
        ImportError: a package that the form needs.
        OSError: it cannot be written.
        ValueError: another form, a folder with something in it, a model that the form cannot hold.
    """
    if to not in FORMS:
        raise ValueError(unknown("form", to, FORMS))
    target = Path(folder).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is there already: give a new folder, or an empty one")
    backbone = backbones.load(*backbone_names.of_knobs(run.hparams))
    name = run.hparams["clip_backbone"]
    try:
        templates, lacking = zero_shot.templates(run.path, run.args, run.hparams), ""
        start = zero_shot.head(backbone, templates, run.class_names)
    except ValueError as error:  # the run itself is whole without them
        templates, start, lacking = None, None, str(error)
        warnings.warn(f"The zero-shot head is left out of head.pt: {lacking}", stacklevel=2)
    tensors = {k: v.cpu() for k, v in run.algorithm.state_dict().items()}
    backbones.take_run(backbone, tensors, run.path, name)
    with new_folder(target) as part:
        try:
            _write(run, to, part, backbone, name, tensors["head.weight"])
        except writers.Impossible as error:
            others = ", ".join(form for form in FORMS if form != to)
            raise ValueError(
                f"{name} cannot be written as {to}: {error}. Of {others}, onnx and torchscript "
                "take every model"
            ) from error
        heads = {"head": tensors["head.weight"]}
        if start is not None:
            heads["zero_shot_head"] = start
        torch.save(heads, part / "head.pt")
        names = list(class_prompt_names(run.class_names))
        said = {"class_names": list(run.class_names), "prompt_names": names}
        said |= {"templates": templates, "temperature": run.temperature}
        text = json.dumps(said, indent=2, ensure_ascii=False)
        (part / "classes.json").write_text(text + "\n", encoding="utf-8")
        card = _card(run, to, backbone, templates, lacking)
        (part / "README.md").write_text(card, encoding="utf-8")
    return str(target)


def _write(run, to, part, backbone, name, head):
    if to not in AS_BACKBONE:
        image = graphs.Classifier(copy.deepcopy(backbone.visual).cpu(), head).eval()
        tokens = torch.as_tensor(backbone.tokenize([run.class_names[0], run.class_names[-1]]))
        with torch.no_grad():
            text = graphs.text_module(backbone)
            WRITERS[to](str(part), image, text, backbone.resolution, tokens.cpu())
        return
    resizing, _ = _resizing(run.hparams, run.prepared_size, backbone)
    WRITERS[to](str(part), backbone, backbone_names.model_cfg(name), resizing)
    _check(part / AS_BACKBONE[to], backbone)


@torch.no_grad()
def _check(path, backbone):
    """Open what was written, and compare what it computes with what it should.

    Raises:
        writers.Impossible: it computes something else.
    """
    try:
        found = backbones.load(str(path))
    except ValueError as error:
        raise writers.Impossible(f"what was written does not open ({error})") from error
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, backbone.resolution, backbone.resolution, generator=generator)
    tokens = torch.as_tensor(backbone.tokenize(["a photo of a dog", "it’s"]))
    pairs = [
        [F.normalize(one.visual(x), dim=-1) for one in (backbone, found)],
        [F.normalize(one.text.encode_text(tokens), dim=-1) for one in (backbone, found)],
    ]
    same = torch.equal(torch.as_tensor(found.tokenize(["a photo of a dog", "it’s"])), tokens)
    same &= (found.mean, found.std) == (tuple(backbone.mean), tuple(backbone.std))
    same &= all((one - again).abs().max().item() <= TOLERANCE for one, again in pairs)
    if not same:
        raise writers.Impossible("what was written computes something else when it is opened")


@contextlib.contextmanager
def new_folder(target):
    """Make a folder that takes its name when all in it is written.

    Raises:
        OSError: it cannot be made.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise OSError(f"The folder {target} cannot be made ({error.strerror})") from error
    try:
        yield part
        if target.is_dir():
            target.rmdir()  # empty
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _resizing(hparams, size, backbone):
    """Return ((interpolation, mode), whether one resizing is all that the run's images had)."""
    kind, resizing = of_knobs(hparams)
    if parse(kind)[0] == "host":
        resizing = ("bilinear", "squash")  # as DomainBed does
    return resizing, tuple(size) == (backbone.resolution,) * 2


def _card(run, to, backbone, templates, lacking):
    folder = os.path.dirname(run.path) or "."
    origin = provenance.read(folder)
    records, record = _records(run.path)
    resizing, exact = _resizing(run.hparams, run.prepared_size, backbone)
    with open(CARD, encoding="utf-8") as file:
        template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(file.read())
    return template.render(
        run=run,
        args=run.args,
        to=to,
        backbone=backbone,
        templates=templates,
        lacking=lacking,
        origin=origin,
        domains=_domains(run.args, origin, record),
        chosen=_chosen(records, record),
        step=record.get("step"),
        resizing=resizing,
        exact=exact,
        size=run.prepared_size,
        version=__version__,
        knobs=sorted((run.soup["hparams"] if run.soup else run.hparams).items()),
    )


def _records(path):
    """Return (records of a model's run, that of the step that the model is of, or {})."""
    try:
        read, faults = record_line.read(Path(path).parent / RECORDS)
    except OSError:
        return [], {}
    found = [record for _, record in read]
    step = saved_run.STEP.fullmatch(os.path.basename(path))
    if step is None and faults:  # model.pkl is of the last step, whose record may be damaged
        return found, {}
    own = [record for record in found if step is None or record["step"] == int(step[1])]
    return found, own[-1] if own else {}


def _domains(args, origin, record):
    """Return [{name, trained, images, in, out}] of a record; accuracies in per cent."""
    names = origin.get("domains")
    numbers = (int(key[3:].split("_")[0]) for key in record_line.accuracies_of(record))
    count = 1 + max(numbers, default=-1)
    rows = []
    for i in range(len(names) if names else count):
        images = (origin.get("images") or {}) and origin["images"][i]
        held = int(images * args.get("holdout_fraction", 0.2)) if images else None
        row = {"name": names[i] if names else f"environment {i}", "images": images}
        row["trained"] = i not in args["test_envs"]
        for split, n in (("in", images and images - held), ("out", held)):
            share = record.get(f"env{i}_{split}_acc")
            text = "not recorded" if share is None else f"{100 * share:.1f} %"
            row[split] = text + (f" (n = {n:,})" if share is not None and n else "")
        rows.append(row)
    return rows


def _chosen(records, record):
    """Return what training-domain validation says of a record, and which step it chooses; or None.

    Of a run with several test environments it says nothing.
    """
    rule = selection.IIDAccuracySelectionMethod
    best = rule.run_acc(records)
    here = rule.run_acc([record]) if record else None
    if best is None or here is None:
        return None
    step = next(r["step"] for r in records if rule.run_acc([r]) == best)
    return {"here": here, "step": step, "best": best}
