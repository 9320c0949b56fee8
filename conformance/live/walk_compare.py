"""The kernel's walk of a packet beside the model's: every function seen that the model has, in its place and order.

A chain of the kernel's is one moment: its functions, outermost first, are all running. The model has it if some step
of its walk is the chain's last known function and is nested in the others in that order, not before what came before.
A kernel may leave functions out of a chain (inlined, or called as the last thing); the model may not.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct, field

from conformance.live.walk_classes import ALIASES, class_of
from conformance.live.walk_trace import SOFTIRQ, KernelCall, KernelWalk
from refmodel.rule import RULES, STEPS
from refmodel.walk import Walk

CALL: Final = "call"
"""The event of a walk from function_graph: each is a call of its own."""


BORDERS: Final = (*SOFTIRQ, "do_softirq", "irq_exit_rcu")
"""Functions in the middle of which the context changes."""

QUIET: Final = (*BORDERS, "__local_bh_enable_ip")
"""Functions that may have nothing to do: the model does not pass them then."""


class Step(NamedTuple):
    """A step of a model's walk: its function, the number of the step that called it (-1: none), and its context."""

    function: str
    parent: int = -1
    context: str = "process"


class Difference(Struct, frozen=True):
    """What the model does not have: the number of the kernel's call, and why."""

    call: int
    why: str

    def text(self, walk: KernelWalk) -> str:
        """In one line, with the chain."""
        c = walk.calls[self.call]
        return f"{walk.name} {c.event} in {c.context}: {' > '.join(c.chain)}: {self.why}"


class Comparison(Struct):
    """What came of it. `placed` pairs a number of the kernel's calls with one of the model's steps.

    `left_out` has the classes of functions that the model leaves out; `renamed` what goes by another name; `inlined`
    functions of the model's walk that the kernel has not out of line; `unseen` those that it has, and that no chain
    shows: nothing beneath them was traced, or they called their last as a jump.
    """

    placed: list[tuple[int, int]] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    left_out: dict[str, set[str]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    inlined: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The figures in one line."""
        left = sum(len(f) for f in self.left_out.values())
        return (
            f"{len(self.placed)} moments in place, {len(self.differences)} differences; {left} functions left out by "
            f"class, {len(self.renamed)} by another name, {len(self.inlined)} inlined, {len(self.unseen)} not shown"
        )


def known_functions() -> set[str]:
    """The kernel functions that the model has, by the citations of its rules and steps."""
    cites = [c for r in RULES.values() for c in r.kernel] + [c for s in STEPS.values() for c in s.kernel]
    return {c.rsplit(":", 1)[1] for c in cites}


def steps_of(walk: Walk) -> list[Step]:
    """A model's walk as a plain sequence."""
    return [Step(s.function, s.parent, context_of(s.context)) for s in walk.steps]


def context_of(words: str) -> str:
    """process, softirq or hardirq, as trace flags would say of the model's context."""
    low = words.lower()
    if "softirq" in low or "timer" in low:
        return "softirq"
    return "hardirq" if "interrupt" in low or "hardirq" in low else "process"


class Tree:
    """A model's walk with what stands where: for each step the last step within it, for each function its steps."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.last = list(range(len(steps)))
        self.of: dict[str, list[int]] = {}
        for n in range(len(steps) - 1, -1, -1):
            parent = steps[n].parent
            if parent >= 0:
                self.last[parent] = max(self.last[parent], self.last[n])
        for n, s in enumerate(steps):
            self.of.setdefault(s.function, []).append(n)

    def nested(self, n: int, chain: Sequence[str]) -> bool:
        """Whether step `n` is the chain's last, within steps that are the others, in that order."""
        if self.steps[n].function != chain[-1]:
            return False
        wanted = len(chain) - 2
        at = self.steps[n].parent
        while at >= 0 and wanted >= 0:
            wanted -= self.steps[at].function == chain[wanted]
            at = self.steps[at].parent
        return wanted < 0

    def find(self, chain: Sequence[str], since: int, context: str = "") -> int | None:
        """The first step that has `chain`, and is not over at the moment `since`; in `context` if there is one."""
        fitting = [n for n in self.of.get(chain[-1], ()) if self.last[n] >= since and self.nested(n, chain)]
        here = (n for n in fitting if self.steps[n].context == context)
        return next(here, fitting[0] if fitting else None)


class Comparer:
    """Follows a kernel's walk along the model's."""

    def __init__(self, kernel: KernelWalk, steps: Sequence[Step], known: Collection[str]) -> None:
        self.kernel, self.tree, self.known = kernel, Tree(steps), known
        self.at: dict[str, int] = {}
        self.within: list[tuple[tuple[str, ...], int, int]] = []  # open calls: their chain, their step, the last in it
        self.latest = -1
        self.out = Comparison()
        self.seen = {n for f in kernel.functions() if (n := self._name(f)) is not None}

    def run(self, out_of_line: Collection[str]) -> Comparison:
        """Compares all calls. `out_of_line`: the functions which that kernel has out of line."""
        before = ""
        for i, c in enumerate(self.kernel.calls):
            chain = self._chain(i, c)
            if c.context != "process" and before == "process":
                self.at[c.context] = max(self.at.get(c.context, -1), self.at.get("process", -1))
            before = c.context
            if c.event != CALL:
                if chain:
                    self._place(i, c, chain)
            elif self._name(c.chain[-1]) is not None:
                self._call(i, c, chain)
        for f in dict.fromkeys(s.function for s in self.tree.steps):
            if f not in out_of_line and f not in self.seen:
                self.out.inlined.append(f)
            elif f not in self.seen:
                self.out.unseen.append(f)
        return self.out

    def _name(self, function: str) -> str | None:
        """The model's name of a kernel's function: its own, or another's that this walk has; None if it has none."""
        if function in self.tree.of:
            return function
        alias = ALIASES.get(function, ("",))[0]
        if alias in self.tree.of:
            return alias
        if class_of(function) is not None:
            return None
        return function if function in self.known else alias if alias in self.known else None

    def _chain(self, i: int, c: KernelCall) -> list[str]:
        """What the model has of a chain; what it has not is put into its class, or is a difference."""
        chain: list[str] = []
        for f in c.chain:
            name = self._name(f)
            if name is None:
                left = class_of(f)
                if left is None:
                    self._differs(i, f"{f} is not in the model and in no class")
                else:
                    self.out.left_out.setdefault(left.name, set()).add(f)
                continue
            if name != f:
                self.out.renamed[f] = name
            if not chain or chain[-1] != name or name == f:
                chain.append(name)
        return chain

    def _place(self, i: int, c: KernelCall, chain: list[str]) -> None:
        """An event: its chain is one moment, not before the last."""
        since = self.at.get(c.context, -1)
        n = self.tree.find(chain, since, c.context)
        if n is None:
            self._differs(i, self._why(chain, since))
        elif self._placed(i, c, n):
            self.at[c.context] = max(since, n)

    def _call(self, i: int, c: KernelCall, chain: list[str]) -> None:
        """A call: a step of its own within the step of the call that it is made in, after that one's other calls."""
        here = (*c.within, *c.chain)
        while self.within and self.within[-1][0] != here[: len(self.within[-1][0])]:
            self._leave()
        if self.within and self.within[-1][0] == here:
            self._leave()
        outer = next((k for k in range(len(self.within) - 1, -1, -1) if len(self.within[k][0]) > len(c.within)), None)
        if outer is None:
            since, end, rest = self.at.get(c.context, -1), len(self.tree.steps) - 1, chain
        else:
            _, step, since = self.within[outer]
            end, rest = self.tree.last[step], chain[-1:]
        if outer is None and c.context != "process":
            since = max(since, self.latest)  # it comes upon what runs
        top = self.within[outer][1] if outer is not None else -1
        fitting = (n for n in self.tree.of.get(rest[-1], ()) if since < n <= end and self.tree.nested(n, rest))
        n = next((n for n in fitting if not self._passed_by(n, top, rest)), None)
        if n is None and len(chain) > 1 and chain[-2] == chain[-1]:
            return  # a body by the name of its function
        if n is None and rest[-1] in QUIET:
            self.out.left_out.setdefault("bottom halves", set()).add(c.chain[-1])
            return
        if n is None:
            self._differs(i, self._why_call(rest[-1], chain, outer, since))
            return
        if outer is None:
            self.at[c.context] = n
        else:
            self.within[outer] = (self.within[outer][0], self.within[outer][1], n)
        self.within.append((here, n, n))
        self.latest = n
        self._placed(i, c, n)

    def _passed_by(self, n: int, top: int, chain: Sequence[str]) -> bool:
        """Whether the model comes from step `top` to step `n` through a function that the kernel passed elsewhere.

        What this kernel has not out of line at all, or not for this caller, does not show.
        """
        at = self.tree.steps[n].parent
        context = self.tree.steps[n].context
        while (
            at not in (-1, top)
            and self.tree.steps[at].context == context
            and self.tree.steps[n].function not in BORDERS
        ):
            function = self.tree.steps[at].function
            if function in self.seen and function not in chain:
                return True
            at = self.tree.steps[at].parent
        return False

    def _leave(self) -> None:
        """The innermost open call is over: what comes next in its caller comes after all of it that was seen."""
        _, step, last = self.within.pop()
        if self.within:
            chain, outer, since = self.within[-1]
            if outer <= step:
                self.within[-1] = (chain, outer, max(since, last))

    def _why_call(self, function: str, chain: list[str], outer: int | None, since: int) -> str:
        where = f" within {self.tree.steps[self.within[outer][1]].function}" if outer is not None else ""
        if function not in self.tree.of:
            return f"the model's walk has no {function}{where}; it is nowhere in the walk"
        end = self.tree.last[self.within[outer][1]] if outer is not None else len(self.tree.steps) - 1
        start = self.within[outer][1] if outer is not None else -1
        if any(start < n <= end for n in self.tree.of[function]):
            return f"the model's walk has {function}{where} only before {self.tree.steps[max(since, 0)].function}"
        return f"the model's walk has no {function}{where}"

    def _placed(self, i: int, c: KernelCall, n: int) -> bool:
        step = self.tree.steps[n]
        if step.context != c.context and step.function not in BORDERS:
            self._differs(i, f"the model does {step.function} in {step.context}")
            return False
        self.out.placed.append((i, n))
        return True

    def _why(self, chain: list[str], since: int) -> str:
        """Why no step has the chain: the first of its functions with which it goes wrong."""
        for k in range(1, len(chain) + 1):
            if self.tree.find(chain[:k], -1) is None:
                where = f" within {chain[k - 2]}" if k > 1 else ""
                missing = "" if chain[k - 1] in self.tree.of else "; it is nowhere in the walk"
                return f"the model's walk has no {chain[k - 1]}{where}{missing}"
        return f"the model's walk has {chain[-1]} there only before {self.tree.steps[max(since, 0)].function}"

    def _differs(self, i: int, why: str) -> None:
        if not any(d.why == why for d in self.out.differences):
            self.out.differences.append(Difference(i, why))


def compare(
    kernel: KernelWalk,
    steps: Iterable[Step],
    known: Collection[str] | None = None,
    out_of_line: Collection[str] | None = None,
) -> Comparison:
    """Compares a kernel's walk with a model's `steps`.

    `known` are the functions that the model has (default: by its registry); `out_of_line` those which the kernel has
    out of line (default: the walk's own list of what it has not, and what it shows).
    """
    steps = list(steps)
    if out_of_line is None:
        out_of_line = {s.function for s in steps} - set(kernel.inlined)
    return Comparer(kernel, steps, known_functions() if known is None else known).run(out_of_line)
