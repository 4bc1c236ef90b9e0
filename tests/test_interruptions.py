"""What ends a run before its time: signals, and errors in words."""

import errno
import os
import signal
import threading

import pytest
import torch
from domainbed.lib import interruptions


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in interruptions.STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruptions._asked.clear()


@pytest.mark.parametrize(
    "number, word", [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")], ids=str
)
def test_one_signal_is_heeded_and_those_after_it_are_not(number, word, monkeypatch):
    later = []
    with pytest.raises(interruptions.Stopped) as stop, interruptions.listening():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            later.append(True)
    assert later and (str(stop.value), stop.value.signal) == (word, number)
    monkeypatch.setattr(interruptions, "GRACE", 0)  # some seconds later
    with pytest.raises(interruptions.Stopped):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_whose_exception_was_lost_is_not():
    with pytest.raises(interruptions.Stopped), interruptions.listening():
        interruptions.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        interruptions.check()


def test_handlers_are_as_before_and_what_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    with interruptions.listening():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    in_thread = []

    def listen():
        with interruptions.listening():
            in_thread.append(signal.getsignal(signal.SIGTERM) == before)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert in_thread == [True]


def test_the_first_cause_is_found_behind_what_cleaning_up_raises():
    def chain(*errors):
        try:
            raise errors[0]
        except BaseException:
            if len(errors) == 1:
                raise
            chain(*errors[1:])

    full = OSError(errno.ENOSPC, "full")
    for others in ([], [RuntimeError("unexpected pos")], [RuntimeError("a"), ValueError("b")]):
        with pytest.raises(Exception) as raised:
            chain(full, *others)
        assert interruptions.cause(raised.value) is full
    with pytest.raises(RuntimeError) as raised:
        chain(KeyboardInterrupt(), RuntimeError())
    assert isinstance(interruptions.cause(raised.value), KeyboardInterrupt)
    other = ValueError()
    assert interruptions.cause(other) is other


def test_the_cause_of_a_full_disk_within_torch_save():
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Exception) as raised:
        torch.save({"x": torch.zeros(10_000)}, Full())
    assert interruptions.cause(raised.value).errno == errno.ENOSPC


@pytest.mark.parametrize(
    "error, words",
    [
        (OSError(errno.ENOSPC, "No space left", "/a/b"), "/a/b: No space left"),
        (OSError("odd"), "odd"),
        (MemoryError(), "out of memory: free some, or lower the knob batch_size"),
        (torch.cuda.OutOfMemoryError("x\nTried 2 GiB"), "out of memory (Tried 2 GiB): free some"),
        (RuntimeError("[alloc] can't allocate memory: 9 bytes"), "out of memory ([alloc] can't"),
        (RuntimeError("DataLoader worker (pid 3) is killed"), "DOMAINBED_CARFT_N_WORKERS"),
    ],
)
def test_errors_in_words(error, words):
    assert words in interruptions.explained(error)


def test_a_fault_of_the_code_is_not_put_into_words():
    assert interruptions.explained(RuntimeError("mat1 and mat2 cannot be multiplied")) is None
    assert interruptions.explained(KeyError("x")) is None
