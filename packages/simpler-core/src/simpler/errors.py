"""Every error simpler raises; all of them are :class:`SimplerError`."""

from __future__ import annotations

import signal as signals
from typing import Any


class SimplerError(Exception):
    """Base of every error of this package.

    Attributes:
        explains_itself: its message is written for the user; a command line shows that, without a traceback.
    """

    explains_itself = True


class WorkerStateError(SimplerError, RuntimeError):
    """The worker cannot do this now: it is closed, busy, broken by a dead child, or belongs to another process."""


class RegistrationFailed(SimplerError, TypeError):
    """What was to be registered is no callable, cannot reach the running children, or finds no slot on the chips."""


class WrongKind(SimplerError, TypeError):
    """A callable was submitted to workers of another kind: a Python function to chips, or a chip's to SubWorkers."""


class UnknownCallable(SimplerError, LookupError):
    """A handle that this worker, or the child that was asked to execute it, does not know (any more)."""


class NoSuchWorker(SimplerError, LookupError):
    """A task was sent to a chip or SubWorker that this worker does not have."""


class TensorError(SimplerError, ValueError):
    """An argument cannot be used as a tensor with that tag: wrong kind, dtype, device, or not writable."""


class SharedMemoryFull(SimplerError, MemoryError):
    """The worker's shared memory cannot hold this; the message names the argument of ``Worker`` that enlarges it."""


class RunTimeout(SimplerError, TimeoutError):
    """A run took longer than the worker's ``timeout``; its unfinished tasks were ended."""


class RemoteError(SimplerError):
    """Stands in for an exception that could not be sent to the caller's process; its message is that one's repr."""


class IllegalTransition(SimplerError, AssertionError):
    """A task was moved from one state to another that does not follow it: a bug of the engine, please report it."""

    explains_itself = False


def said_by(error: BaseException | None) -> str:
    """The message of somebody's exception, which may itself raise."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        return f"(its str raised {type(problem).__qualname__})"


class TaskFailed(SimplerError):
    """A task raised.

    When several tasks of a run fail, the run raises the first failure and lists the others in ``others`` and as notes.

    Attributes:
        function: name of the callable the task executed.
        task: number of the task in its run, from 0, in the order of submission.
        worker: the child it ran on, e.g. ``"sub worker 0"`` or ``"chip 1"``.
        original: the exception the task raised, rebuilt in this process; also ``__cause__``.
        remote_traceback: the traceback in the child, as text; empty when there is none.
        others: the run's other failures, in the order they happened.
        brief: what happened, in one line.
        skipped: names of the tasks that were not run because they needed what a failed task should have written.
    """

    def __init__(
        self,
        function: str,
        task: int,
        worker: str,
        *,
        original: BaseException | None = None,
        remote_traceback: str = "",
        reason: str = "",
    ) -> None:
        self.function = function
        self.task = task
        self.worker = worker
        self.original = original
        self.remote_traceback = remote_traceback
        self.others: tuple[TaskFailed, ...] = ()
        self.skipped: tuple[str, ...] = ()
        self.brief = reason or f"raised {type(original).__name__}: {said_by(original)}"
        message = f"task {task} ({function}) on {worker} {self.brief}"
        if remote_traceback:
            message += f"\n\nRemote traceback:\n{remote_traceback.rstrip()}"
        super().__init__(message)
        self.__cause__ = original

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.original), self.__dict__


class WorkerDied(TaskFailed):
    """The child that ran a task exited or was killed.

    Attributes:
        pid: process id the child had.
        exit_status: what it exited with; None if it was killed.
        signal: number of the signal that killed it; None if it exited.
    """

    def __init__(
        self,
        function: str,
        task: int,
        worker: str,
        *,
        pid: int,
        exit_status: int | None,
        signal: int | None,
        started: bool = True,
    ) -> None:
        how = describe_death(pid, exit_status, signal)
        reason = f"did not finish: its process {how} while it ran" if started else f"was not started: its process {how}"
        super().__init__(function, task, worker, reason=reason)
        self.pid = pid
        self.exit_status = exit_status
        self.signal = signal


def _restore(cls: type[TaskFailed], args: tuple[str], original: BaseException | None) -> TaskFailed:
    error = cls.__new__(cls, *args)  # its attributes follow
    error.__cause__ = original
    return error


NOTES = 10
"""How many further failures an error lists by name."""


def combine(failures: list[TaskFailed], skipped: list[str]) -> TaskFailed | None:
    """The first failure, which then tells of the others and of what was not run; None if there is none."""
    if not failures:
        return None
    error, *others = failures
    error.others = tuple(others)
    error.skipped = tuple(skipped)
    for other in others[:NOTES]:
        error.add_note(f"also failed: task {other.task} ({other.function}) on {other.worker}: {other.brief}")
    if len(others) > NOTES:
        error.add_note(f"and {len(others) - NOTES} more failures, see .others")
    if skipped:
        names = ", ".join(sorted(set(skipped))[:NOTES])
        error.add_note(f"{len(skipped)} tasks that needed its results were not run: {names}")
    return error


def describe_death(pid: int, exit_status: int | None, signal: int | None) -> str:
    """How a process ended, in words that fit after "its process"."""
    if signal is not None:
        try:
            name = signals.Signals(signal).name
        except ValueError:  # real-time signals have no names
            name = "a signal"
        return f"(pid {pid}) was killed by {name} ({signal})"
    return f"(pid {pid}) exited with status {exit_status}"
