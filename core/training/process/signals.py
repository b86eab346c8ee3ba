"""Signals that ask a run to end: taken note of at once, acted on where nothing is lost.

The standard library alone: this is imported before everything that takes seconds, so that no signal finds the process
without a handler.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

CAUGHT = (signal.SIGUSR1, signal.SIGTERM)
"""What clusters send before they take the machine away: Slurm by `--signal`, at `scancel` and at preemption; torchrun."""

EXIT_INTERRUPTED = 75
"""Exit status of a run that was asked to end and can be continued (EX_TEMPFAIL of sysexits.h)."""


class Interrupted(BaseException):
    """A run has ended because it was asked to; like KeyboardInterrupt, nothing that handles errors may swallow it.

    Args:
        signal_name: by which signal.
        saved: the checkpoint that it continues from, or None where there was nothing to save.
    """

    def __init__(self, signal_name: str, saved: str | None = None) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name
        self.saved = saved


class _Received:
    """What this process has been sent."""

    def __init__(self) -> None:
        self.process: int | None = None
        self.signal_name: str | None = None
        self.at_once = False

    def take(self, number: int, frame: FrameType | None) -> None:
        again = self.signal_name is not None
        if not again:
            self.signal_name = signal.Signals(number).name
        if self.at_once:
            raise Interrupted(self.signal_name or "")
        if number == signal.SIGINT:
            if again:
                raise KeyboardInterrupt
            # Not by print, which a handler may not enter a second time.
            os.write(2, b"\nSaving after this batch; press Ctrl-C again to stop at once.\n")


_received = _Received()


def catch_signals() -> None:
    """From here on SIGUSR1 and SIGTERM are taken note of instead of killing the process."""
    _received.process = os.getpid()
    for number in CAUGHT:
        signal.signal(number, _received.take)
    # A forked process is no part of the run's agreement; what its parent does to it by SIGTERM must work.
    os.register_at_fork(after_in_child=_as_usual)


def catch_keyboard() -> None:
    """Ctrl-C lets a training save first; pressed again it stops at once. Where `catch_signals` was called, only."""
    if is_catching():
        signal.signal(signal.SIGINT, _received.take)


def stop_at_once() -> None:
    """For what has nothing to save: a signal, also one that has come already, raises `Interrupted`."""
    if not is_catching():
        return
    _received.at_once = True
    if _received.signal_name is not None:
        raise Interrupted(_received.signal_name)


def is_catching() -> bool:
    """Whether this process is a command of ours, and not a program that only uses the library."""
    return _received.process == os.getpid()


def keep_exit_status() -> None:
    """From here on the process ends: Python gives handlers up before it is gone, and a signal would then be its status."""
    if is_catching():
        for number in CAUGHT:
            signal.signal(number, signal.SIG_IGN)


def received() -> str | None:
    """The first signal that this process was sent, or None."""
    return _received.signal_name


def _as_usual() -> None:
    if _received.process is None:
        return
    _received.process = None
    _received.signal_name = None
    for number in CAUGHT:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def exit_interrupted(reason: Interrupted) -> None:
    """End the process with the status of an interrupted run, saying how it is continued."""
    started_from_outside = "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_PROCID" in os.environ
    if not started_from_outside and os.environ.get("LOCAL_RANK", "0") != "0":
        # The first process started this one, and is killed where this ends with another status.
        raise SystemExit(0)
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0":
        raise SystemExit(EXIT_INTERRUPTED)
    how = f"saved {reason.saved}; continue with --ckpt_path last" if reason.saved else "there was nothing to save"
    sys.stderr.write(f"interrupted by {reason.signal_name}: {how}\n")
    raise SystemExit(EXIT_INTERRUPTED)
