"""cli.py: one command, in groups, light; and the old ways to start what it has."""

import os
import resource
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from conftest import make_image_folder
from synthetic_sweep import make_sweep

import domainbed_carft
from domainbed_carft import cli
from domainbed_carft.base import messages
from domainbed_carft.commands import flags

ROOT = Path(domainbed_carft.__file__).parents[1]
NAMES = [name for name, *_ in cli.COMMANDS]
HEAVY = "torch", "pandas", "numpy", "matplotlib", "tqdm"
WATCH = f"""
import runpy, sys
sys.argv[1:] = WORDS
try:
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
finally:
    print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""


def start(*words, module="domainbed_carft", watch=False, **variables):
    program = WATCH.replace("WORDS", repr(list(words))).replace("MODULE", repr(module))
    return subprocess.run(
        [sys.executable, *(["-c", program] if watch else ["-m", module, *words])],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_list_has_every_command_and_older_ones_their_old_start():
    text = cli.overview()
    assert all(f"\n{group}:\n" in text for group in cli.GROUPS)
    lines = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert sorted(lines) == sorted(NAMES) and len(set(NAMES)) == len(NAMES)
    package = ROOT / "domainbed_carft"
    runnable = {f.stem for f in package.glob("*.py") if f'    run("{f.stem}")\n' in f.read_text()}
    # `predict` is the name of a public function of the package, too; the others are newer
    assert runnable == set(NAMES) - {"predict", "export", "soup"}
    assert all((package / "commands" / f"{name}.py").is_file() for name in NAMES)


def test_the_console_script_is_there():
    setup = (ROOT / "setup.py").read_text().replace("{PACKAGE}", "domainbed_carft")
    place = setup.split('"carft = ')[1].split('"')[0]
    assert EntryPoint("carft", place, "console_scripts").load() is cli.main


def test_help_is_light():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = start("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and done.stdout.startswith("usage: python -m domainbed_carft ")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_help_and_wrong_flags_of_every_command_import_nothing_heavy(name):
    helped = start(name, "--help", watch=True)
    assert helped.returncode == 0 and helped.stdout.rstrip().endswith("heavy: []")
    wrong = start(name, "--no_such_flag", watch=True)
    assert wrong.returncode == 2 and wrong.stdout.strip() == "heavy: []"
    assert "error: " in wrong.stderr and "Traceback" not in wrong.stderr


@pytest.mark.parametrize("name", ["collect_results", "leaderboard", "doctor", "report"])
def test_tables_of_the_embedded_host_do_not_import_torch(name, tmp_path):
    make_sweep(tmp_path / "sweep", trials=1)
    make_image_folder(tmp_path / "Fish", domains=("a", "b"))
    hosts = {"DOMAINBED_CARFT_HOST": "embedded", "DOMAINBED_CARFT_DATASETS": str(tmp_path / "Fish")}
    done = start(name, "--input_dir", str(tmp_path / "sweep"), watch=True, **hosts)
    assert done.returncode == 0, done.stderr
    assert "12 runs" in done.stdout or "PACS" in done.stdout, done.stderr
    heavy = done.stdout.splitlines()[-1]
    assert heavy.startswith("heavy: [") and "torch" not in heavy


def test_a_user_s_methods_are_in_the_tables(tmp_path):
    """They are added where the host's algorithms are imported, which needs torch."""
    make_sweep(tmp_path / "sweep", algorithms=("Mine",), trials=1)
    (tmp_path / "mine.py").write_text(
        "from domainbed_carft import CARFT, add_method\nclass Mine(CARFT): pass\nadd_method(Mine)\n"
    )
    hosts = {
        "DOMAINBED_CARFT_HOST": "embedded",
        "DOMAINBED_CARFT_METHODS": str(tmp_path / "mine.py"),
    }
    done = start("collect_results", "--input_dir", str(tmp_path / "sweep"), watch=True, **hosts)
    assert "Mine" in done.stdout and "torch" in done.stdout.splitlines()[-1], done.stderr


@pytest.mark.parametrize(
    "words, module, usage",
    [
        (["report", "-h"], "domainbed_carft", "usage: python -m domainbed_carft report "),
        (["-h"], "domainbed_carft.report", "usage: python -m domainbed_carft.report "),
        (["-h"], "domainbed_carft.train", "usage: python -m domainbed_carft.train "),
    ],
)
def test_usage_can_be_typed(words, module, usage):
    assert start(*words, module=module).stdout.startswith(usage)


def test_usage_of_the_console_script(monkeypatch):
    monkeypatch.setattr(messages, "STARTED", "")
    assert flags.parser("report", "``carft report``: tables.").format_usage() == (
        "usage: carft report [-h]\n"
    )


def test_an_unknown_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["collect-result"])
    assert stop.value.code == 2
    assert "did you mean collect_results?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (["stauts", "DIR"], "Unknown sweep command 'stauts': did you mean status?"),
        (["lanch", "--datasets", "PACS"], "Unknown sweep command 'lanch': did you mean launch"),
        ([], "say what to do: launch, delete_incomplete, status, resume, cancel"),
    ],
)
def test_an_unknown_sweep_command(words, said, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["carft"])
    with pytest.raises(SystemExit) as stop:
        cli.main(["sweep", *words])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"carft sweep: error: {said}") and "cancel" in line


MISSING = {
    **dict.fromkeys(("report", "leaderboard", "probe", "wise_ft", "doctor"), "--input_dir"),
    **dict.fromkeys(("predict", "export", "evaluate"), "--run"),
}


@pytest.mark.parametrize("name, flag", MISSING.items())
def test_a_folder_that_is_not_there(name, flag, tmp_path, capsys):
    (tmp_path / "sweep_a").mkdir()
    with pytest.raises(SystemExit) as stop:
        cli.main([name, flag, str(tmp_path / "sweep_b")])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    what, then = ("folder", " Give the folder") if flag == "--input_dir" else ("file or folder", "")
    assert f"no {what} {tmp_path}/sweep_b: did you mean sweep_a?{then}" in said


@pytest.mark.parametrize("kind", ["folder", "file_or_folder", "runs_folder", "records"])
def test_a_tilde_stands_for_the_home_folder(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sweep").mkdir()
    assert getattr(flags, kind)("~/sweep") == str(tmp_path / "sweep")


def test_collect_results_of_a_folder_that_is_not_there():
    done = start("collect_results", "--input_dir", "nowhere", watch=True)
    assert done.returncode == 2 and done.stdout.strip() == "heavy: []"
    assert "no folder nowhere. Give the folder that contains the run folders" in done.stderr


@pytest.mark.parametrize(
    "path, said",
    [("no/such/x", "no folder no/such/x: "), (__file__, "is a file, not a folder")],
)
def test_what_is_no_folder(path, said):
    assert said in messages.no_folder(path)


def test_a_wrong_variable_ends_every_command_with_one_line():
    done = start("leaderboard", watch=True, DOMAINBED_CARFT_N_WORKERS="abc")
    assert done.returncode == 2 and done.stdout.strip() == "heavy: []"
    assert done.stderr.splitlines() == [
        "python -m domainbed_carft leaderboard: error: DOMAINBED_CARFT_N_WORKERS must be a whole "
        "number >= 0, or unset: got 'abc'"
    ]


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    from domainbed_carft.commands import doctor

    monkeypatch.setattr(doctor, "main", interrupted)
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "\ncarft doctor: stopped by Ctrl-C\n"


@pytest.mark.parametrize(
    "words, module, unbuffered, code",
    [
        (["--help"], "domainbed_carft", "", 0),  # breaks when all is done
        (["--help"], "domainbed_carft", "1", 141),  # at the first line
        (["doctor", "--help"], "domainbed_carft", "", 0),
        (["--help"], "domainbed_carft.report", "", 0),
    ],
)
def test_a_reader_that_leaves_early_is_no_error(words, module, unbuffered, code):
    """As of ``carft --help | head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
            stdout=pipe,
            stderr=subprocess.PIPE,
        )
    assert (done.stderr, done.returncode) == (b"", code)


def test_another_broken_pipe_is_an_error(monkeypatch):
    def broken(argv):
        raise BrokenPipeError

    from domainbed_carft.commands import doctor

    monkeypatch.setattr(doctor, "main", broken)
    with pytest.raises(BrokenPipeError):
        cli.main(["doctor"])


def test_old_names_of_flags_work_with_one_line(capsys):
    parser = flags.parser("x", "``carft x``: y.")
    parser.add_argument("--alpha", type=float, nargs="+", default=[1.0])
    flags.old_name(parser, "--alphas", "--alpha", type=float, nargs="+")
    assert parser.parse_args([]).alpha == [1.0]
    assert parser.parse_args(["--alphas", "0", "0.5"]).alpha == [0.0, 0.5]
    assert capsys.readouterr().err == "carft x: --alphas is now called --alpha\n"
    assert "alphas" not in parser.format_help()


def test_the_console_script_finds_modules_in_the_working_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["carft", "--version"])
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    cli.main()
    cli.main()  # as `python -m` does, once
    assert sys.path.count(str(tmp_path)) == 1 and sys.path[0] == str(tmp_path)
