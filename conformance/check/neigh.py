"""Neighbours of a capture: each Linux host's entries, and its answers, held to the specification frame by frame.

Where the tap is decides who is judged: of the tapped host everything is seen, of another host only what it says to the
tapped one. Without a sidecar each sender is taken for a Linux host with the defaults, and an answer
that is missing is not judged: nobody said which addresses a host has.
"""

from collections import Counter, deque
from collections.abc import Collection, Sequence
from ipaddress import ip_address
from typing import Any, Final

from conformance.check.frontier import Dead
from conformance.check.neigh_fields import announcement_differs, answer_differs, arp_differs, line, ns_differs
from conformance.check.neigh_frames import (
    ARP_REQUEST,
    ArpSight,
    IpSight,
    NaSight,
    NdSight,
    NsSight,
    Sight,
    arp_in,
    is_group,
    mac,
    na_in,
    ns_in,
    number,
    sight,
    unmodelled_class,
)
from conformance.check.neigh_half import Watch
from conformance.check.neigh_hosts import PATH, Owing, Party, Place, concerns, dispatch, losses, own_parms
from conformance.check.setup import Setup, SidecarError
from conformance.check.tcp import words
from conformance.check.verdict import Divergence, FrameLabel, NearMiss, Outcome, Verdict
from conformance.frames import Frame
from refmodel.neigh.arp import ArpReply, Interface, Learn
from refmodel.neigh.ndisc import DadFailure, Interface6, NaOut
from refmodel.packet import ACK, LINKTYPE_ETHERNET, Packet, Segment

AROUND: Final = 7
LINKS: Final = 65_536
LABELS: Final = 20_000
PARTIES: Final = 256  # hosts that are followed where no sidecar names any
WATCHES: Final = 8_192  # their entries
DAD: Final = "duplicate address detection"
ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")


class Link:
    """Two network addresses between which TCP flows: the sender's entry for the receiver, and the other way round."""

    def __init__(self, out: Watch | None, back: Watch | None) -> None:
        self.out, self.back = out, back


class Neighbours:
    """All entries of all judged hosts."""

    def __init__(self, setup: Setup, place: Place | None = None) -> None:
        """Raises SidecarError for a call or a notification that names no address. `place`: where the tap is."""
        self.setup = setup
        self.place = place or Place()
        try:
            self.parties = [Party(setup, h, h.name, number(h.mac), *self.place.of(h.name)) for h in setup.hosts]
            self.about = {n.dst: ip_address(n.dst).packed for n in setup.notifications}
        except (ValueError, KeyError) as why:
            raise SidecarError(f"the sidecar's calls or notifications cannot be read: {why}") from why
        for p in self.parties:
            p.elsewhere |= self.place.others.get(p.name, frozenset())
        self.by_mac = {hw: p for p in self.parties for _, _, hw in p.macs}
        self.crafted = next((p for p in self.parties if p.crafted), None)
        self.near = next((p for p in self.parties if p.name == setup.near), None)
        self.lossy = tuple(losses(setup.calls)) if setup.hosts else ((0, 1 << 62),)
        self.by_name = {p.name: p for p in self.parties}
        self.notes = sorted(setup.notifications, key=lambda n: n.time)
        self.told = 0
        self.next_note = self.notes[0].time if self.notes else 1 << 62
        self.links: dict[tuple[bytes, bytes], Link | None] = {}
        self.asked: dict[bytes, ArpSight | NsSight] = {}
        self.recent: deque[Sight] = deque(maxlen=AROUND)
        self.counts: Counter[str] = Counter()
        self.stranger: Divergence | None = None
        self.last = 0, 0
        self.room = LABELS
        self.watched = 0
        self.crowded = False  # more hosts or entries than are followed

    # -- frames

    def frame(self, f: Frame, packet: Packet | Segment) -> None:
        """Takes the next frame, decoded: TCP flat as a Segment, anything else as a Packet."""
        t = f.time // 1000
        if t > self.next_note:
            self._tell(t)
        if isinstance(packet, Segment):
            self._segment(f, packet, t)
            return
        self.last = f.number, t
        found = unmodelled_class(packet)
        if found:
            self.counts[found] += 1
        if f.linktype != LINKTYPE_ETHERNET:
            return
        x = sight(f.number, t, packet)
        if x is not None and x.src:
            self.recent.append(x)
            self._spread(x)

    def _segment(self, f: Frame, s: Segment, t: int) -> None:
        key = s.saddr, s.daddr
        try:
            link = self.links[key]
        except KeyError:
            link = self._link(s)
        if link is None:
            return
        back = link.back
        if back is not None and s.flags & ACK:
            back.acked = True
        w = link.out
        if w is None or w.ended is not None:
            return
        if w.unknown or (t <= w.quick_until and s.data[0:6] == w.quick_mac):
            w.passes(t)
            return
        self.last = f.number, t
        if not s.data[0] & 1:
            x = IpSight(
                number=f.number,
                time=t,
                dst=number(s.data[0:6]),
                src=number(s.data[6:12]),
                saddr=s.saddr,
                daddr=s.daddr,
                tcp=True,
            )
            self.recent.append(x)
            self._packet(w, x, w.acked, False)
            w.acked = False

    def _link(self, s: Segment) -> Link | None:
        if len(self.links) >= LINKS:
            self.links.clear()
        link = None
        if s.linktype == LINKTYPE_ETHERNET and s.data[6:12] != bytes(6):
            sender, receiver = self._party(number(s.data[6:12])), self._party(number(s.data[0:6]))
            out = self._onlink(sender, s.daddr)
            back = self._onlink(receiver, s.saddr)
            link = Link(out, back) if out is not None or back is not None else None
        self.links[s.saddr, s.daddr] = link
        return link

    def _party(self, hw: int) -> Party | None:
        p = self.by_mac.get(hw)
        if p is None and self.crafted is not None:
            return self.crafted
        if p is None and not self.setup.hosts and hw and not is_group(hw) and len(self.parties) < PARTIES:
            p = self.by_mac[hw] = Party(self.setup, None, mac(hw), hw, path=PATH)
            self.parties.append(p)
        return p

    def _onlink(self, p: Party | None, address: bytes) -> Watch | None:
        """The entry that a packet of `p` to `address` goes through, if the capture tells."""
        if p is None:
            return None
        address = self.place.next_hop(p.name, address)
        if not self._judges(p, address):
            return None
        if address in p.watches:
            return p.watches[address]
        there = any(address in q.here or address in q.elsewhere for q in self.parties if q is not p)
        return self._watch(p, address) if p.told and there else None

    def _judges(self, p: Party, address: bytes) -> bool:
        if not p.linux or address in p.here or address[0] == 0xFF:
            return False
        if not p.told and self.watched >= WATCHES and address not in p.watches:
            self.crowded = True
            return False
        near = self.near
        return near is None or p is near or len(self.parties) == 2 or address in near.here or address in near.elsewhere

    def _watch(self, p: Party, address: bytes) -> Watch:
        if address not in p.watches:
            self.links.clear()
            self.watched += 1
        return p.watch(address)

    def _spread(self, x: Sight) -> None:
        sender = self._party(x.src)
        if sender is None:
            self._stranger(x)
            return
        if not sender.told:
            self._meets(sender, x)
            self._remember(x)
        if sender.linux and sender.ended is None:
            self._expire(sender, x.time)
            self._sends(sender, x)
        group = is_group(x.dst)
        for p in tuple(self.parties):
            if p is not sender and p.linux and (p.told or concerns(p, x)) and (group or x.dst == p.mac_at(x.time)):
                self._hears(p, x)

    def _meets(self, p: Party, x: Sight) -> None:
        """Without a sidecar, a host has the addresses that it speaks for."""
        if isinstance(x, ArpSight) and x.sha == x.src and any(x.sip):
            p.here.add(x.sip)
        elif isinstance(x, NaSight):
            p.here.add(x.target)
        elif isinstance(x, NsSight) and any(x.saddr):
            p.here.add(x.saddr)

    def _remember(self, x: Sight) -> None:
        if len(self.asked) >= LINKS:
            self.asked.clear()
        if isinstance(x, ArpSight) and x.op == ARP_REQUEST:
            self.asked[x.tip] = x
        elif isinstance(x, NsSight):
            self.asked[x.target] = x

    def _stranger(self, x: Sight) -> None:
        if not self.setup.hosts and len(self.parties) >= PARTIES:
            self.crowded = True
        elif self.stranger is None and not isinstance(x, IpSight):
            self.stranger = self._divergence(x, "", f"no host of the capture has {mac(x.src)}: {line(x)}", ())

    # -- what a host sends

    def _sends(self, p: Party, x: Sight) -> None:
        if isinstance(x, IpSight):
            w = None if is_group(x.dst) else self._onlink(p, x.daddr)
            if w is not None and w.ended is None:
                self._packet(w, x, p.confirms_any, True)
            return
        if p.told and not p.may_send_from(x.src, x.time, p.late):
            self._party_diverges(p, x, f"{mac(p.mac_at(x.time))} is its link-layer address", "")
        elif isinstance(x, ArpSight):
            self._sends_arp(p, x)
        elif isinstance(x, NsSight):
            if any(x.saddr):
                self._asks(p, x, x.target, ns_differs)
            else:
                self._label(p, x, "", "duplicate address detection")
        elif isinstance(x, NaSight):
            self._answers(p, x)

    def _sends_arp(self, p: Party, x: ArpSight) -> None:
        if x.op == ARP_REQUEST and x.sip == x.tip and x.sip in p.here:
            if p.may_announce(x.time, p.arp.arp_notify):
                why = announcement_differs(x)
                if why:
                    self._party_diverges(p, x, why, "neigh.arp.announces")
                else:
                    self._label(p, x, "neigh.arp.announces", "the device came up or changed its address")
            else:
                self._party_diverges(
                    p, x, "it announces its address only with arp_notify, after a change", "neigh.arp.announces"
                )
        elif x.op == ARP_REQUEST:
            self._asks(p, x, x.tip, arp_differs)
        else:
            self._answers(p, x)

    def _asks(self, p: Party, x: ArpSight | NdSight, target: bytes, compare: Any) -> None:
        if not self._judges(p, target):
            if target in p.here:
                self._party_diverges(p, x, "nobody asks for its own address", "")
            elif not any(q for q in self.parties if q.crafted):
                self._label(p, x, "", "behind the tap: not judged")
            return
        w = self._watch(p, target)
        if w.ended is None:
            local = p.here | p.elsewhere
            unicast = -1 if is_group(x.dst) else x.dst
            if not w.solicit(x.number, x.time, unicast, lambda e: compare(e, x, local)):
                self._diverge(w, x, f"{p.name} does not send {line(x)}")

    def _packet(self, w: Watch, x: IpSight, confirms: bool, label: bool) -> None:
        """Labels are given to the first LABELS packets: memory must not grow with the capture."""
        self.room -= label
        label = label and self.room >= 0
        if not label and not confirms and x.time <= w.quick_until and x.dst == number(w.quick_mac):
            w.passes(x.time)
        elif not w.output(x.number, x.time, x.dst, label, confirms):
            self._diverge(w, x, f"{w.host} does not send {line(x)}")

    def _answers(self, p: Party, x: ArpSight | NaSight) -> None:
        near: list[NearMiss] = []
        self._late_acquaintance(p, x)
        for k, o in enumerate(p.owed):
            why = answer_differs(o.effect, x)
            if not why and p.lossy and o.watch is not None and not o.watch.may_have_taken(o.number):
                why = f"frame {o.number} was lost"
            if not why:
                del p.owed[k]
                p.doubts.pop((o.asker, o.target), None)
                self._label(p, x, o.rule, f"answers frame {o.number}")
                if o.watch is not None and o.watch.ended is None and not o.watch.settle(o.number, True):
                    self._diverge(o.watch, x, f"{p.name} does not send {line(x)}")
                if isinstance(x, NaSight) and x.daddr[0] != 0xFF:
                    self._through(p, x)
                return
            near.append(NearMiss(o.rule, why))
        if isinstance(x, NaSight) and x.daddr == ALL_NODES and not x.solicited and x.target in p.here:
            if p.may_announce(x.time, p.ndisc.ndisc_notify):
                self._label(p, x, "neigh.ndisc.announces", "the device came up or changed its address")
                return
            near.append(NearMiss("neigh.ndisc.announces", "the device did not change, or ndisc_notify is off"))
        self._party_diverges(p, x, "nothing asks for it" if not near else near[0].why, near[0].rule if near else "")

    def _late_acquaintance(self, p: Party, x: ArpSight | NaSight) -> None:
        """Without a sidecar, a host's first answer tells that the request before it was for it."""
        request = self.asked.pop(x.sip if isinstance(x, ArpSight) else x.target, None)
        if p.told or request is None or request.time + p.late < x.time:
            return
        if all(o.number != request.number for o in p.owed):
            self._hears(p, request)

    def _through(self, p: Party, x: NaSight) -> None:
        """An advertisement to one neighbour is a packet through its entry like any other."""
        w = self._watched(p, x.daddr)
        if w is not None and not w.output(x.number, x.time, x.dst, False, False):
            self._diverge(w, x, f"{p.name} does not send {line(x)}")

    def _expire(self, p: Party, t: int) -> None:
        while p.owed and p.owed[0].due < t:
            o = p.owed.pop(0)
            unheard = o.watch is None or o.watch.ended is not None or o.watch.settle(o.number, False)
            if not unheard or not self._lossy(p, o.due - p.late):
                self._missing(p, o)
            else:
                p.doubts.setdefault((o.asker, o.target), []).append(o)

    def _lossy(self, p: Party, t: int) -> bool:
        return p.lossy or any(a <= t <= b for a, b in self.lossy)

    def _missing(self, p: Party, o: Owing) -> None:
        if p.ended is None:
            what = f"{p.name} does not answer frame {o.number}: {type(o.effect).__name__} was due"
            p.ended = Divergence(
                frame=o.number,
                time=(o.due - p.late) / 1e6,
                host=p.name,
                what=what,
                near=(NearMiss(o.rule, "the answer is missing"),),
                around=tuple(line(r) for r in self.recent),
            )

    # -- what a host hears

    def _hears(self, p: Party, x: Sight) -> None:
        self._expire(p, x.time)
        if isinstance(x, IpSight) or p.ended is not None:
            return
        arp, ndisc = own_parms(p, x.time)
        hw = p.mac_at(x.time)
        if isinstance(x, ArpSight):
            w = self._watched(p, x.sip)
            here = x.tip in p.here
            e: Any = arp_in(
                x, hw, here, here or x.tip in p.elsewhere, w is not None and w.known, x.sip in p.here | p.elsewhere
            )
            rule, _, effects = dispatch("arp", self.setup.kernel)(Interface(), e, arp)
            self._take(p, x, w, rule.id, effects, x.sip, x.tip)
        elif isinstance(x, NsSight):
            w = self._watched(p, x.saddr)
            settled = x.target in p.here and not p.is_tentative(x.target, x.time)
            e = ns_in(x, hw, x.target in p.here, not settled, w is not None and w.known)
            rule, _, effects = dispatch("ndisc", self.setup.kernel)(Interface6(), e, ndisc)
            self._take(p, x, w, rule.id, effects, x.saddr, x.target)
        elif isinstance(x, NaSight):
            w = self._watched(p, x.target)
            ours = x.target in p.here
            known = w is not None and w.known
            e = na_in(x, hw, ours, p.is_tentative(x.target, x.time), known, w is not None and w.failed)
            rule, _, effects = dispatch("ndisc", self.setup.kernel)(Interface6(), e, ndisc)
            self._take(p, x, w, rule.id, effects, x.target, x.target)

    def _watched(self, p: Party, address: bytes) -> Watch | None:
        if not any(address) or not self._judges(p, address):
            return None
        w = self._watch(p, address)
        return w if w.ended is None else None

    def _take(
        self, p: Party, x: Sight, w: Watch | None, rule: str, effects: Sequence[Any], asker: bytes, target: bytes
    ) -> None:
        sender = self._party(x.src)
        if sender is not None and sender.crafted:
            p.labels.append(
                FrameLabel(x.number, sender.name, "", "", f"crafted, not judged; {p.name} takes it by {rule}")
            )
        answer = next((e for e in effects if isinstance(e, ArpReply | NaOut)), None)
        lossy = self._lossy(p, x.time)
        for e in effects:
            if isinstance(e, Learn) and w is not None:
                if not w.learn(x.number, rule, e, answer is not None, lossy):
                    self._diverge(w, x, f"{p.name} did not do what it must before frame {x.number}")
            elif isinstance(e, DadFailure):
                p.here.discard(target)
        if answer is not None:
            p.owed.append(Owing(x.number, x.time + p.late, answer, rule, asker, target, w))

    # -- notifications

    def _tell(self, t: int, over: int = 1 << 62) -> None:
        """Passes on what was read before `t`; the capture was over at `over` (us)."""
        while self.told < len(self.notes) and self.notes[self.told].time < t:
            n = self.notes[self.told]
            self.told += 1
            p = self.by_name.get(n.host)
            w = self._watched(p, self.about[n.dst]) if p is not None else None
            if w is not None and not w.notified(n, n.time > over):
                what = f"{n.host} does not announce {n.event} {n.dst} {n.state} {n.lladdr} probes {n.probes}"
                self._diverge(w, None, what, n.time)
        self.next_note = self.notes[self.told].time if self.told < len(self.notes) else 1 << 62

    # -- verdicts

    def _label(self, p: Party, x: Sight, rule: str, note: str) -> None:
        p.labels.append(FrameLabel(x.number, p.name, rule, "", note))

    def _divergence(self, x: Sight | None, host: str, what: str, dead: Sequence[Dead], time: int = 0) -> Divergence:
        return Divergence(
            frame=x.number if x is not None else self.last[0],
            time=(x.time if x is not None else time) / 1e6,
            host=host,
            what=what,
            allowed=tuple(dict.fromkeys(a for d in dead for a in d.allowed))[:6],
            near=tuple(dict.fromkeys(n for d in dead for n in (d.near or (NearMiss("", d.why),))))[:8],
            state=tuple(dict.fromkeys(words(d.state) for d in dead))[:3],
            around=tuple(line(r) for r in self.recent),
        )

    def _diverge(self, w: Watch, x: Sight | None, what: str, time: int = 0) -> None:
        if w.ended is None:
            w.ended = self._divergence(x, w.host, what, w.dead, time)

    def _party_diverges(self, p: Party, x: Sight, why: str, rule: str) -> None:
        if p.ended is None:
            p.ended = self._divergence(x, p.name, f"{p.name} does not send {line(x)}: {why}", ())

    def finish(self, end: int, linux: Collection[bytes] | None = None) -> list[Verdict]:
        """The verdicts when the capture has shown everything up to `end` us.

        `linux` are the addresses whose handshakes are Linux's: of other hosts nothing is said that depends on it. None:
        every host is taken for Linux.
        """
        end = max(end, *(c.time for c in self.setup.calls)) if self.setup.calls else end
        self._tell(max(end, self.notes[-1].time if self.notes else 0) + 1, end)
        out: list[Verdict] = []
        for p in self.parties:
            sure = p.told or linux is None or any(a in linux for a in p.here)
            self._expire(p, end)
            for doubts in p.doubts.values():
                if p.told and len(doubts) == 1 and not p.lossy and not any(a <= doubts[0].due for a, _ in self.lossy):
                    self._missing(p, doubts[0])
            if p.labels or p.ended is not None:
                out.append(self._verdict(f"{p.name}: answers", tuple(p.labels), (), p.ended, sure=sure))
            for w in p.watches.values():
                if w.ended is None and not w.finish(end):
                    self._diverge(w, None, f"{p.name} did not do what it must before the end", end)
                if w.touched or w.ended is not None:
                    found, events = w.labels()
                    out.append(self._verdict(w.subject, found, events, w.ended, w.bounded, sure))
        if self.stranger is not None:
            out.append(self._verdict("unknown host", (), (), self.stranger, sure=linux is None))
        if self.counts:
            out.append(self._others())
        return out

    def _verdict(
        self,
        subject: str,
        found: tuple[FrameLabel, ...],
        events: tuple[str, ...],
        ended: Divergence | None,
        bounded: bool = False,
        sure: bool = True,
    ) -> Verdict:
        outcome = Outcome.DIVERGES if ended is not None else Outcome.INCONCLUSIVE if bounded else Outcome.CONFORMS
        inferred = self.setup.inferred
        if not self.setup.hosts:
            inferred = (
                *inferred,
                "each sender is a Linux host with the default sysctls; missing answers are not judged",
            )
        reason = ended.what if ended is not None else "more guesses than are followed" if bounded else ""
        if ended is not None and not sure:
            reason = f"nothing tells whether the host is Linux, which would not have done this: {reason}"
            return Verdict(
                "neigh", subject, Outcome.NOT_MODELLED, reason, labels=found, inferred=inferred, events=events
            )
        return Verdict(
            "neigh", subject, outcome, reason, labels=found, divergence=ended, inferred=inferred, events=events
        )

    def _others(self) -> Verdict:
        """Frames whose contents no layer explains yet: counted, and a pass only where the sidecar gives the reason."""
        said = self.setup.unmodelled
        missing = [f"{n} frames of {c}" for c, n in self.counts.items() if c not in said]
        reasons = [f"{c}: {said[c]}" for c in self.counts if c in said]
        outcome = Outcome.NOT_MODELLED if missing else Outcome.CONFORMS
        return Verdict(
            "other", "frames of other layers", outcome, "; ".join(missing or reasons), unmodelled=dict(self.counts)
        )
