"""Which steps of a walk are shown, and in which lane.

A whole walk has some hundred calls. Shown are those that the documentation's rows name, those that decided something,
and what calls them; `detail` shows all.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from refmodel.rows import NAMED
from refmodel.walk import Step, Walk

ORDER: Final = (
    "application", "system call", "socket", "UDP", "TCP", "ICMP", "netfilter", "IP", "FIB", "ARP", "neighbour",
    "bridge", "qdisc", "device", "GRO", "softirq", "driver", "medium", "kernel",
)  # fmt: skip


ANSWERS: Final = {
    "tcp_cwnd_test": ("the congestion window is full", "room for {} segments in the congestion window"),
    "tcp_snd_wnd_test": ("the receiver's window is full", "it fits into the receiver's window"),
    "tcp_nagle_test": ("Nagle holds it back", "Nagle lets it go"),
    "tcp_tso_should_defer": ("not deferred", "deferred: more may come"),
    "tcp_small_queue_check": ("few bytes of the socket's wait below", "too many bytes of the socket's wait below"),
    "tcp_pacing_check": ("pacing lets it go", "pacing holds it back"),
    "tcp_should_autocork": ("not corked", "corked until what is on its way has left"),
    "tcp_schedule_loss_probe": ("no probe", "a tail loss probe is armed"),
    "tcp_send_mss": ("", "MSS {}"),
    "tcp_tso_segs": ("", "{} segments at most"),
}
"""What a function's answer means where it tells nothing itself: for nothing or no, and for all else."""


MAIN: Final = NAMED | {
    "veth_xmit", "veth_poll", "loopback_xmit", "tun_net_xmit", "ip_rcv_finish_core", "ip_forward_finish", "ip_defrag",
    "ip_options_compile", "icmp_rcv", "br_handle_frame", "br_dev_xmit", "release_sock", "sock_def_readable",
    "igb_poll", "igb_msix_ring", "eth_type_trans", "ip_make_skb", "ip_send_skb", "vfs_write", "vfs_read",
}  # fmt: skip
"""What is shown although it decides nothing."""


class Shown(Struct):
    """One step as it is shown: `lane` is its layer, `caller` the lane of the shown step that led to it ("" at the
    beginning), `indent` how many shown steps it stands in, `skipped` how many calls between them are not shown."""

    step: Step
    lane: str
    caller: str
    indent: int
    skipped: int


def shown(walk: Walk, detail: bool = False) -> list[Shown]:
    """The steps to show, in order."""
    keep = set(range(len(walk.steps))) if detail else _kept(walk.steps)
    found: list[Shown] = []
    indents: dict[int, int] = {}
    for step in walk.steps:
        if step.number not in keep:
            continue
        parent, skipped = step.parent, 0
        while parent >= 0 and parent not in keep:
            parent, skipped = walk.steps[parent].parent, skipped + 1
        indents[step.number] = indents[parent] + 1 if parent >= 0 else 0
        caller = walk.steps[parent].layer if parent >= 0 else ""
        found.append(Shown(step, step.layer, caller, indents[step.number], skipped))
    return found


def _kept(steps: list[Step]) -> set[int]:
    keep: set[int] = set()
    for step in steps:
        if step.function in MAIN or said(step):
            number = step.number
            while number >= 0 and number not in keep:
                if steps[number].function in MAIN or said(steps[number]):
                    keep.add(number)
                number = steps[number].parent
    return keep


def lanes(rows: Iterable[Shown]) -> list[str]:
    """The lanes that occur, from the application to the wire; hosts apart where there are several."""
    seen = {r.lane for r in rows}
    return [x for x in ORDER if x in seen] + sorted(seen - set(ORDER))


def said(step: Step) -> str:
    """The decision: what the function told, else what its answer means, else the rules that fired."""
    if step.decision:
        return step.decision
    if step.function in ANSWERS and step.returned is not None:
        return ANSWERS[step.function][bool(step.returned)].format(step.returned)
    return "rule " + ", ".join(step.rules) if step.rules else ""
