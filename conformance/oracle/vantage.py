"""Where the tap is: on which end's host, how soon that host answers, whether frames are lost behind it.

The law: a sidecar decides. Without one there is evidence for nearness only in what no wire carries: super-frames,
checksums that a device was yet to fill in, a loopback; or in the handshake's times: the end that answered at once is
near, the one whose answer took a round trip is not.
"""

from collections.abc import Sequence
from typing import Final

from conformance.check.setup import LOSES, Host, Setup
from conformance.oracle.end import Stack, us
from conformance.oracle.stacks import Who
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN

PATH: Final = 1_500_000  # us that a frame may be on its way from the tap to a host elsewhere
LOOPBACK4: Final = b"\x7f"
LOOPBACK6: Final = bytes(15) + b"\x01"
FAR: Final = 50  # how many times longer the far end's answer takes than the near one's
FLOOR: Final = 1_000  # us: below it a round trip and a host's answer look alike
LEAVING: Final = ("egress", "output", "qdisc")  # where a recorder drops what leaves
UNSENT: Final = frozenset(
    ("OutDiscards", "OutNoRoutes", "TCPRetransFail", "InDestUnreachs", "LocalError", "TCPAbortFailed", "FragFails")
)
DROPS: Final = frozenset(
    (
        "ListenDrops", "TCPBacklogDrop", "TCPRcvQDrop", "TCPZeroWindowDrop", "TCPOFODrop", "PruneCalled", "RcvPruned",
        "OfoPruned", "TCPMinTTLDrop", "PFMemallocDrop", "TCPDeferAcceptDrop", "TCPReqQFullDrop", "InErrs", "InDiscards",
        "InCsumErrors", "InHdrErrors", "InTruncatedPkts", "IPReversePathFilter", "InNoRoutes", "InAddrErrors",
    )
)  # fmt: skip


def infer_vantage(early: Sequence[Segment], sides: Sequence[Who], stacks: tuple[Stack, Stack], setup: Setup) -> None:
    """Says of both stacks whether the tap is on their host, and whether their inputs may be lost behind it."""
    if setup.hosts:
        taps = setup.extra.get("taps", {})
        for stack in stacks:
            _given(stack, setup)
            whole = taps.get("dropped") == 0 and taps.get("start") == "whole"
            # A host that is out of memory forgets segments behind holes that it has told of (tcp_prune_ofo_queue).
            pruned = stack.host is None or any(n.endswith("OfoPruned") and v for n, v in stack.host.mib.items())
            stack.whole = whole and not pruned
            drops = setup.extra.get("drops") or {}
            relayed = any(n for x, n in drops.items() if x.endswith(".duplicated"))
            stack.doubles = relayed or any("netem" in c.call and "duplicate" in c.call for c in setup.calls)
    for k, stack in enumerate(stacks):
        if stack.near is None and not setup.near:
            _looks(early, sides[k], stack)
    if all(s.near and not s.given and any("yet to be filled" in x for x in s.evidence) for s in stacks):
        for stack in stacks:
            stack.near = None  # the tap is on the machine of both; what lies between its namespaces may lose frames
    if stacks[0].near is None and stacks[1].near is None:
        _times(early, sides, stacks)
    for stack in stacks:
        if stack.near is not True:
            stack.late = max(stack.late, PATH)


def _given(stack: Stack, setup: Setup) -> None:
    kind = str(setup.extra.get("vantage", {}).get("kind", ""))
    if stack.host is None:
        return
    if kind in ("loopback", "both"):
        stack.near = True
    elif kind == "wire":
        stack.near = False
    elif setup.near:
        stack.near = stack.host.name == setup.near
    if not stack.linux:
        return
    if stack.near:
        stack.lossy = _arrives_less(stack.host, setup)
    stack.exact = _leaves_whole(stack, setup)
    stack.plain = stack.exact and _arrives_less(stack.host, setup) is False
    drops = setup.extra.get("drops")
    queued = f"{stack.host.name}.qdisc" in drops if drops is not None else not setup.calls
    stack.ordered = stack.near is True and not queued
    left = tuple(f"{stack.host.name}.{x}" for x in LEAVING)
    stack.sheds = any(n and name.startswith(left) for name, n in (setup.extra.get("drops") or {}).items())


def _arrives_less(host: Host, setup: Setup) -> bool | None:
    """Whether frames were lost between the tap and the host's TCP, or in it. None: the recorder does not say."""
    drops = setup.extra.get("drops")
    if drops is None and not setup.calls:
        return None
    if drops is None and any(c.host == host.name and c.call.startswith(LOSES) for c in setup.calls):
        return None
    for name, count in (drops or {}).items():
        where, _, what = name.partition(".")
        if count and where == host.name and not what.startswith(LEAVING):
            return True
    if not host.mib or any(n.rpartition(".")[2] in DROPS and v for n, v in host.mib.items()):
        return None
    return False


def _leaves_whole(stack: Stack, setup: Setup) -> bool:
    """Whether the recorder knows that the tap saw all that the host sent, in order.

    Queues of its own let frames overtake each other. A host that is not the tap's must have had a plain wire to it.
    """
    host, drops = stack.host, setup.extra.get("drops")
    if host is None or not host.mib or any(n.rpartition(".")[2] in UNSENT and v for n, v in host.mib.items()):
        return False
    if drops is None:
        return bool(setup.calls) and setup.near != "" and stack.near is not None and setup.layer != "nic"
    return stack.near is True and not any(n.startswith(tuple(f"{host.name}.{x}" for x in LEAVING)) for n in drops)


def _looks(early: Sequence[Segment], who: Who, stack: Stack) -> None:
    """What only a tap on the host sees of it."""
    own = [s for s in early if (s.saddr, s.source) == who]
    if who[0][:1] == LOOPBACK4 or who[0] == LOOPBACK6:
        stack.near = True
        stack.evidence.append("the tap is on its host: a loopback address")
        return
    if own and all(s.saddr == s.daddr for s in own):
        stack.near = True
        stack.evidence.append("the tap is on its host: it talks to itself")
        return
    partial = [s for s in own if unfilled(s)]
    if len(partial) > 1:
        # On a virtual link the receiving host's tap sees such a checksum too, behind whatever the link does to frames.
        stack.near, stack.close = True, True
        stack.evidence.append(f"on a host with it: frame {partial[0].number} has a checksum yet to be filled in")


def unfilled(s: Segment) -> bool:
    """Whether the TCP checksum is the pseudo-header's sum alone, which a device was to complete."""
    end = s.payload_at + s.len
    if end > len(s.data) or s.truncated:
        return False
    length = end - s.l4
    pseudo = (int.from_bytes(s.saddr, "big") + int.from_bytes(s.daddr, "big") + 6 + length) % 0xFFFF
    field = int.from_bytes(s.data[s.l4 + 16 : s.l4 + 18], "big")
    if field != pseudo:
        return False
    total = int.from_bytes(s.data[s.l4 : end], "big") << (8 if length & 1 else 0)
    return (total + pseudo) % 0xFFFF != 0


def quick(early: Sequence[Segment], who: Who) -> bool:
    """Whether an end answered the other's SYN or SYN-ACK so soon that the path to it can only be short."""
    asked: Segment | None = None
    for s in early:
        if (s.saddr, s.source) != who:
            asked = s if s.flags & SYN else None
        elif asked is not None:
            return us(s) - us(asked) <= FLOOR
    return False


def _times(early: Sequence[Segment], sides: Sequence[Who], stacks: tuple[Stack, Stack]) -> None:
    """SYN to SYN-ACK is the far side's round trip, SYN-ACK to ACK the near side's, seen from the tap."""
    syn = synack = last = None
    for s in early:
        side = 0 if (s.saddr, s.source) == sides[0] else 1
        if s.flags & (SYN | ACK | RST) == SYN and side == 0 and synack is None:
            if syn is not None:
                return  # sent again: which of them was answered is not told
            syn = s
        elif s.flags & (SYN | ACK) == SYN | ACK and side == 1:
            if synack is not None:
                return
            synack = s
        elif synack is not None and side == 0 and s.flags & (ACK | RST | FIN | SYN) == ACK:
            last = s
            break
    if syn is None or synack is None or last is None:
        return
    server, client = us(synack) - us(syn), us(last) - us(synack)
    if server > FLOOR and server > FAR * max(client, 1):
        stacks[0].near, stacks[0].close, stacks[1].near, stacks[1].close = True, True, False, False
        stacks[0].evidence.append(f"the tap is near it: it answered in {client} us, the other end in {server} us")
    elif client > FLOOR and client > FAR * max(server, 1):
        stacks[0].near, stacks[0].close, stacks[1].near, stacks[1].close = False, False, True, True
        stacks[1].evidence.append(f"the tap is near it: it answered in {server} us, the other end in {client} us")
