"""Faults of files: damaged states, records, caches and weights; reports that are cut short.

As run_faults: each function of a scene raises Harm where what must hold does not.
"""

import errno
import functools
import shutil
import signal
from pathlib import Path

import injection
from scenes import Process, must, says

from domainbed_carft.records import packed, soundness


def damage(path, how, draw):
    """Damage a file.

    Args:
        how: "empty", "half", "cut" (its last bytes are missing), "flipped" (one bit), "text" (other
            content), or "lost".
    """
    content = path.read_bytes()
    if how == "lost":
        path.unlink()
    elif how == "flipped":
        content = bytearray(content)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
    else:
        new = {"empty": b"", "half": content[: len(content) // 2], "cut": content[:-7]}
        path.write_bytes(new.get(how, b"it was another file\n"))


def cut_short(scene, program):
    """Let a run be killed after its second record, before its end."""
    end = [i for i, call in enumerate(program.calls) if call == ("replace", "results.jsonl")][1]
    code = scene.start(program, act=injection.kill(end, "after")).ended().code
    must(code == -signal.SIGKILL and len(scene.lasting()) == 2, "the run was not cut short")


def state_damaged(scene, how, draw, records=None):
    """The state of a cut run is damaged, and perhaps its records: it starts over."""
    toy = scene.world.programs["toy"]
    cut_short(scene, toy)
    damage(scene.run / "checkpoint.pt", how, draw)
    if records:
        damage(scene.run / "results.jsonl", records, draw)
    before = (scene.run / "results.jsonl").read_bytes()
    outcome = scene.resumed(toy)
    scene.check_whole(toy)
    if "Resuming" in outcome.out:
        must(how == "flipped", "it resumed from a damaged state")
        return
    must("The run cannot be resumed: its records were moved" in outcome.err, "it says nothing")
    must(
        how == "lost" or "the run starts over" in outcome.err, "it does not say that it starts over"
    )
    must((scene.run / "results.jsonl.old").read_bytes() == before, "the old records are lost")


def records_damaged(scene, how, draw):
    """The records of a cut run are damaged: they are in its state, too."""
    toy = scene.world.programs["toy"]
    cut_short(scene, toy)
    damage(scene.run / "results.jsonl", how, draw)
    must("Resuming" in scene.resumed(toy).out, "it did not resume")
    scene.check_whole(toy)


def finished_damaged(scene, how, draw):
    """The records of a finished run are damaged: it does not count, and the command says so."""
    toy = scene.world.programs["toy"]
    shutil.copytree(toy.finished, scene.run)
    damage(scene.run / "results.jsonl", how, draw)
    must(not soundness.read(str(scene.sweep)).sound, "a damaged run counts in tables")
    outcome = scene.start(toy).ended()
    says(outcome, "marked done, but", "remove .*run to run it again", code=2)
    shutil.rmtree(scene.run)
    scene.resumed(toy)
    scene.check_whole(toy)


def other_file_damaged(scene, name, how, draw):
    """A file of a cut run that does not carry its numbers is damaged: it goes on."""
    toy = scene.world.programs["toy"]
    cut_short(scene, toy)
    damage(scene.run / name, how, draw)
    scene.check_cut_short(toy, said=name != "lock")
    must("Resuming" in scene.resumed(toy).out, "it did not resume")
    scene.check_whole(toy)


def cache_damaged(scene, folder, how, draw):
    """A file of a cache is damaged after a run: the next one makes it anew."""
    clip = scene.world.programs["clip"]
    cut_short(scene, clip)
    endings = ("*.pt", "*.npy")
    (file, *_) = sorted(path for end in endings for path in (scene.folder / folder).glob(end))
    good = file.read_bytes()
    damage(file, how, draw)
    shutil.rmtree(scene.sweep)
    outcome = scene.resumed(clip)
    scene.check_whole(clip)
    if file.read_bytes() != good:
        must(how == "flipped", "the cache stays damaged")
        return
    must(file.name in outcome.err, "it does not say which file")
    must("damaged" in outcome.err or "cannot be read" in outcome.err, "it does not say what")


def weights_damaged(scene, how, draw):
    """The file of CLIP's weights is damaged: it is named."""
    clip = scene.world.programs["clip"]
    file = scene.folder / "weights.pt"
    shutil.copy(scene.world.clip, file)
    damage(file, how, draw)
    knobs = {**clip.flags["hparams"], "clip_backbone": str(file)}
    outcome = scene.start(clip, flags={"hparams": knobs}).ended()
    if how == "flipped" and outcome.code == 0:  # a bit that no checksum covers and nothing reads
        found = [r["loss"] for r in scene.lasting()]
        must(found == [r["loss"] for r in clip.records], "other numbers from damaged weights")
        return
    says(outcome, str(file), "damaged|not a file of weights|No weights file", code=2)
    must(not scene.lasting(), "there are records")


def model_damaged(scene, how, draw):
    """The model of a finished run is damaged: the command that opens it names it."""
    clip = scene.world.programs["clip"]
    shutil.copytree(clip.finished, scene.run)
    damage(scene.run / "model.pkl", how, draw)
    pictures = scene.world.folder / "data" / "PACS" / "photo"
    outcome = scene.call("predict", str(pictures), "--run", str(scene.run)).ended()
    says(outcome, str(scene.run / "model.pkl"), "damaged|not a")


def npz_damaged(scene, how, draw):
    """The pictures of DigitStyles are damaged, as by an installation that was cut short."""
    from domainbed_carft.data import shipped

    toy = scene.world.programs["toy"]
    shutil.copy(shipped.ASSETS / "digitstyles.npz", scene.folder)
    damage(scene.folder / "digitstyles.npz", how, draw)

    def prepare():
        shipped.ASSETS = Path(scene.folder)

    outcome = scene.start(toy, flags={"dataset": "DigitStyles"}, prepare=prepare).ended()
    says(outcome, "digitstyles.npz", "damaged|cannot be read|No such file", code=2)
    must(not scene.lasting(), "there are records")


def report_cut(scene, fault, draw):
    """A report is killed while it writes, or the disk is full; then again."""
    shutil.copytree(scene.world.programs["clip"].finished, scene.run)
    output = scene.folder / "report"
    words = ["report", "--input_dir", str(scene.sweep), "--output_dir", str(output)]
    act = injection.kill(fault, "half")
    if draw.random() < 0.5:
        act = injection.fail(fault, errno.ENOSPC, ("write",))
    outcome = scene.call(*words, act=act).ended()
    if outcome.code > 0:
        says(outcome, "No space left on device", "cannot be written")
    page = output / "report.html"
    must(not page.exists() or "</html>" in page.read_text()[-20:], "half a page is left")
    for picture in output.rglob("*.png"):
        must(picture.read_bytes()[-8:-4] == b"IEND", f"half a picture is left: {picture.name}")
    must(scene.call(*words).ended().code == 0, "the second report fails")
    must("</html>" in page.read_text()[-20:], "no page")
    must(soundness.read(str(scene.sweep)).sound, "the run is gone")


def pack_cut(scene, number, act):
    """Packing of a sweep's records is killed, or the disk is full: the old file stays whole."""
    toy = scene.world.programs["toy"]
    shutil.copytree(toy.finished, scene.run)
    file = scene.folder / "packed.jsonl"
    packed.pack(str(scene.sweep), file)
    before = file.read_bytes()
    outcome = Process(scene, lambda: packed.pack(str(scene.sweep), file), act=act).ended()
    must(outcome.code, "the fault did not come")
    must(file.read_bytes() == before, "the packed file has changed")
    packed.pack(str(scene.sweep), file)
    must(file.read_bytes() == before, "packed again, it differs")
    packed.unpack(file, scene.folder / "unpacked")
    text = (scene.folder / "unpacked" / "run" / "results.jsonl").read_bytes()
    must(text == (scene.run / "results.jsonl").read_bytes(), "unpacked records differ")


def rows(world, draw):
    """Yield (row, fault) of all faults of files."""
    part = functools.partial
    for how in ("empty", "half", "cut", "flipped", "flipped", "flipped", "flipped", "text", "lost"):
        yield "damaged checkpoint", part(state_damaged, how=how, draw=draw)
    for how in ("empty", "half", "text"):
        yield (
            "damaged checkpoint and records",
            part(state_damaged, how=how, draw=draw, records=draw.choice(["empty", "half", "text"])),
        )
    for how in ("empty", "half", "cut", "text", "lost"):
        yield "damaged records", part(records_damaged, how=how, draw=draw)
        yield "damaged records of a finished run", part(finished_damaged, how=how, draw=draw)
    for name in ("lock", "provenance.json", "out.txt"):
        for how in ("empty", "text", "lost"):
            yield (
                "other damaged files of a run",
                part(other_file_damaged, name=name, how=how, draw=draw),
            )
    for folder in ("prompts", "images"):
        for how in ("empty", "half", "cut", "text"):
            yield (
                f"damaged cache of {folder}",
                part(cache_damaged, folder=folder, how=how, draw=draw),
            )
    yield (
        "damaged cache of prompts",
        part(cache_damaged, folder="prompts", how="flipped", draw=draw),
    )
    for how in ("empty", "half", "cut", "flipped", "text", "lost"):
        yield "damaged weights", part(weights_damaged, how=how, draw=draw)
    for how in ("empty", "half", "cut", "text"):
        yield "damaged model", part(model_damaged, how=how, draw=draw)
    for how in ("empty", "half", "cut", "flipped"):
        yield "half-written npz", part(npz_damaged, how=how, draw=draw)
    for _ in range(4):
        yield "report cut short", part(report_cut, fault=draw.randrange(3, 60), draw=draw)
    for number, when in ((0, "after"), (1, "half"), (1, "after"), (2, "before")):
        yield "packing cut short", part(pack_cut, number=number, act=injection.kill(number, when))
    act = injection.fail(1, errno.ENOSPC, ("write",))
    yield "packing cut short", part(pack_cut, number=1, act=act)
