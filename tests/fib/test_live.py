"""Routing against the running kernel: small runs of the differentials with fixed seeds; and they see a fault."""

import os
import shutil
from collections.abc import Callable

import pytest

from conformance.differential import fib, fib6, fib_paths, fib_trace
from refmodel.fib import lookup, route, saddr, select
from refmodel.fib.leaf import Alias, Look, LookupParams, alias_look
from refmodel.fib.net import Fib
from refmodel.fib.types import Route

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs iproute2"),
]


def test_ipv4_answers_refusals_and_tables_are_the_kernel_s() -> None:
    tally = fib.run(400, 1)
    assert tally.differences == []
    assert tally.counts["answered"] > 100
    assert tally.counts["refused"] > 50


def test_ipv6_answers_and_tables_are_the_kernel_s() -> None:
    tally = fib6.run(300, 1)
    assert tally.differences == []
    assert tally.counts["answered"] > 80


def test_path_mtus_and_redirects_are_the_kernel_s() -> None:
    tally = fib_paths.run(300, 1)
    assert tally.differences == []
    assert tally.counts["taught"] > 100


@pytest.mark.skipif(not fib_trace.TRACING.joinpath("events/fib").is_dir(), reason="needs the tracepoints of fib")
def test_the_lookups_themselves_are_the_kernel_s() -> None:
    tally = fib_trace.run(200, 1)
    assert tally.differences == []
    assert tally.counts["lookup"] > 300


def any_scope(a: Alias, p: LookupParams) -> Look:
    look = alias_look(a, p)
    return Look.TRY if look is Look.SCOPE else look


def any_generation(net: Fib, rt: Route | None) -> bool:
    return rt is not None and not rt.obsolete


@pytest.mark.parametrize(
    ("run", "module", "name", "fault"),
    [
        (fib.run, lookup, "alias_look", any_scope),
        (fib.run, saddr, "in_dev_select_addr", lambda in_dev, scope: 0),
        (fib.run, select, "fib_multipath_hash", lambda net, fl4, skb: 0),
        (fib_paths.run, route, "rt_cache_valid", any_generation),
    ],
    ids=["every scope will do", "no other device's address", "always the first nexthop", "stale routes"],
)
def test_a_fault_of_the_model_is_seen(
    run: Callable[..., fib.Tally], module: object, name: str, fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, fault)
    assert run(3000, 1, stop=1).differences
