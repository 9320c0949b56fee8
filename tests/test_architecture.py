"""Imports go one way, the specification does no I/O, and every rule is a cited sentence."""

import ast
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import conformance
import refmodel
import refmodel.layers
from refmodel.rule import MACHINES, PROPERTIES, RULES, STEPS, Effect
from refmodel.systems import CATALOGUE

ROOT = Path(refmodel.__file__).parent.parent
LAYERS = ("dev", "fib", "ip", "ip6", "neigh", "netfilter", "nic", "phy", "receive", "sched", "tcp")
# Where machines are put into surroundings for the search: the only modules that may join layers to the engine.
SYSTEMS = (
    "refmodel.systems",
    "refmodel.neigh_systems",
    "refmodel.nic.systems",
    "refmodel.sched.systems",
    "refmodel.tcp.systems",
)
IMPURE = ("socket", "os", "subprocess", "io", "pathlib", "random", "time", "asyncio", "threading", "logging")


def modules(package: ModuleType) -> Iterator[str]:
    yield package.__name__
    yield from (m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + "."))


SPECIFICATION = sorted(modules(refmodel))
ENGINE = [m for m in SPECIFICATION if m.startswith("refmodel.engine")]
PURE = [m for m in SPECIFICATION if m not in ENGINE]


def tree(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(module: str) -> set[str]:
    """What a module imports, as dotted names, wherever the import stands."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found |= {node.module or ""} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def within(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(p + ".") for p in packages)


@pytest.mark.parametrize("module", SPECIFICATION)
def test_the_specification_imports_no_harness(module: str) -> None:
    assert not [n for n in imports(module) if within(n, "conformance")]


@pytest.mark.parametrize("module", PURE)
def test_only_the_engine_knows_solvers_and_arrays(module: str) -> None:
    assert not [n for n in imports(module) if within(n, "z3", "hypothesis", "numpy", "rich", "click", "pytest")]


@pytest.mark.parametrize("module", PURE)
def test_the_specification_does_no_io_and_reads_no_clock(module: str) -> None:
    assert not [n for n in imports(module) if within(n, *IMPURE)]
    called = {n.func.id for n in ast.walk(tree(module)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not called & {"open", "print", "input", "exec", "eval", "compile", "__import__"}


@pytest.mark.parametrize("module", ENGINE)
def test_the_engine_knows_no_layer(module: str) -> None:
    layers = [f"refmodel.{x}" for x in (*LAYERS, "packet", "layers", "systems", "neigh_systems")]
    assert not [n for n in imports(module) if within(n, *layers)]


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_know_neither_each_other_nor_the_engine(layer: str) -> None:
    others = [f"refmodel.{x}" for x in LAYERS if x != layer] + ["refmodel.engine"]
    for module in (m for m in SPECIFICATION if within(m, f"refmodel.{layer}") and m not in SYSTEMS):
        known = [n for n in imports(module) if within(n, *others)]
        assert not [n for n in known if not (layer == "receive" and within(n, "refmodel.nic.napi"))], module


def test_the_foundation_knows_nothing_above_it() -> None:
    above = ("refmodel.engine", "refmodel.layers", "refmodel.systems", *(f"refmodel.{x}" for x in LAYERS))
    for module in (m for m in SPECIFICATION if within(m, "refmodel.rule", "refmodel.types", "refmodel.packet")):
        assert not [n for n in imports(module) if within(n, *above, "refmodel.profile")], module
    assert not [n for n in imports("refmodel.profile") if within(n, *above, "refmodel.packet")]
    assert not [n for n in imports("refmodel.rule") if within(n, "refmodel")]
    assert {n for n in imports("refmodel.types") if within(n, "refmodel")} == {"refmodel.rule", "refmodel.rule.pure"}


@pytest.mark.parametrize("package", [refmodel, conformance], ids=["refmodel", "conformance"])
def test_every_module_can_be_imported_and_says_what_it_is(package: ModuleType) -> None:
    optional = {"pyshark", "pyroute2"}
    for name in sorted(modules(package)):
        doc = ast.get_docstring(tree(name))
        assert doc or not tree(name).body, f"{name} has no text"
        if name.rsplit(".", 1)[-1] != "__main__" and not imports(name) & optional:
            importlib.import_module(name)


@pytest.mark.parametrize("ident", sorted(RULES))
def test_a_rule_is_a_cited_sentence(ident: str) -> None:
    r = RULES[ident]
    assert r.says.endswith((".", "!", "?")), r.says
    assert r.says[0].isupper() or not r.says[0].isalpha() or "_" in r.says.split()[0] or "(" in r.says.split()[0]
    assert r.kernel
    for cite in r.kernel:
        path, function = cite.rsplit(":", 1)
        assert path.endswith((".c", ".h")), cite
        assert not function.isdigit(), f"{cite}: a function, not a line"
    for cite in r.rfc:
        assert cite.split()[0] in ("RFC", "IEEE"), cite


@pytest.mark.parametrize("ident", sorted(STEPS))
def test_a_step_is_a_cited_sentence(ident: str) -> None:
    assert STEPS[ident].says.endswith(".")
    assert STEPS[ident].kernel


def test_every_property_is_a_sentence() -> None:
    assert [q.id for q in PROPERTIES.values() if not q.says.endswith(".")] == []


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_a_machine_names_the_modules_of_its_rules(name: str) -> None:
    m = MACHINES[name]
    assert m.rules
    assert {r.fn.__module__ for r in m.rules} <= set(m.modules)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_effect_names_the_rule_or_step_that_made_it(name: str) -> None:
    system = CATALOGUE[name].build()
    seen = 0
    for c in system.components:
        todo, known = [c.start], {c.start}
        while todo and len(known) < 60:
            s = todo.pop(0)
            for e, _ in c.moves(s, c.budget):
                taken = c.apply(s, e)
                for x in taken.effects:
                    assert x.by in RULES or x.by in STEPS, f"{x} of {taken.rule}"
                    seen += 1
                if taken.state is not None and taken.state not in known:
                    known.add(taken.state)
                    todo.append(taken.state)
    assert seen


def test_no_effect_is_made_once_and_used_twice() -> None:
    """An effect is stamped with its maker in place, so a constant one would carry its first maker's name for ever."""
    for name, module in tuple(sys.modules.items()):
        if within(name, "refmodel"):
            assert not [k for k, v in vars(module).items() if isinstance(v, Effect)], name
