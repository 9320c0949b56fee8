"""How many small edits of the whole TCP do the laws, the scripts and the kernel's selftests notice?

    python -m tests.tcp.whole.mutants [--count N] [--seed N] [--part I/N]

An edit turns a comparison, shifts a number by one, leaves an assignment or a call out, or turns a condition. The laws'
programs run on each, and those scripts that enter its function. A survivor is a place that nothing watches, or an edit
that changes nothing.
"""

import argparse
import ast
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from conformance.pkt.model_run import Setting, run_text
from conformance.pkt.outcome import Outcome
from conformance.pkt.source import read_source
from conformance.pkt.variant import Variant, scripts_in
from tests.tcp.whole.driver import SERIES, run
from tests.tcp.whole.edited import PACKAGE, edited, source_of

ROOT = Path(__file__).parents[3]
HERE = ROOT / "refmodel/tcp/whole"
LEFT_OUT = {"__init__", "history", "invariants", "pair", "params"}
TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
SECONDS = 4
SAVED = Setting(remember=True)


class Slow(BaseException):
    """A run under an edit doesn't end."""


class Edit:
    """One small edit: the module, the function, the line, what was there and what is there now."""

    def __init__(self, module: str, number: int) -> None:
        self.module = module
        self.tree = ast.parse(source_of(module))
        self.function = self.before = self.after = ""
        self.line = 0
        for i, (function, node, apply) in enumerate(sites(self.tree)):
            if i == number:
                self.function, self.line = function, node.lineno
                self.before = ast.unparse(node)
                self.after = apply() or ast.unparse(node)
                return

    def __str__(self) -> str:
        return f"{self.module}.{self.function}:{self.line}: {self.before} -> {self.after}".replace("\n", " ")[:150]


def sites(tree: ast.Module) -> Iterator[tuple[str, Any, Callable[[], str]]]:
    """Where a module can be edited: the function, the node, and what edits it there (and says what is there then)."""
    for top in tree.body:
        inside = [top] if isinstance(top, ast.FunctionDef) else []
        if isinstance(top, ast.ClassDef):
            inside = [n for n in top.body if isinstance(n, ast.FunctionDef) and n.name != "__init__"]
        for fn in inside:
            for holder in ast.walk(fn):
                if holder is fn or not hasattr(holder, "lineno"):
                    continue
                yield from of_node(fn.name, holder)
            for holder in ast.walk(fn):
                yield from of_body(fn.name, holder)


def of_node(name: str, node: Any) -> Iterator[tuple[str, Any, Callable[[], str]]]:
    """The edits of an expression."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in TURNED:

        def turn() -> str:
            node.ops[0] = TURNED[type(node.ops[0])]()
            return ""

        yield name, node, turn
    if isinstance(node, ast.Constant) and type(node.value) is int:

        def shift() -> str:
            node.value += 1
            return ""

        yield name, node, shift
    if isinstance(node, ast.BoolOp):

        def swap() -> str:
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            return ""

        yield name, node, swap
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):

        def sign() -> str:
            node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            return ""

        yield name, node, sign


def of_body(name: str, node: Any) -> Iterator[tuple[str, Any, Callable[[], str]]]:
    """The statements that can be left out."""
    for field in ("body", "orelse"):
        block = getattr(node, field, None)
        if not isinstance(block, list):
            continue
        for i, s in enumerate(block):
            target = s.targets[0] if isinstance(s, ast.Assign) else s.target if isinstance(s, ast.AugAssign) else None
            call = isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)
            if call or isinstance(target, ast.Attribute):

                def drop(block: list[Any] = block, i: int = i) -> str:
                    block[i] = ast.copy_location(ast.Pass(), block[i])
                    return "left out"

                yield name, s, drop


def every_edit(count: int, seed: int) -> list[Edit]:
    """A sample of all edits."""
    modules = sorted(p.stem for p in HERE.glob("*.py") if p.stem not in LEFT_OUT)
    places = [(m, i) for m in modules for i, _ in enumerate(sites(ast.parse(source_of(m))))]
    return [Edit(m, i) for m, i in sorted(random.Random(seed).sample(places, count))]


def within(seconds: float, what: Callable[[], Any]) -> Any:
    """What a call gives, or raises Slow."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return what()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Suite:
    """Scripts, and which functions each of them enters."""

    def __init__(self, where: tuple[Path, ...]) -> None:
        self.texts = [(p, read_source(p)) for p in scripts_in(where)]
        self.plain: dict[Variant, list[Outcome]] = {Variant.IPV4: []}
        self.enters: list[set[tuple[str, str]]] = []
        for _, source in self.texts:
            seen: set[tuple[str, str]] = set()

            def on_call(frame: FrameType, event: str, arg: Any, seen: set[tuple[str, str]] = seen) -> None:
                if event == "call":
                    code = frame.f_code
                    seen.add((code.co_filename, code.co_name))

            sys.setprofile(on_call)
            self.plain[Variant.IPV4].append(run_text(source.name, source.text, Variant.IPV4, SAVED))
            sys.setprofile(None)
            self.enters.append({(Path(f).stem, n) for f, n in seen if f.startswith(str(HERE))})
        self.plain[Variant.IPV6] = [run_text(s.name, s.text, Variant.IPV6, SAVED) for _, s in self.texts]

    def judge(self, edit: Edit) -> tuple[str, int]:
        """ "fails", "differs" (packets or counters only), "same", or "not entered"; and how many scripts enter it."""
        entered = [i for i, e in enumerate(self.enters) if (edit.module, edit.function) in e]
        worst = "same" if entered else "not entered"
        for i, variant, plain in [(i, v, o[i]) for v, o in self.plain.items() for i in entered]:
            source = self.texts[i][1]
            if plain.status != "passed":
                continue
            try:
                o = within(SECONDS, lambda source=source, v=variant: run_text(source.name, source.text, v, SAVED))
            except (Slow, Exception):
                return "fails", len(entered)
            if o.status != "passed":
                return "fails", len(entered)
            if (o.counters, o.packets, o.returns, o.infos) != (
                plain.counters,
                plain.packets,
                plain.returns,
                plain.infos,
            ):
                worst = "differs"
        return worst, len(entered)


def broken_law(edit: Edit) -> str:
    """The first law that a program finds broken under the edit."""
    for program in SERIES:
        try:
            found = within(SECONDS, lambda program=program: run(program))
        except Slow:
            return "it ends"
        except Exception as fault:
            return type(fault).__name__
        if found:
            return str(found[0])
    return ""


def main() -> None:
    """Prints one line for each edit, and the sums."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=612)
    parser.add_argument("--part", default="0/1")
    args = parser.parse_args()
    part, parts = map(int, args.part.split("/"))

    def alarm(*_: object) -> None:
        raise Slow

    signal.signal(signal.SIGALRM, alarm)
    own = Suite((ROOT / "tests/scripts",))
    folder = os.environ.get("REFMODEL_SELFTESTS", "")
    kernel = Suite((Path(folder),)) if folder else None
    for edit in every_edit(args.count, args.seed)[part::parts]:
        with suppress(SyntaxError), edited(edit.module, ast.unparse(edit.tree)) as touched:
            law = broken_law(edit) if touched else "nothing changed"
            scripts, entered = own.judge(edit)
            theirs = kernel.judge(edit)[0] if kernel is not None else "-"
            print(f"{law or '-'}\t{scripts} ({entered})\t{theirs}\t{edit}", flush=True)


if __name__ == "__main__":
    assert PACKAGE == "refmodel.tcp.whole"
    main()
