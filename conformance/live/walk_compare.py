"""The kernel's walk of a packet beside the model's: every function seen that the model has, in its place and order.

A chain of the kernel's is one moment: its functions, outermost first, are all running. The model has it if some step
of its walk is the chain's last known function and is nested in the others in that order, not before what came before.
A kernel may leave functions out of a chain (inlined, or called as the last thing); the model may not.
"""

import gzip
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct, field

from conformance.live.walk_classes import ALIASES, class_of
from conformance.live.walk_known import known
from conformance.live.walk_trace import SOFTIRQ, KernelCall, KernelWalk
from conformance.live.walk_tree import Alignment, Forest, Node
from refmodel.rule import RULES, STEPS
from refmodel.walk import Walk

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
    """What the model does not have: the number of the kernel's call, the function, what it stands in, and why."""

    call: int
    function: str
    within: str
    why: str

    def text(self, walk: KernelWalk) -> str:
        """In one line, with the chain."""
        c = walk.calls[self.call]
        return f"{walk.name} {c.event} in {c.context}: {' > '.join(c.chain)}: {self.why}"


class Comparison(Struct):
    """What came of it. `placed` pairs a number of the kernel's calls with one of the model's steps.

    `left_out` has the classes of functions that the model leaves out; `renamed` what goes by another name; `inlined`
    functions of the model's walk that the kernel has not out of line; `unseen` those that it has, and that no chain
    shows: nothing beneath them was traced, or they called their last as a jump. `only_model`, of call trees: functions
    that the model passes once more than the kernel, which shows them elsewhere; `inlined_here`: those of them through
    which the model comes to what the kernel calls at once.
    """

    placed: list[tuple[int, int]] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    left_out: dict[str, set[str]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    inlined: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    only_model: list[str] = field(default_factory=list)
    inlined_here: list[str] = field(default_factory=list)

    def unexplained(self, walk: KernelWalk) -> list[Difference]:
        """The differences that no entry of walk_known gives a reason for."""
        return [d for d in self.differences if known(walk.name, walk.how, d.function, d.within) is None]

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
    if low.startswith("irq "):
        return "hardirq"
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
        self.out = Comparison()
        self.seen = {n for f in kernel.functions() if (n := self._name(f)) is not None}

    def run(self, out_of_line: Collection[str]) -> Comparison:
        """Compares all calls. `out_of_line`: the functions which that kernel has out of line."""
        if self.kernel.how == "function_graph":
            self._calls()
        else:
            self._events()
        for f in dict.fromkeys(s.function for s in self.tree.steps):
            if f not in out_of_line and f not in self.seen:
                self.out.inlined.append(f)
            elif f not in self.seen:
                self.out.unseen.append(f)
        return self.out

    def _events(self) -> None:
        """The events of tracepoints, each a moment with its chain."""
        before = ""
        for i, c in enumerate(self.kernel.calls):
            chain = self._chain(i, c)
            if c.context != "process" and before == "process":
                self.at[c.context] = max(self.at.get(c.context, -1), self.at.get("process", -1))
            before = c.context
            if chain:
                self._place(i, c, chain)

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
                    self._differs(i, f, "", f"{f} is not in the model and in no class")
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
        if n is not None and self.tree.steps[n].context != c.context and chain[-1] not in BORDERS:
            earlier = self.tree.find(chain, -1, c.context)
            if earlier is not None and self.tree.steps[earlier].context == c.context:
                n = None  # it is there in this context, and over by now
        if n is None:
            self._differs(i, *self._why(chain, since))
        elif self._placed(i, c, n):
            self.at[c.context] = max(since, n)

    def _calls(self) -> None:
        """The calls of a walk from function_graph: their trees beside the model's."""
        numbers, forest = self._forest()
        steps, other = self._model_forest()
        alignment = Alignment(forest, other)
        for n, m in alignment.pairs.items():
            self.out.placed.append((numbers[n], steps[m]))
        for n in alignment.missing():
            node = forest.nodes[n]
            where = f" within {forest.nodes[node.parent].function}" if node.parent >= 0 else f" in {node.context}"
            nowhere = "" if node.function in self.tree.of else "; it is nowhere in the walk"
            why = f"the model's walk has no {node.function}{where}, in this order{nowhere}"
            self._differs(
                numbers[n], node.function, forest.nodes[node.parent].function if node.parent >= 0 else "", why
            )
        opened = dict.fromkeys(other.nodes[m].function for m in alignment.opened)
        self.out.inlined_here = sorted(opened)
        paired = {*alignment.pairs.values(), *alignment.opened}
        self.out.only_model = sorted({x.function for m, x in enumerate(other.nodes) if m not in paired})

    def _forest(self) -> tuple[list[int], Forest]:
        """The calls that the model has: their numbers, and their trees."""
        numbers: list[int] = []
        nodes: list[Node] = []
        # What runs, where its context begins, its node; by the outermost call, since a task may sleep meanwhile.
        tasks: dict[str, list[tuple[tuple[str, ...], int, int]]] = {}
        for i, c in enumerate(self.kernel.calls):
            here = (*c.within, *c.chain)
            open_calls = tasks.setdefault(here[0], [])
            while open_calls and (
                len(open_calls[-1][0]) >= len(here) or here[: len(open_calls[-1][0])] != open_calls[-1][0]
            ):
                open_calls.pop()
            name = self._name(c.chain[-1])
            self._chain(i, c)
            if name is None or name in QUIET:
                continue
            outer = next((k for k in reversed(open_calls) if len(k[0]) > len(c.within) and k[1] == len(c.within)), None)
            if outer is not None and nodes[outer[2]].function == name:
                continue  # its body, by another name or as a part that the compiler made
            open_calls.append((here, len(c.within), len(nodes)))
            nodes.append(Node(name, c.context, outer[2] if outer is not None else -1))
            numbers.append(i)
        return numbers, Forest(nodes)

    def _model_forest(self) -> tuple[list[int], Forest]:
        """The model's steps whose function this kernel shows: their numbers, and their trees."""
        numbers: list[int] = []
        nodes: list[Node] = []
        node_of: dict[int, int] = {}
        for n, s in enumerate(self.tree.steps):
            if s.function not in self.seen or s.function in QUIET:
                continue
            at = s.parent
            while at >= 0 and at not in node_of and self.tree.steps[at].function not in BORDERS:
                at = self.tree.steps[at].parent
            outer = node_of.get(at, -1)
            if outer >= 0 and nodes[outer].context != s.context:
                outer = -1
            node_of[n] = len(nodes)
            nodes.append(Node(s.function, s.context, outer))
            numbers.append(n)
        return numbers, Forest(nodes)

    def _placed(self, i: int, c: KernelCall, n: int) -> bool:
        step = self.tree.steps[n]
        if step.context != c.context and step.function not in BORDERS:
            self._differs(i, step.function, "", f"the model does {step.function} in {step.context}")
            return False
        self.out.placed.append((i, n))
        return True

    def _why(self, chain: list[str], since: int) -> tuple[str, str, str]:
        """The function with which no step has the chain any more, what it stands in, and why."""
        for k in range(1, len(chain) + 1):
            if self.tree.find(chain[:k], -1) is None:
                where = f" within {chain[k - 2]}" if k > 1 else ""
                missing = "" if chain[k - 1] in self.tree.of else "; it is nowhere in the walk"
                outer = chain[k - 2] if k > 1 else ""
                return chain[k - 1], outer, f"the model's walk has no {chain[k - 1]}{where}{missing}"
        why = f"the model's walk has {chain[-1]} there only before {self.tree.steps[max(since, 0)].function}"
        return chain[-1], chain[-2] if len(chain) > 1 else "", why

    def _differs(self, i: int, function: str, within: str, why: str) -> None:
        if not any(d.why == why for d in self.out.differences):
            self.out.differences.append(Difference(i, function, within, why))


def compare(
    kernel: KernelWalk,
    steps: Iterable[Step],
    has: Collection[str] | None = None,
    out_of_line: Collection[str] | None = None,
) -> Comparison:
    """Compares a kernel's walk with a model's `steps`.

    `has` are the functions that the model has (default: by its registry); `out_of_line` those which the kernel has
    out of line (default: the walk's own list of what it has not, and what it shows).
    """
    steps = list(steps)
    if out_of_line is None:
        out_of_line = {s.function for s in steps} - set(kernel.inlined)
    return Comparer(kernel, steps, known_functions() if has is None else has).run(out_of_line)


def shipped(folder: Path) -> list[Path]:
    """The recorded walks in a folder."""
    return sorted(folder.glob("*.walk.json.gz"))


def read(path: Path) -> tuple[KernelWalk, set[str] | None]:
    """A recorded walk, and the functions which its kernel has out of line, if they lie beside it.

    Raises OSError and msgspec.ValidationError.
    """
    walk = KernelWalk.from_json(gzip.decompress(path.read_bytes()))
    functions = path.with_name(f"functions-{version_of(walk)}.txt.gz")
    if not functions.exists():
        return walk, None
    return walk, set(gzip.decompress(functions.read_bytes()).decode("ascii").split())


def version_of(walk: KernelWalk) -> str:
    """The kernel's version as profiles name it: 6.12."""
    return ".".join(walk.release.partition("-")[0].split(".")[:2])
