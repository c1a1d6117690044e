"""Ctrl-C, as fast as a key that is held down repeats."""

from __future__ import annotations

import signal

import pytest

from inglenook.cli.interrupts import Interrupts


def press() -> None:
    """Ctrl-C; its handler has run when this returns."""
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_interrupts_once() -> None:
    """A second one, while the first is being dealt with, does nothing."""
    with Interrupts() as interrupts:
        for _ in range(2):
            with interrupts.may_come():
                with pytest.raises(KeyboardInterrupt):
                    press()
                press()


def test_ctrl_c_between_two_things_does_nothing() -> None:
    """There is nothing that it could mean."""
    with Interrupts() as interrupts:
        press()
        with interrupts.may_come():
            pass
        press()


def test_python_has_its_own_back_afterwards() -> None:
    """A command that follows is ended by Ctrl-C as ever."""
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
