"""The shared face of the command line: consoles, exit statuses, progress lines and clear endings."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

OK, DIVERGED, UNUSABLE, UNDECIDED = 0, 1, 2, 3
STATUSES = """\b
Exit status: 0 all conform or hold, 1 something diverges or is falsified,
2 usage or unreadable input, 3 inconclusive or not modelled."""

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

F = TypeVar("F", bound=Callable[..., Any])


def fail(message: str, status: int = UNUSABLE) -> NoReturn:
    """Ends the command with one clear message on standard error."""
    err.print(f"[red]refmodel:[/] {message}", markup=True)
    sys.exit(status)


def interruptible(f: F) -> F:
    """Turns Ctrl-C into exit status 130 with a word, for commands that have nothing to keep."""

    @wraps(f)
    def run(*args: Any, **kw: Any) -> Any:
        try:
            return f(*args, **kw)
        except KeyboardInterrupt:
            err.print("interrupted")
            sys.exit(130)
        except BrokenPipeError:
            sys.exit(0)

    return run  # type: ignore[return-value]


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[str], None]]:
    """A progress line on a terminal; the yielded function advances it by one and names what was done last."""
    if not err.is_terminal:
        yield lambda text="": None
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
        yield lambda text="": bar.update(task, advance=1, description=f"{what} {text}")


def exit_with(status: int) -> NoReturn:
    """Ends the command with `status`."""
    click.get_current_context().exit(status)
    raise AssertionError("unreachable")  # pragma: no cover
