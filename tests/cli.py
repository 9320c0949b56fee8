"""The command line as tests call it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from conformance.cli import main

CAPTURES = Path(__file__).parent.parent / "captures"


def refmodel(*args: object) -> Result:
    """Runs the command; an exception that is not an exit is the test's failure."""
    result = CliRunner().invoke(main, [str(a) for a in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


def told(*args: object, status: int = 0) -> str:
    """The command's whole output; it must end with `status`."""
    result = refmodel(*args)
    assert result.exit_code == status, result.output
    return result.output


def said(*args: object, status: int = 0) -> Any:
    """The command's JSON; it must end with `status`."""
    result = refmodel(*args, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def interrupting(fn: Callable[..., Any], after: int, how: Callable[[], None]) -> Callable[..., Any]:
    """`fn`, which calls `how` before its call number `after` + 1."""
    calls = 0

    def run(*args: Any, **kw: Any) -> Any:
        nonlocal calls
        if calls == after:
            how()
        calls += 1
        return fn(*args, **kw)

    return run
