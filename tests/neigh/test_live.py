"""The running kernel and the machine, side by side: the same events, the same frames, notices and states.

The machine is fed at the times at which the test acts, and its timer when the kernel's shows.
"""

import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from refmodel.engine.run import pick
from refmodel.neigh import NEIGH
from refmodel.neigh.entry import Entry
from refmodel.neigh.netlink import NewNeigh, neigh_add
from refmodel.neigh.parms import Family, NdParms, NeighParms
from refmodel.neigh.types import (
    NUD,
    Create,
    Delete,
    Flush,
    How,
    Msg,
    Neigh,
    Notify,
    Override,
    SendQueued,
    Solicit,
    Timer,
    Transmit,
    Update,
)
from tests.neigh.lab import (
    BROADCAST,
    DEV,
    HOST,
    HOST_MAC,
    OTHER_MAC,
    PEER,
    PEER6,
    PEER_MAC,
    Lab,
    mac,
    ok,
    run,
)

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"),
]

SKB = 768
SYSCTLS = {"retrans_time_ms": "200", "delay_first_probe_time": "1", "unres_qlen_bytes": "212992"}
FAST: dict[str, Any] = {"retrans_time": 200_000, "delay_probe_time": 1_000_000}


def now() -> int:
    return time.monotonic_ns() // 1_000


class Twins:
    """The kernel's entry and the machine's; `says` of each are compared after every act."""

    def __init__(self, lab: Lab, family: Family = Family.INET) -> None:
        self.lab = lab
        self.to = PEER if family == Family.INET else PEER6
        self.model = Entry((NeighParms if family == Family.INET else NdParms)(**FAST), pick(NEIGH, check=True).apply)

    def feed(self, e: Any) -> tuple[Any, ...]:
        return self.model.feed(e)[1]

    def create(self) -> None:
        self.feed(Create(now()))

    @property
    def expected(self) -> NUD | None:
        return self.model.state.nud_state if isinstance(self.model.state, Neigh) else None

    def agree(self, effects: tuple[Any, ...]) -> None:
        """The kernel's state and notices are the machine's."""
        told = [
            (x.msg, x.nud_state, x.ha if x.has_lladdr else None, x.probes) for x in effects if isinstance(x, Notify)
        ]
        heard = [(x.msg, x.state, x.lladdr, x.probes) for x in self.lab.notices(len(told), to=self.to)]
        assert heard == told
        assert self.lab.state(self.to) == self.expected

    def send(self, n: int = 1) -> tuple[Any, ...]:
        self.lab.send(n, to=self.to)
        effects: tuple[Any, ...] = ()
        for _ in range(n):
            effects += self.model.output(now(), SKB)[1]
        return effects

    def admin(self, verb: str, *words: str, **request: Any) -> tuple[Any, ...]:
        """`ip neigh`, with NLM_F_REPLACE or as `change` sets it."""
        exists = isinstance(self.model.state, Neigh)
        assert self.lab.neigh(verb, *words, to=self.to) == 0
        err, events = neigh_add(NewNeigh(now(), replace=True, **request), exists)
        assert err == 0
        return tuple(x for e in events for x in self.feed(e))

    def known(self, kind: str, state: NUD) -> tuple[Any, ...]:
        """An administrator gives the peer's address."""
        return self.admin("replace", "lladdr", mac(PEER_MAC), "nud", kind, state=state, lladdr=PEER_MAC)

    def timer(self) -> tuple[Any, ...]:
        """Waits until the kernel's timer shows, on the wire or in a notice."""
        due = self.model.deadline
        assert self.lab.stirs(max(0.0, (due - now()) / 1e6) * 1.25 + 0.5)
        return self.feed(Timer(max(due, now())))

    def reply(self, lladdr: int = PEER_MAC) -> tuple[Any, ...]:
        self.lab.arp(2, HOST_MAC, lladdr, PEER, HOST_MAC, HOST)
        return self.feed(Update(now(), NUD.REACHABLE, lladdr=lladdr, override=Override.AFTER_LOCKTIME))

    def request(self, lladdr: int = PEER_MAC) -> tuple[Any, ...]:
        self.lab.arp(1, BROADCAST, lladdr, PEER, 0, HOST)
        return self.feed(Update(now(), NUD.STALE, lladdr=lladdr, override=Override.YES))


@pytest.fixture
def twins() -> Iterator[Twins]:
    with Lab(SYSCTLS) as lab:
        t = Twins(lab)
        t.create()
        yield t


def broadcasts(t: Twins, seconds: float) -> int:
    return sum(x.dst == BROADCAST for x in t.lab.arps(seconds))


def test_resolution_that_nobody_answers(twins: Twins) -> None:
    effects = twins.send(2)
    asked = sum(isinstance(x, Solicit) for x in effects)
    assert broadcasts(twins, 0.05) == asked == 1
    twins.agree(effects)
    while twins.expected == NUD.INCOMPLETE:
        effects = twins.timer()
        asked += sum(isinstance(x, Solicit) for x in effects)
        twins.agree(effects)
    assert asked == 3
    assert broadcasts(twins, 0.05) == 2


def test_resolution_probe_and_failure(twins: Twins) -> None:
    twins.agree(twins.send(2))
    twins.agree(effects := twins.reply())
    sent = [f for f in twins.lab.frames(0.1) if f[12:14] == b"\x08\0"]
    assert len(sent) == sum(x.n for x in effects if isinstance(x, SendQueued)) == 2
    twins.agree(twins.admin("change", "nud", "stale", state=NUD.STALE, has_lladdr=False))
    twins.agree(effects := twins.send())
    assert any(isinstance(x, Transmit) for x in effects)
    twins.lab.frames(0.02)
    unicast = 0
    while twins.expected in (NUD.DELAY, NUD.PROBE):
        effects = twins.timer()
        unicast += sum(x.how == How.UNICAST for x in effects if isinstance(x, Solicit))
        twins.agree(effects)
    assert sum(x.dst == PEER_MAC for x in twins.lab.arps(0.05)) == unicast == 3


def test_a_request_while_a_packet_waits_is_told_as_delay(twins: Twins) -> None:
    twins.send()
    effects = twins.request()
    assert [x.nud_state for x in effects if isinstance(x, Notify)] == [NUD.DELAY]
    twins.agree(effects)


def test_a_confirmation_ends_delay_without_a_question(twins: Twins) -> None:
    twins.agree(twins.request())
    twins.agree(twins.send())
    twins.agree(twins.reply())
    assert twins.expected == NUD.REACHABLE


def test_within_locktime_another_answer_confirms_the_old_address(twins: Twins) -> None:
    twins.agree(twins.request())
    twins.agree(twins.reply(OTHER_MAC))
    assert twins.expected == NUD.STALE
    assert twins.lab.confirmed() == 0
    time.sleep(1.1)
    twins.agree(twins.reply(OTHER_MAC))
    assert twins.lab.state() == NUD.REACHABLE


def test_set_to_incomplete_by_hand_it_never_asks(twins: Twins) -> None:
    twins.agree(twins.known("reachable", NUD.REACHABLE))
    twins.agree(twins.admin("change", "nud", "incomplete", state=NUD.INCOMPLETE, has_lladdr=False))
    twins.agree(twins.send(2))
    assert twins.lab.arps(1.5) == []
    twins.agree(twins.reply())


def test_set_to_none_by_hand_it_keeps_what_waits(twins: Twins) -> None:
    twins.agree(twins.send(2))
    twins.agree(twins.admin("change", "nud", "none", state=NUD.NONE, has_lladdr=False))
    assert broadcasts(twins, 1.0) == 1
    twins.agree(effects := twins.reply())
    sent = [f for f in twins.lab.frames(0.1) if f[12:14] == b"\x08\0"]
    assert len(sent) == sum(x.n for x in effects if isinstance(x, SendQueued)) == 2


def test_a_used_permanent_entry_is_asked_for_anew(twins: Twins) -> None:
    twins.agree(twins.known("permanent", NUD.PERMANENT))
    twins.agree(twins.admin("replace", "use", state=NUD.NONE, has_lladdr=False, use=True))
    assert twins.expected == NUD.INCOMPLETE


def test_deletion_is_told_twice(twins: Twins) -> None:
    twins.agree(twins.request())
    assert twins.lab.neigh("del") == 0
    effects = twins.feed(Delete(now()))
    assert [x.msg for x in effects if isinstance(x, Notify)] == [Msg.NEWNEIGH, Msg.DELNEIGH]
    twins.agree(effects)


@pytest.mark.parametrize("keeps", [True, False])
def test_what_outlives_the_carrier_and_what_the_device(twins: Twins, keeps: bool) -> None:
    kind = "permanent" if keeps else "stale"
    state = NUD.PERMANENT if keeps else NUD.STALE
    twins.agree(twins.known(kind, state))
    ok("ip", "-n", twins.lab.b, "link", "set", DEV, "down")
    twins.agree(twins.feed(Flush(now(), skip_perm=True)))
    if keeps:
        ok("ip", "-n", twins.lab.a, "link", "set", DEV, "down")
        twins.agree(twins.feed(Flush(now())))


def test_a_full_queue_sends_its_newest() -> None:
    with Lab(SYSCTLS | {"unres_qlen_bytes": "3000"}) as lab:
        lab.send(6)
        lab.arp(2, HOST_MAC, PEER_MAC, PEER, HOST_MAC, HOST)
        sent = [f for f in lab.frames(0.1) if f[12:14] == b"\x08\0"]
    assert len(sent) == 3000 // SKB


def test_without_anybody_to_ask_the_entry_fails_in_silence(twins: Twins) -> None:
    twins.lab.sysctl(mcast_solicit="0")
    twins.model.parms = NeighParms(mcast_probes=0, **FAST)
    twins.agree(twins.send())
    assert twins.expected == NUD.FAILED


def test_discovery_flags() -> None:
    with Lab(SYSCTLS) as lab:
        t = Twins(lab, Family.INET6)
        t.create()
        t.agree(t.send())
        for router, solicited, override, lladdr in (
            (False, True, True, PEER_MAC),
            (True, True, False, PEER_MAC),
            (False, True, False, OTHER_MAC),
            (False, True, False, OTHER_MAC),
            (False, False, True, OTHER_MAC),
            (False, True, True, OTHER_MAC),
        ):
            lab.advertise(lladdr, router, solicited, override)
            heard = Update(
                now(),
                NUD.REACHABLE if solicited else NUD.STALE,
                lladdr=lladdr,
                override=Override.YES if override else Override.NO,
                weak_override=True,
                override_isrouter=True,
                isrouter=router,
            )
            t.agree(t.feed(heard))


def test_namespaces_are_gone_afterwards() -> None:
    with Lab() as lab:
        names = (lab.a, lab.b)
    left = run("ip", "netns", "list").stdout.split()
    assert not set(names) & set(left)
