"""Signals are taken note of from the first moment, and stop a command the way that loses nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.training.command.prediction import writable
from core.training.process import signals

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.usefixtures("catching")
@pytest.mark.parametrize("number", signals.CAUGHT)
def test_the_first_is_remembered_and_a_second_changes_nothing(number: signal.Signals) -> None:
    assert signals.received() is None
    os.kill(os.getpid(), number)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.received() == number.name


@pytest.mark.usefixtures("catching")
def test_the_keyboard_saves_first_and_stops_then(capfd: pytest.CaptureFixture[str]) -> None:
    signals.catch_keyboard()
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.received() == "SIGINT"
    assert "press Ctrl-C again" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_program_that_uses_the_library_keeps_its_own_handlers() -> None:
    before = signal.getsignal(signal.SIGINT)
    signals.catch_keyboard()
    signals.stop_at_once()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("catching")
def test_what_has_nothing_to_save_ends_at_once(forget: Callable[[], None]) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(signals.Interrupted):
        signals.stop_at_once()
    forget()
    with pytest.raises(signals.Interrupted) as reason:
        os.kill(os.getpid(), signal.SIGUSR1)
    assert reason.value.signal_name == "SIGUSR1"


def _wait() -> None:
    time.sleep(60)


@pytest.mark.usefixtures("catching")
def test_a_forked_process_can_be_terminated() -> None:
    """A pool ends its workers by SIGTERM, and would wait for ever for one that only takes note of it."""
    process = multiprocessing.get_context("fork").Process(target=_wait)
    process.start()
    time.sleep(0.2)
    process.terminate()
    process.join(10)
    assert process.exitcode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("environment", "status", "said"),
    [
        ({}, 75, True),
        ({"LOCAL_RANK": "1"}, 0, False),
        ({"LOCAL_RANK": "1", "RANK": "1", "TORCHELASTIC_RUN_ID": "none"}, 75, False),
        ({"SLURM_PROCID": "1", "LOCAL_RANK": "1"}, 75, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "0"}, 75, True),
    ],
)
def test_how_it_ends(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    status: int,
    said: bool,
) -> None:
    for name in ("LOCAL_RANK", "RANK", "TORCHELASTIC_RUN_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        signals.exit_interrupted(signals.Interrupted("SIGUSR1", saved="runs/last.ckpt"))
    assert end.value.code == status
    assert ("saved runs/last.ckpt" in capsys.readouterr().err) == said


def test_a_signal_at_the_very_end_does_not_become_the_status() -> None:
    """Where one process fails, Slurm ends the others: their own statuses must stay what they are."""
    program = (
        "from core.training.process import signals\n"
        "signals.catch_signals()\n"
        "print('catching', flush=True)\n"
        "while signals.received() is None:\n"
        "    pass\n"
        "signals.keep_exit_status()\n"
        "raise SystemExit(2)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as ending:
        assert ending.stdout is not None
        assert ending.stdout.readline() == "catching\n"
        until = time.monotonic() + 60
        while ending.poll() is None and time.monotonic() < until:
            ending.terminate()
            time.sleep(0.0005)
        if ending.poll() is None:
            ending.kill()
    assert ending.returncode == 2


@pytest.mark.parametrize("application", ["forecasting", "translation", "captioning", "video_classification"])
def test_a_command_catches_before_it_imports(application: str) -> None:
    """What is imported before the handlers stand is quick: no signal is lost in the seconds that torch takes."""
    program = (
        "import sys, core.training.process.signals as signals\n"
        "def catch():\n"
        "    print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'apps'}))\n"
        "    raise SystemExit\n"
        "signals.catch_signals = catch\n"
        "import runpy\n"
        f"runpy.run_module('apps.{application}', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['apps']", done.stderr


@pytest.mark.usefixtures("catching")
def test_a_file_that_is_being_predicted_is_not_left_behind_half(tmp_path: Path) -> None:
    signals.stop_at_once()

    def predict() -> None:
        with writable(str(tmp_path / "out.txt"), "--output") as file:
            file.write("the first line\n")
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(signals.Interrupted):
        predict()
    assert not list(tmp_path.iterdir())
