"""Which of several routes or nexthops a flow takes, and its source address: fib_select_path and what it calls."""

from typing import Final

from refmodel.fib.leaf import dscp_masked
from refmodel.fib.multipath import NUD_REACHABLE, NUD_VALID, fib_multipath_hash, fib_select_multipath
from refmodel.fib.net import Fib
from refmodel.fib.saddr import fib_result_prefsrc
from refmodel.fib.types import RT_SCOPE_LINK, RTN, RTNH_F_DEAD, FibAlias, FibInfo, FibResult, Flow4, dotted
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

NUD_INCOMPLETE: Final = 0x01


class _Search:
    """What fib_detect_death remembers between default routes."""

    __slots__ = ("last_idx", "last_resort")

    def __init__(self) -> None:
        self.last_resort: FibInfo | None = None
        self.last_idx = -1


@cited("net/ipv4/fib_semantics.c:fib_detect_death", "RFC 1122 3.3.1.4")
def fib_detect_death(net: Fib, fi: FibInfo, order: int, search: _Search, dflt: int) -> bool:
    """A default route's gateway does not answer, as its neighbour entry says; one without an entry is not dead."""
    nh = fi.fib_nh[0]
    assert nh.fib_nh_dev is not None
    state = net.env.neigh_nud_state(nh.fib_nh_dev, nh.fib_nh_gw4) if nh.fib_nh_gw4 else None
    if state is None or state == NUD_REACHABLE or (state & NUD_VALID and order != dflt):
        return False
    if state & NUD_VALID or (search.last_idx < 0 and order > dflt and state != NUD_INCOMPLETE):
        search.last_resort = fi
        search.last_idx = order
    return True


def fib_result_assign(res: FibResult, fi: FibInfo) -> None:
    """The answer becomes another route's first nexthop; source net/ipv4/fib_lookup.h:fib_result_assign."""
    res.fi = fi
    res.nhc = fi.fib_nh[0]


@cited("net/ipv4/fib_semantics.c:fib_select_default", "RFC 1122 3.3.1.4")
def fib_select_default(net: Fib, flp: Flow4, res: FibResult) -> None:
    """Of several default routes that are equally good, the first whose gateway seems alive."""
    assert res.table is not None
    search = _Search()
    fi: FibInfo | None = None
    fa1: FibAlias | None = None
    order = -1
    last_prio = res.info.fib_priority
    last_dscp = 0
    for fa in res.fa_head:
        next_fi = fa.fa_info
        if (fa.fa_dscp and fa.fa_dscp != dscp_masked(flp.tos)) or fa.tb_id != res.table.tb_id:
            continue
        if next_fi.fib_priority > last_prio and fa.fa_dscp == last_dscp:
            if last_dscp:
                continue
            break
        if next_fi.fib_flags & RTNH_F_DEAD:
            continue
        last_dscp = fa.fa_dscp
        last_prio = next_fi.fib_priority
        if next_fi.fib_scope != res.scope or fa.fa_type != RTN.UNICAST:
            continue
        nh = next_fi.fib_nh[0]
        if not nh.fib_nh_gw4 or nh.fib_nh_scope != RT_SCOPE_LINK:
            continue
        fa.fa_accessed = True
        if fi is None:
            if next_fi is not res.fi:
                break
            fa1 = fa
        else:
            assert fa1 is not None
            if not fib_detect_death(net, fi, order, search, fa1.fa_default):
                fib_result_assign(res, fi)
                fa1.fa_default = order
                return
        fi = next_fi
        order += 1
    if order <= 0 or fi is None:
        if fa1 is not None:
            fa1.fa_default = -1
        return
    assert fa1 is not None
    if not fib_detect_death(net, fi, order, search, fa1.fa_default):
        fib_result_assign(res, fi)
        fa1.fa_default = order
        return
    if search.last_resort is not None:
        fib_result_assign(res, search.last_resort)
    fa1.fa_default = search.last_idx


@cited("net/ipv4/fib_semantics.c:fib_select_path")
def fib_select_path(net: Fib, res: FibResult, fl4: Flow4, skb: SkBuff | None) -> None:
    """Chooses among nexthops and default routes unless a device was asked for, and the source address."""
    assert res.table is not None
    if not fl4.oif:
        if len(res.info.fib_nh) > 1:
            fib_select_multipath(net, res, fib_multipath_hash(net, fl4, skb), fl4)
        elif not res.prefixlen and res.table.tb_num_default > 1 and res.type == RTN.UNICAST:
            fib_select_default(net, fl4, res)
    if not fl4.saddr:
        fl4.saddr = fib_result_prefsrc(net, res.info, res.nh)
        net.env.note("fib_select_path", f"source {dotted(fl4.saddr)} dev {res.dev.name}")
