"""JoeyNMT in a virtual environment of its own: it needs an older protobuf than ours, and packages that we do not need."""

import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

NAME = "JoeyNMT 2.3.0"

# importlib_metadata is missing from its requirements. sentencepiece above 0.2.0 does not load beside the protobuf that
# it asks for.
PACKAGES = (
    "joeynmt==2.3.0",
    "importlib_metadata==10.2.0",
    "sentencepiece==0.2.0",
    "protobuf==3.20.3",
    "setuptools==80.10.2",
)
# The same kernels on both sides.
SHARED = ("torch", "numpy", "sacrebleu", "matplotlib", "pandas", "pillow")


def set_up(folder: Path) -> Path:
    """Make the virtual environment, several GB, and return its Python; one that is complete is taken as it is.

    Raises:
        ValueError: something cannot be installed; the message is pip's.
    """
    python = folder / "bin" / "python"
    if python.exists() and _fault(python) is None:
        return python
    venv.create(folder, with_pip=True)
    shared = [f"{name}=={version(name)}" for name in SHARED]
    done = subprocess.run(
        [python, "-m", "pip", "install", *PACKAGES, *shared], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise ValueError(
            f"--set-up {folder}: pip could not install {NAME} (status {done.returncode}). It says:\n{done.stderr.strip()}\n"
            "Mend what it names and call again; what is installed already is kept."
        )
    return checked(python)


def checked(python: Path) -> Path:
    """The Python, if JoeyNMT can be imported by it.

    Raises:
        ValueError: it cannot, or there is no such file.
    """
    if fault := _fault(python):
        raise ValueError(
            f"--joeynmt-python {python} {fault} Expected the Python of an environment with joeynmt 2.3.0; "
            "`python -m benchmarks.translation --set-up FOLDER` makes one."
        )
    return python


def command(python: Path, folder: Path) -> list[str]:
    """What starts the rival's side."""
    return [str(python), "-m", "benchmarks.joeynmt_process", str(folder)]


def our_command(folder: Path, *, bucketed: bool = True, precision: str = "32-true") -> list[str]:
    """What starts our side."""
    return [
        sys.executable,
        "-m",
        "benchmarks.translation_process",
        str(folder),
        "bucketed" if bucketed else "unbucketed",
        precision,
    ]


def _fault(python: Path) -> str | None:
    if not python.is_file():
        return "does not exist."
    code = "import importlib.metadata as m, joeynmt.training, torch; print(m.version('joeynmt'), torch.__version__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"cannot import JoeyNMT ({last})."
    found, torch_version = done.stdout.split()[-2:]
    if found != "2.3.0":
        return f"has joeynmt {found}."
    ours = version("torch")
    if torch_version.split("+")[0] != ours.split("+")[0]:
        return f"has torch {torch_version}, ours is {ours}: both sides must have the same kernels."
    return None
