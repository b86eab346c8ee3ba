"""A command line that ends once everything is built."""

from __future__ import annotations

from core.training.cli import ApplicationCLI


class Built(Exception):
    """Raised once everything is built: nothing is to run."""


class BuildOnly(ApplicationCLI):
    """Parses and instantiates data, module and trainer, and stops there."""

    def after_instantiate_classes(self) -> None:
        raise Built
