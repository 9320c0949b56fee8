"""Tables as they change: insertion with netlink's flags, deletion, flushing, and how local and main come apart."""

from errno import EEXIST, ENOENT, ESRCH

from refmodel.fib.lookup import fib_get_table
from refmodel.fib.net import Fib
from refmodel.fib.semantics import fib_create_info, fib_metrics_match, fib_nh_match, fib_release_info
from refmodel.fib.types import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RT_SCOPE_NOWHERE,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTNH_F_DEAD,
    FibAlias,
    FibConfig,
    FibInfo,
    FibTable,
)
from refmodel.rule import cited


def rt_cache_flush(net: Fib) -> None:
    """All cached routes are out of date; source net/ipv4/route.c:rt_cache_flush."""
    net.rt_genid += 1


def fib_find_alias(fah: list[FibAlias], dscp: int, prio: int, tb_id: int) -> int | None:
    """The place of the first route with this DSCP and a metric of at least `prio`, or before which a new one goes.

    None: a new one goes to the end of its table's part; source net/ipv4/fib_trie.c:fib_find_alias.
    """
    for i, fa in enumerate(fah):
        if fa.tb_id > tb_id:
            continue
        if fa.tb_id != tb_id:
            break
        if fa.fa_dscp > dscp:
            continue
        if fa.fa_info.fib_priority >= prio or fa.fa_dscp < dscp:
            return i
    return None


def fib_insert_alias(tb: FibTable, new: FibAlias, place: int | None) -> None:
    """Puts a route before the one at `place`, or behind the last of its table; source fib_trie.c:fib_insert_alias."""
    fah = tb.trie.setdefault((new.prefix, new.plen), [])
    if place is None:
        place = 0
        for fa in fah:
            if new.tb_id > fa.tb_id:
                break
            place += 1
    fah.insert(place, new)


@cited("net/ipv4/fib_trie.c:fib_table_insert")
def fib_table_insert(net: Fib, tb: FibTable, cfg: FibConfig) -> int:
    """Adds a route as netlink's flags say (EXCL, REPLACE, APPEND, CREATE); returns 0 or a negative errno."""
    fi = fib_create_info(net, cfg)
    if isinstance(fi, int):
        return fi
    err = _insert(net, tb, cfg, fi)
    if err:
        fib_release_info(net, fi)
    return err


def _insert(net: Fib, tb: FibTable, cfg: FibConfig, fi: FibInfo) -> int:
    prefix, plen, dscp = cfg.fc_dst, cfg.fc_dst_len, cfg.fc_dscp
    fah = tb.trie.get((prefix, plen), [])
    place = fib_find_alias(fah, dscp, fi.fib_priority, tb.tb_id)
    if place is not None and fah[place].fa_dscp == dscp and fah[place].fa_info.fib_priority == fi.fib_priority:
        if cfg.fc_nlflags & NLM_F_EXCL:
            return -EEXIST
        first = end = place
        match: int | None = None
        while end < len(fah):
            fa = fah[end]
            if fa.tb_id != tb.tb_id or fa.fa_dscp != dscp or fa.fa_info.fib_priority != fi.fib_priority:
                break
            if fa.fa_type == cfg.fc_type and fa.fa_info is fi:
                match = end
                break
            end += 1
        if cfg.fc_nlflags & NLM_F_REPLACE:
            if match is not None:
                # The route itself is there: fine in the first place, refused behind another one.
                if match == first:
                    fib_release_info(net, fi)
                    return 0
                return -EEXIST
            old = fah[first]
            fah[first] = FibAlias(fi, prefix, plen, old.fa_dscp, cfg.fc_type, tb.tb_id)
            fib_release_info(net, old.fa_info)
            if old.fa_accessed:
                rt_cache_flush(net)
            return 0
        if match is not None:
            return -EEXIST
        place = (end if end < len(fah) else None) if cfg.fc_nlflags & NLM_F_APPEND else first
        if place is None:
            place = len(fah)
    if not cfg.fc_nlflags & NLM_F_CREATE:
        return -ENOENT
    fib_insert_alias(tb, FibAlias(fi, prefix, plen, dscp, cfg.fc_type, tb.tb_id), place)
    if plen == 0:
        tb.tb_num_default += 1
    rt_cache_flush(net)
    return 0


@cited("net/ipv4/fib_trie.c:fib_table_delete")
def fib_table_delete(net: Fib, tb: FibTable, cfg: FibConfig) -> int:
    """Deletes the first route that has all that the request names; returns 0 or -ESRCH."""
    fah = tb.trie.get((cfg.fc_dst, cfg.fc_dst_len))
    place = None if fah is None else fib_find_alias(fah, cfg.fc_dscp, 0, tb.tb_id)
    if fah is None or place is None:
        return -ESRCH
    for fa in fah[place:]:
        fi = fa.fa_info
        if fa.tb_id != tb.tb_id or fa.fa_dscp != cfg.fc_dscp:
            break
        if (
            (not cfg.fc_type or fa.fa_type == cfg.fc_type)
            and (cfg.fc_scope in (RT_SCOPE_NOWHERE, fi.fib_scope))
            and (not cfg.fc_prefsrc or fi.fib_prefsrc == cfg.fc_prefsrc)
            and (not cfg.fc_protocol or fi.fib_protocol == cfg.fc_protocol)
            and fib_nh_match(cfg, fi)
            and fib_metrics_match(cfg, fi)
        ):
            if cfg.fc_dst_len == 0:
                tb.tb_num_default -= 1
            _remove(tb, fa)
            if fa.fa_accessed:
                rt_cache_flush(net)
            fib_release_info(net, fi)
            return 0
    return -ESRCH


def _remove(tb: FibTable, fa: FibAlias) -> None:
    fah = tb.trie[fa.prefix, fa.plen]
    fah.remove(fa)
    if not fah:
        del tb.trie[fa.prefix, fa.plen]


@cited("net/ipv4/fib_trie.c:fib_table_flush")
def fib_table_flush(net: Fib, tb: FibTable) -> int:
    """Removes the routes whose nexthops are all dead; returns how many. A default route stays counted as one."""
    dead = [fa for fah in tb.trie.values() for fa in fah if fa.tb_id == tb.tb_id and fa.fa_info.fib_flags & RTNH_F_DEAD]
    for fa in dead:
        _remove(tb, fa)
        fib_release_info(net, fa.fa_info)
    return len(dead)


@cited("net/ipv4/fib_frontend.c:fib_unmerge")
def fib_unmerge(net: Fib) -> None:
    """Gives table local a trie of its own; from then on main has no local routes."""
    local, main = fib_get_table(net, RT_TABLE_LOCAL), fib_get_table(net, RT_TABLE_MAIN)
    if local is None or main is None or local.trie is not main.trie:
        return
    both = main.trie
    local.trie, main.trie = {}, {}
    for key, fah in both.items():
        for tb in (local, main):
            own = [fa for fa in fah if fa.tb_id == tb.tb_id]
            if own:
                tb.trie[key] = own
