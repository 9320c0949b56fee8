"""The registry of scenarios: what every one of them has."""

import os
import re

import pytest

from conformance.live.errors import LabUnavailable
from conformance.live.lab import require_lab
from conformance.live.scenarios.registry import Scenario, load

ALL = sorted(load().values(), key=lambda s: s.name)


@pytest.mark.parametrize("s", ALL, ids=lambda s: s.name)
def test_a_scenario_is_one_or_two_sentences_about_hosts_that_exist(s: Scenario) -> None:
    assert re.fullmatch(r"[A-Z\w].{15,240}\.", s.says)
    assert s.layer in ("tcp", "neigh")
    assert s.vantage in s.hosts
    assert s.vantage not in s.raw
    assert set(s.raw) < set(s.hosts)
    for key in s.counts:
        host, counter = key.split(".", 1)
        assert host in s.hosts
        assert re.fullmatch(r"[A-Z]\w+\.\w+", counter)
    for told in s.announces:
        assert told.split()[0] in s.hosts


def test_there_are_at_least_seventy() -> None:
    assert len(ALL) >= 70


def test_ipv6_twins_say_so() -> None:
    twins = [s for s in ALL if s.name.endswith("_v6")]
    assert len(twins) >= 15
    assert all(s.family == 6 and s.says.endswith("Over IPv6.") for s in twins)


def test_without_root_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabUnavailable, match="needs root"):
        require_lab()
