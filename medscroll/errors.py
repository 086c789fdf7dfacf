"""The tree of errors that a user can cause, each saying what is wrong, where, and what to do.

The command line prints a `UserError` as at most three lines and ends with exit code 2; only a defect of
medscroll itself ends in a traceback. Corpus text never goes into a message (it may hold patients).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class UserError(Exception):
    """A mistake that the user can repair.

    Args:
        what: what is wrong, one sentence.
        where: the file, line, flag or key; None where the sentence names it already.
        remedy: what to do about it; None only where `what` makes it plain.
    """

    exit_code = 2

    def __init__(self, what: str, where: str | None = None, remedy: str | None = None) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what, where, remedy)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)


class ConfigError(UserError):
    """Flags, YAML keys or combinations of them that cannot be run."""

    @classmethod
    def collect(cls, problems: Sequence[UserError]) -> ConfigError:
        """One error that reports every problem of a configuration at once; `problems` is not empty."""
        if len(problems) == 1 and isinstance(problems[0], ConfigError):
            return problems[0]
        listed = "\n".join(f"{number}. {problem}" for number, problem in enumerate(problems, 1))
        return cls(f"{len(problems)} mistakes in the configuration:\n{listed}")


class DataError(UserError):
    """Input files, documents or a token store that cannot be used.

    Args:
        reason: a stable name of what is wrong with a source, under which a ledger counts it.
    """

    def __init__(self, what: str, where: str | None = None, remedy: str | None = None, *, reason: str = "") -> None:
        super().__init__(what, where, remedy)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return _data_error, (self.what, self.where, self.remedy, self.reason)


class CapacityError(UserError):
    """Too little disk, host memory or GPU memory."""


class CheckpointError(UserError):
    """A checkpoint or run folder that is broken, foreign or does not fit this run."""


class EnvironmentError_(UserError):
    """A missing package, driver or device."""


def _data_error(what: str, where: str | None, remedy: str | None, reason: str) -> DataError:
    """Rebuilds one in another process."""
    return DataError(what, where, remedy, reason=reason)


def missing_package(package: str, extra: str, needed_for: str) -> EnvironmentError_:
    """The error for an optional dependency that is not installed; it names the `pip install`."""
    return EnvironmentError_(
        f"{needed_for} needs the package {package!r}, which is not installed",
        remedy=f'pip install "medscroll[{extra}]"   (or: pip install {package})',
    )
