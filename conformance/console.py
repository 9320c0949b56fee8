"""The shared face of the command line: consoles, exit statuses, progress lines and clear endings."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from refmodel.engine.explore import Progress as Reached

OK, DIVERGED, UNUSABLE, UNDECIDED, INTERRUPTED = 0, 1, 2, 3, 130
STATUSES = """\b
Exit status: 0 all conform or hold, 1 something diverges or is falsified,
2 usage, unreadable input or output that cannot be written,
3 inconclusive or not modelled, 130 interrupted."""

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

F = TypeVar("F", bound=Callable[..., Any])


def fail(message: str, status: int = UNUSABLE) -> NoReturn:
    """Ends the command with one clear message on standard error."""
    err.print(f"[red]refmodel:[/] {escape(message)}")
    sys.exit(status)


def interruptible(f: F) -> F:
    """Turns Ctrl-C into exit status 130 with a word where there is nothing to keep, and a closed pipe into silence."""

    @wraps(f)
    def run(*args: Any, **kw: Any) -> Any:
        try:
            return f(*args, **kw)
        except KeyboardInterrupt:
            err.print("interrupted")
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
            sys.exit(OK)

    return run  # type: ignore[return-value]


class Step(Protocol):
    """Tells a progress line what was done last, and how far along that is (without numbers: one further)."""

    def __call__(self, text: str = "", done: int | None = None, total: int | None = None) -> None:
        """Moves the line."""


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Step]:
    """A progress line on a terminal; nothing where standard error is no terminal."""
    if not err.is_terminal:
        yield lambda text="", done=None, total=None: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=total)

        def step(text: str = "", done: int | None = None, total: int | None = None) -> None:
            said = f"{what} {text}"[:60]
            if done is None:
                bar.update(task, advance=1, description=said)
            else:
                bar.update(task, completed=done, total=total, description=said)

        yield step


@contextmanager
def searching(what: str, limit: int) -> "Iterator[Callable[[Reached], None]]":
    """A progress line for a search that may go on for hours: states, depth, the level under way, rate."""
    if not err.is_terminal:
        yield lambda reached: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=limit or None)

        def step(p: "Reached") -> None:
            level = f"level {p.depth}: {p.done:,} of {p.frontier:,}"
            said = f"{what}: {p.states:,} states, {level}, {p.rate:,.0f} states/s"
            bar.update(task, completed=min(p.states, limit) if limit else None, description=said)

        yield step
