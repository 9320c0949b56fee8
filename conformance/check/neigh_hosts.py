"""The hosts of a capture as neighbour resolution needs them.

Their link-layer addresses over time, network addresses and sysctls, and what their administrators did.
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from itertools import pairwise
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from conformance.check.frontier import Apply
from conformance.check.neigh_frames import ArpSight, NaSight, NsSight, Sight, link_local
from conformance.check.neigh_guess import NOTE_LATE, Administered, Ways
from conformance.check.neigh_half import Watch
from conformance.check.setup import Call, Host, Setup
from conformance.check.verdict import Divergence, FrameLabel
from refmodel.engine.run import pick
from refmodel.neigh.arp import ArpParms, ArpReply
from refmodel.neigh.ndisc import NaOut, NdiscParms
from refmodel.neigh.netlink import NewNeigh
from refmodel.neigh.parms import Family, NeighParms, parms
from refmodel.neigh.types import NUD
from refmodel.profile import Profile
from refmodel.rule import MACHINES
from refmodel.types import NEVER

# How much longer (us) a frame may take through a relay or a qdisc: a full queue at a low rate holds it this long.
PATH: Final = 1_000_000
PATIENCE: Final = 2_000_000  # us: how long a command may run if the sidecar doesn't say when it returned

_NEIGH = re.compile(r"ip neigh (add|replace|change|del) (\S+)(.*)")
_ADDRESS = re.compile(r"ip link set (\S+) address ([0-9a-f:]{17})")
_UP = re.compile(r"ip link set (\S+) up")
_ADDR = re.compile(r"ip addr add ([0-9a-f.:]+)/\d+ dev (\S+)")
_LOSES = re.compile(r"wire loses: (.*)")


class Place(Struct, frozen=True):
    """Where a tap is: for which hosts it judges, and what is between it and each.

    `elsewhere` names the hosts that another tap judges; `path` is in us; `lossy` hosts had frames dropped on that path.
    `onlink` are the addresses of the tap's link (None: every address is), `others` a host's on other links, `gateways`
    the next hops of what is not on the link.
    """

    elsewhere: frozenset[str] = frozenset()
    path: dict[str, int] = field(default_factory=dict)
    lossy: frozenset[str] = frozenset()
    onlink: frozenset[bytes] | None = None
    gateways: dict[str, bytes] = field(default_factory=dict)
    others: dict[str, frozenset[bytes]] = field(default_factory=dict)

    def of(self, host: str) -> tuple[bool, int, bool]:
        """Whether `host` is judged here, how long its frames take to the tap at most (us), whether some were lost."""
        return host not in self.elsewhere, self.path.get(host, 0), host in self.lossy

    def next_hop(self, host: str, address: bytes) -> bytes:
        """The address that `host` resolves for a packet to `address`."""
        if self.onlink is None or address in self.onlink or address[:2] == b"\xfe\x80":
            return address
        return self.gateways.get(host, address)


class Owing:
    """An answer that a host owes for request `number` until `due` (us); `asker` and `target` are network addresses."""

    def __init__(
        self,
        number: int,
        due: int,
        effect: ArpReply | NaOut,
        rule: str,
        asker: bytes,
        target: bytes,
        watch: Watch | None,
    ) -> None:
        self.number, self.due, self.effect, self.rule = number, due, effect, rule
        self.asker, self.target, self.watch = asker, target, watch


class Party:
    """A host: what it is, its entries, and the answers that it owes."""

    def __init__(
        self,
        setup: Setup,
        host: Host | None,
        name: str,
        hw: int,
        judged: bool = True,
        path: int = 0,
        lossy: bool = False,
    ) -> None:
        """`judged`: here and at no other tap; `path` (us) and `lossy`: what is between it and the tap, as in Ways."""
        self.name, self.setup = name, setup
        self.told = host is not None
        self.crafted = host is not None and not host.linux
        self.linux = not self.crafted and judged
        self.path, self.lossy = path, lossy
        self.late = setup.late + path
        self.here: set[bytes] = set(host.addresses) if host is not None else set()
        self.elsewhere: set[bytes] = set()
        self.tentative: dict[bytes, int] = {}
        self.macs: list[tuple[int, int, int]] = [(0, NEVER, hw)]
        self.ups: list[tuple[int, int]] = []
        self.watches: dict[bytes, Watch] = {}
        self.parms: dict[Family, NeighParms] = {}
        self.owed: list[Owing] = []
        self.doubts: dict[tuple[bytes, bytes], list[Owing]] = {}
        self.labels: list[FrameLabel] = []
        self.ended: Divergence | None = None
        self.admin: dict[bytes, list[Administered]] = {}
        self.confirms_any = host is None
        if any(len(a) == 16 for a in self.here):
            self.here.add(link_local(hw))
        base = setup.profile_of(host)
        extended = {k.replace(".conf.default.", ".conf.all."): v for k, v in base.sysctls.items()}
        self.profile = Profile(base.kernel, base.hz, {**base.sysctls, **extended})
        self.arp = self.profile.params(ArpParms)
        self.ndisc = self.profile.params(NdiscParms)
        self.dad = base.sysctls.get("net.ipv6.conf.default.dad_transmits", 1) > 0
        self.upheavals = tuple(
            (c.time, (c.returned or c.time) + PATIENCE) for c in setup.calls if c.call.startswith("ip link set")
        )
        for c in setup.calls:
            if c.host == name:
                self._call(c)

    def _call(self, c: Call) -> None:
        until = c.returned or c.time + PATIENCE
        if "MSG_CONFIRM" in c.call:
            self.confirms_any = True
        if not c.result.startswith("0"):
            return
        if m := _NEIGH.match(c.call):
            dst = ip_address(m[2]).packed
            self.admin.setdefault(dst, []).append(Administered(c.time, until + NOTE_LATE, _request(m[1], m[3])))
        elif m := _ADDRESS.match(c.call):
            hw = int(m[2].replace(":", ""), 16)
            since, _, old = self.macs.pop()
            self.macs += [(since, until, old), (c.time, NEVER, hw)]
        elif _UP.match(c.call):
            self.ups.append((c.time, until))
        elif m := _ADDR.match(c.call):
            self._takes(ip_address(m[1]).packed, m[2], c.time)

    def _takes(self, address: bytes, device: str, time: int) -> None:
        if device == "lo":
            self.elsewhere.add(address)
            self.here.discard(address)
            return
        self.here.add(address)
        if len(address) == 16 and self.dad:
            self.tentative[address] = time

    def mac_at(self, t: int) -> int:
        """The link-layer address at `t`: the newest."""
        return next(hw for since, _, hw in reversed(self.macs) if since <= t)

    def may_send_from(self, hw: int, t: int, late: int) -> bool:
        """Whether `hw` may be the host's own address at `t`."""
        return any(since <= t <= until + late and hw == m for since, until, m in self.macs)

    def is_tentative(self, address: bytes, t: int) -> bool:
        """The address was taken, and detection of duplicates may not be over."""
        return address in self.tentative and self.tentative[address] <= t

    def may_announce(self, t: int, notify: bool) -> bool:
        """The device came up or changed its address lately, and the host says so."""
        if not self.told:
            return True
        lately = any(since <= t <= until + PATIENCE for since, until in self.ups)
        changed = any(0 < since <= t <= since + PATIENCE for since, _, _ in self.macs)
        return notify and (lately or changed)

    def watch(self, address: bytes) -> Watch:
        """The entry of `address`, made if there is none."""
        found = self.watches.get(address)
        if found is None:
            family = Family.INET if len(address) == 4 else Family.INET6
            params = self.parms.get(family)
            if params is None:
                params = self.parms[family] = parms(self.profile, family, dev_addr=self.macs[0][2])
            noted = self.told and (bool(self.setup.notifications) or self.setup.layer == "neigh")
            machine = dispatch("neigh", self.setup.kernel)
            ways = Ways(machine, params, self.setup.hz, self.late, noted, self.upheavals, self.path, self.lossy)
            subject = f"{self.name}: {ip_address(address)}"
            admin = tuple(self.admin.get(address, ()))
            found = self.watches[address] = Watch(self.name, subject, ways, not noted, admin)
        return found


def concerns(p: Party, x: Sight) -> bool:
    """Whether a frame matters to a host that only the capture tells of: it is asked, or knows the asker."""
    if p.owed:
        return True
    if isinstance(x, ArpSight):
        return x.tip in p.here or x.sip in p.watches or x.sip in p.here
    if isinstance(x, NsSight):
        return x.target in p.here or x.saddr in p.watches
    return isinstance(x, NaSight) and (x.target in p.watches or x.target in p.here)


def _request(verb: str, rest: str) -> NewNeigh | None:
    if verb == "del":
        return None
    words = rest.split()
    given = dict(pairwise(words))
    state = NUD[given["nud"].upper()] if "nud" in given else NUD.PERMANENT
    lladdr = given.get("lladdr", "")
    return NewNeigh(
        0,
        state if "use" not in words and "managed" not in words else NUD.NONE,
        lladdr=int(lladdr.replace(":", ""), 16) if lladdr else 0,
        has_lladdr=bool(lladdr),
        create=verb != "change",
        excl=verb == "add",
        replace=verb != "add",
        use="use" in words,
        managed="managed" in words,
        router="router" in words,
    )


def losses(calls: Iterable[Call]) -> Iterator[tuple[int, int]]:
    """When (us) the wire lost frames of neighbour resolution, as the sidecar says."""
    start = -1
    for c in calls:
        m = _LOSES.match(c.call)
        if m is None:
            continue
        if start >= 0:
            yield start, (c.returned or c.time + PATIENCE)
        start = c.time if "arp" in m[1] or "nd-" in m[1] or "icmpv6" in m[1] else -1
    if start >= 0:
        yield start, NEVER


def own_parms(party: Party, t: int) -> tuple[ArpParms, NdiscParms]:
    """The receivers' parameters with the device's address as it is at `t`."""
    hw = party.mac_at(t)
    return replace(party.arp, dev_addr=hw), replace(party.ndisc, dev_addr=hw)


_PICKED: dict[tuple[str, str], Apply] = {}


def dispatch(machine: str, kernel: str) -> Apply:
    """The run engine's `apply` over a machine's rules as of `kernel`, made once."""
    found = _PICKED.get((machine, kernel))
    if found is None:
        found = _PICKED[machine, kernel] = pick(MACHINES[machine], kernel).apply
    return found
