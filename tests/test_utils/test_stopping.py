"""Signals: followed at once or by training, once or twice, and by whom."""

import contextlib
import os
import signal
import threading
import time

import pytest

from mmseg_cil.utils import stopping
from mmseg_cil.utils.stopping import (
    Stopped,
    asked_to_stop,
    end_waiting,
    ended_by_signals,
    follow_signal,
    interrupt_of,
    sigterm_blocked,
    start_loader,
    wait_for_training,
)

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize('number', NUMBERS)
def test_a_signal_is_followed_at_once(number):
    former = [signal.getsignal(signum) for signum in NUMBERS]
    with pytest.raises(Stopped) as caught, ended_by_signals():
        send(number)
        pytest.fail('it was not')
    assert caught.value.number == number
    assert caught.value.status == (130 if number == signal.SIGINT else 143)
    assert [signal.getsignal(signum) for signum in NUMBERS] == former and asked_to_stop() is None


def test_training_asks_for_it():
    with pytest.raises(Stopped, match='ended by SIGTERM'), ended_by_signals():
        wait_for_training(True)
        send(signal.SIGTERM)
        assert asked_to_stop() == signal.SIGTERM
        follow_signal()
        # A launcher passes the same signal on, and another may follow it.
        send(signal.SIGTERM)
        send(signal.SIGINT)
        wait_for_training(False)
        pytest.fail('it was not followed')
    with ended_by_signals():
        wait_for_training(True)
        wait_for_training(False)


def test_what_swallowed_a_signal_is_ended_later():
    with pytest.raises(Stopped, match='interrupted'), ended_by_signals():
        with contextlib.suppress(BaseException):
            send(signal.SIGINT)
        follow_signal()
    with ended_by_signals():
        follow_signal()


def test_an_error_made_of_an_interrupt_is_one():
    with pytest.raises(SyntaxError) as caught, ended_by_signals():
        try:
            send(signal.SIGUSR1)
        except BaseException:
            raise SyntaxError('a library says') from None
    found = interrupt_of(caught.value)
    assert isinstance(found, Stopped) and found.status == 143
    assert interrupt_of(ValueError()) is None
    own = KeyboardInterrupt()
    assert interrupt_of(own) is own


def in_child(work):
    """How a forked process ends that does something: its exit status, or minus its signal."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize('number', NUMBERS)
def test_a_second_signal_some_time_later_ends_the_process_whatever_it_does(number, monkeypatch):
    monkeypatch.setattr(stopping, 'GRACE_S', 0.05)

    def work():
        with ended_by_signals():
            wait_for_training(True)
            send(number)
            time.sleep(0.1)
            send(number)
            time.sleep(5)

    assert in_child(work) == -number


def test_an_ignored_signal_stays_ignored():
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ended_by_signals():
            send(signal.SIGINT)
            assert asked_to_stop() is None
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


def test_threads_leave_signals_alone():
    seen = []

    def work():
        with ended_by_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_training_that_failed_does_not_wait_on():
    with pytest.raises(Stopped), ended_by_signals():
        wait_for_training(True)
        end_waiting()
        send(signal.SIGTERM)


def test_a_loader_leaves_signals_to_its_parent(monkeypatch):
    monkeypatch.setattr(stopping, 'LOADER_S', 0.1)

    def loader(*numbers):
        def work():
            start_loader(lambda worker: os._exit(7) if worker != 3 else None, 3)
            for number in numbers:
                send(number)
            time.sleep(0.4 if signal.SIGTERM in numbers else 0.05)
            os._exit(5)

        return work

    # Ctrl-C goes to all of a terminal; SIGTERM of a job ends it, but not at once.
    assert in_child(loader(signal.SIGINT, signal.SIGUSR1)) == 5
    start = time.monotonic()
    assert in_child(loader(signal.SIGTERM)) == 0
    assert time.monotonic() - start > 0.1

    def parent_asks():
        child = os.fork()
        if not child:
            start_loader(None, 0)
            time.sleep(20)
            os._exit(5)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) + 3)

    monkeypatch.setattr(stopping, 'LOADER_S', 30)
    assert in_child(parent_asks) == 3


def test_threads_that_a_library_starts_first_do_not_end_a_loader(monkeypatch):
    monkeypatch.setattr(stopping, 'LOADER_S', 0.1)

    def loader():
        # OpenBLAS has threads of its own before a worker has run a line of ours.
        threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
        start_loader(None, 0)
        for _ in range(20):
            send(signal.SIGTERM)
        time.sleep(0.4)
        os._exit(5)

    with sigterm_blocked():
        assert in_child(loader) == 0
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
