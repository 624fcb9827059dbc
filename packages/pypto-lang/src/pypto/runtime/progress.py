"""Telling a user what a long step is at.

``ir.compile`` and the first call of a program report to a callback. ``display()`` is one that draws bars in a terminal,
for everything that happens inside its ``with``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step has come.

    Attributes:
        step: what is being done, in a few words ("compile kernels").
        done: how much of it is done.
        total: how much there is.
        item: what was done last, or the empty string.
    """

    step: str
    done: int
    total: int
    item: str = ""


ProgressCallback = Callable[[Progress], None]

_current: ContextVar[ProgressCallback | None] = ContextVar("pypto progress", default=None)


def current() -> ProgressCallback:
    """What progress is reported to where nothing else is said: the display that is open, or nobody."""
    return _current.get() or (lambda progress: None)


def report(step: str, done: int, total: int, item: str = "") -> None:
    """Tell the display that is open, if one is."""
    current()(Progress(step, done, total, item))


@contextmanager
def display() -> Iterator[None]:
    """Draw progress on stderr: bars in a terminal, else a line for each finished step. Inside another, do nothing."""
    if _current.get() is not None:
        yield
        return
    from rich.console import Console

    console = Console(stderr=True)
    with _bars(console) if console.is_terminal else _plain(console) as callback:
        token = _current.set(callback)
        try:
            yield
        finally:
            _current.reset(token)


@contextmanager
def _plain(console: object) -> Iterator[ProgressCallback]:
    from rich.console import Console

    assert isinstance(console, Console)

    def show(progress: Progress) -> None:
        if progress.done == progress.total:
            console.print(f"{progress.step}: {progress.done} of {progress.total}", highlight=False)

    yield show


@contextmanager
def _bars(console: object) -> Iterator[ProgressCallback]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    assert isinstance(console, Console)
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[item]}"),
    )
    # No refresh thread: chips and SubWorkers are forked while this is open, and must not inherit a lock that is held.
    with Bars(*columns, console=console, auto_refresh=False) as bars:
        tasks: dict[str, int] = {}

        def show(progress: Progress) -> None:
            if progress.step not in tasks:
                tasks[progress.step] = bars.add_task(progress.step, total=progress.total, item="")
            finished = progress.done >= progress.total
            bars.update(
                tasks[progress.step],  # type: ignore[arg-type]
                completed=progress.done,
                total=progress.total,
                item="" if finished else progress.item,
                refresh=True,
            )

        yield show
