"""warm.py: commands in forks, as ``python -m`` would run them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from domainbed_carft.base import warm

pytestmark = pytest.mark.skipif(not warm.AVAILABLE, reason="processes are not forked here")

PROGRAM = """
import atexit, json, os, sys
import helper
atexit.register(print, "bye", flush=True)
print(json.dumps([sys.argv, sys.path[0], os.getcwd(), os.environ.get("ASKED"), __name__,
                  sys.modules["__main__"].__spec__.name]))
print("to stderr", file=sys.stderr)
exec(sys.argv[1])
"""


@pytest.fixture
def run(tmp_path):
    """A function that runs PROGRAM with one argument, forked or by a new Python."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    (folder / "helper.py").write_text("")  # found beside it, as by python -m
    environment = {**os.environ, "ASKED": "yes"}

    def run(code, forked=True):
        out, err = tmp_path / f"out{forked}", tmp_path / f"err{forked}"
        if forked:
            job = warm.start("program", [code], environment, out, err, folder)
            job.join()
            return job.exitcode, out.read_text(), err.read_text()
        words = [sys.executable, "-m", "program", code]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("code", ["", "sys.exit(3)", "sys.exit('no such data')"])
def test_a_fork_is_like_a_new_python(run, code):
    got, wanted = run(code), run(code, forked=False)
    assert got[::2] == wanted[::2]
    got, wanted = got[1].splitlines(), wanted[1].splitlines()
    assert got[1:] == wanted[1:] == ["bye"]
    (argv, *others), (wanted_argv, *wanted_others) = json.loads(got[0]), json.loads(wanted[0])
    assert argv[1:] == wanted_argv[1:] == [code] and others == wanted_others


def test_an_exception_and_a_signal(run):
    code, _, err = run("1 / 0")
    assert code == 1 and err.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert run("os.kill(os.getpid(), 9)")[0] == -9


def test_ctrl_c_ends_a_job_and_not_the_next(run, tmp_path):
    (tmp_path / "folder" / "sleeper.py").write_text("import time\nprint(1, flush=True)\n" + SLEEP)
    out = tmp_path / "slept"
    out.touch()
    job = warm.start("sleeper", [], dict(os.environ), out, folder=tmp_path / "folder")
    while not out.read_text():
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGINT)
    job.join()
    assert job.exitcode == 7
    assert run("")[0] == 0


SLEEP = """
try:
    time.sleep(60)
except KeyboardInterrupt:
    raise SystemExit(7)
"""


def test_what_touched_cuda_starts_anew(run, tmp_path):
    run("")  # which writes the program
    code = """
import os, sys, types
cuda = types.SimpleNamespace(_is_in_bad_fork=lambda: True)
sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
from domainbed_carft.base import warm
warm._become("program", ["print('torch' in sys.modules)"], dict(os.environ), "o", "o", ".")
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "folder", check=True)
    assert (tmp_path / "folder" / "o").read_text().splitlines()[-2:] == ["False", "bye"]


def test_a_sweep_s_jobs_are_forked(tmp_path, monkeypatch):
    """Imports are there, and CUDA was not touched: else each job would start a new Python.

    The garbage collector does not look through what was imported.
    """
    (tmp_path / "look.py").write_text(
        "import gc, sys, torch\n"
        "names = 'open_clip', 'pkg_resources', 'domainbed.algorithms'\n"
        "print(*(name in sys.modules for name in names), torch.cuda._is_in_bad_fork())\n"
        "print(gc.get_freeze_count() > 10 * len(gc.get_objects()))\n"
    )
    code = """
import os
from domainbed_carft.base import launchers, warm
job = warm.start("look", [], dict(os.environ), "out", preload=launchers.PRELOAD)
job.join()
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_text() == "True True True False\nTrue\n"


THREADS = """
import os
from concurrent.futures import ThreadPoolExecutor
from domainbed_carft.base import warm

def code(i):
    return warm.ended(warm.start("end", [str(i % 2)], dict(os.environ), "out"))

with ThreadPoolExecutor(4) as pool:
    print([*pool.map(code, range(200))] == [0, 1] * 100)
"""


def test_exit_codes_are_right_where_threads_start_and_end_jobs_at_once(tmp_path):
    """Without a lock, about one in ten is 255."""
    (tmp_path / "end.py").write_text("import sys; raise SystemExit(int(sys.argv[1]))")
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"


STARTER = """
import threading
threading.Thread(target=__import__, args=["slow"]).start()
"""
PARENT = """
import os, sys
from domainbed_carft.base import warm
job = warm.start("program", [], dict(os.environ), "out", preload=["starter"])
job.join(60)
print(job.exitcode, open("out").read())
job.kill()
"""


def test_a_thread_that_imports_while_the_server_forks_leaves_no_lock_behind(tmp_path):
    (tmp_path / "slow.py").write_text("import time; time.sleep(1.5)")
    (tmp_path / "starter.py").write_text(STARTER)
    (tmp_path / "program.py").write_text("import slow")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", PARENT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["0"], done.stdout + done.stderr
