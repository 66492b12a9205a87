"""Ctrl-C in a program that calls a command line from within, and is somebody else's: it is interrupted, and never left."""

import os
import signal
import sys
import time

import pytest

from experiments_db import interrupts

CALLS_WHILE_IMPORTED = """
import signal, time
from experiments_db import interrupts
with interrupts.working("agent.run"):
    signal.raise_signal(signal.SIGINT)
    time.sleep(0.2)
"""
IMPORTS = """
import signal
signal.raise_signal(signal.SIGINT)
ended = True
"""


@pytest.fixture(autouse=True)
def stays(monkeypatch):
    """Handlers as Python has them by itself, before and afterwards; nothing ends the process."""

    def left(status):
        pytest.fail(f"left with {status}")

    def handlers():
        return [signal.getsignal(s) for s in (*interrupts.SIGNALS, signal.SIGALRM)]

    monkeypatch.setattr(os, "_exit", left)
    outside = {s: signal.getsignal(s) for s in interrupts.SIGNALS}  # a shell's background jobs ignore Ctrl-C
    for s in interrupts.SIGNALS:
        signal.signal(s, signal.default_int_handler if s == signal.SIGINT else signal.SIG_DFL)
    before = handlers()
    yield
    after = handlers()
    for s, handler in outside.items():
        signal.signal(s, handler)
    assert after == before


def test_work_begun_while_a_module_is_imported_is_interrupted(tmp_path, monkeypatch):
    (tmp_path / "calls_while_imported.py").write_text(CALLS_WHILE_IMPORTED)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        import calls_while_imported  # noqa: F401


def test_an_import_under_way_ends_before_the_interrupt_and_an_alarm_of_the_program_goes_on(tmp_path, monkeypatch):
    (tmp_path / "interrupted_import.py").write_text(IMPORTS)
    monkeypatch.syspath_prepend(tmp_path)
    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.working("agent.run"):
            import interrupted_import  # noqa: F401

            time.sleep(10)
        assert sys.modules["interrupted_import"].ended
        assert not rung
        time.sleep(1)
        assert rung == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def test_ctrl_c_however_often_is_an_interrupt(capfd):
    with pytest.raises(KeyboardInterrupt), interrupts.working("agent.run"):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert "Ctrl-C once more leaves at once" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("during", ["taking", "giving back"])
def test_a_signal_while_handlers_change_is_an_interrupt_once_they_are_as_before(number, during, monkeypatch):
    real, changes = signal.signal, []

    def change(*given):
        before = real(*given)
        changes.append(given)
        if len(changes) == (3 if during == "taking" else 4):
            own = changes[0][1]
            own(number, None)
        return before

    ran = []
    monkeypatch.setattr(signal, "signal", change)
    with pytest.raises(KeyboardInterrupt), interrupts.working("agent.run"):
        ran.append(1)
    assert len(changes) == 6
    assert bool(ran) == (during == "giving back")
