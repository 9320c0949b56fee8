"""The machine fib_fnhe: the life of a nexthop's exception for one destination.

A smaller path MTU or a redirect makes one.

Times are jiffies. An exception that expired is deleted when a lookup next sees it; until then it is there but says
nothing. The device's MTU changes what was learned only where it sets the limit.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.fib.params import FibParams
from refmodel.rule import Effect, Event, Machine, State, assume, invariant, machine, pure, require, rule, transition
from refmodel.types import Range

LEAST_MTU: Final = 68  # IPV4_MIN_MTU
Jiffy = Annotated[int, Range(0, 1 << 53)]
Mtu = Annotated[int, Range(0, (1 << 31) - 1)]


class Life(IntEnum):
    """Whether there is an exception."""

    ABSENT = 0
    PRESENT = 1


class Exception_(State, frozen=True):
    """The exception of one nexthop for one destination.

    `pmtu` bytes (0: none learned), `locked`: the path said less than min_pmtu, so the kernel keeps to that minimum and
    forbids further discovery. `gw`: a redirect named a gateway. `expires`: 0 after its generation ended. `lowered`: the
    device's MTU set `pmtu`. `now`: the last event's jiffy.
    """

    AT: ClassVar[str] = "life"

    life: Life = Life.ABSENT
    pmtu: Mtu = 0
    locked: bool = False
    gw: bool = False
    expires: Annotated[int, Range(0, 1 << 54)] = 0
    lowered: bool = False
    now: Jiffy = 0


class UpdatePmtu(Event, frozen=True):
    """An ICMP error says that the path takes `mtu`; the route's MTU so far is `old_mtu`; `mtu_locked` by the admin.

    `expires_rt`: when what the asking route itself holds expires, `pmtu_rt` what it holds.
    """

    now: Jiffy = 0
    mtu: Mtu = 0
    old_mtu: Mtu = 0
    mtu_locked: bool = False
    pmtu_rt: Mtu = 0
    expires_rt: Jiffy = 0
    timeout: Annotated[int, Range(0, 1 << 42)] = 0


class Redirect(Event, frozen=True):
    """A redirect for the destination is taken; `timeout` is ip_rt_gc_timeout in jiffies."""

    now: Jiffy = 0
    timeout: Annotated[int, Range(0, 1 << 42)] = 0


class DeviceMtu(Event, frozen=True):
    """The nexthop's device changes its MTU from `orig` to `new`."""

    now: Jiffy = 0
    new: Mtu = 1500
    orig: Mtu = 1500


class Find(Event, frozen=True):
    """A lookup asks for the exception (find_exception)."""

    now: Jiffy = 0


class NewGeneration(Event, frozen=True):
    """A route is bound to it after the cache was flushed by hand (fnhe_genid changed)."""

    now: Jiffy = 0


class Found(Effect, frozen=True):
    """The lookup uses the exception."""

    pmtu: int


class Deleted(Effect, frozen=True):
    """The exception ends (ip_del_fnhe)."""


class Update(IntEnum):
    """What __ip_rt_update_pmtu does with a message."""

    LOCKED = 0
    LARGER = 1
    KNOWN = 2
    TAKE = 3


@pure
def locks(e: UpdatePmtu, p: FibParams) -> bool:
    """The path says less than the kernel believes."""
    return e.mtu < p.min_pmtu


@pure
def believed(e: UpdatePmtu, p: FibParams) -> int:
    """The MTU that is learned: not below min_pmtu, and not above what the route had."""
    return min(e.old_mtu, p.min_pmtu) if locks(e, p) else e.mtu


@pure
def update(e: UpdatePmtu, p: FibParams) -> Update:
    """The tests of __ip_rt_update_pmtu in order."""
    fresh = e.now < e.expires_rt - e.timeout // 2
    return (
        Update.LOCKED
        if e.mtu_locked
        else Update.LARGER
        if e.old_mtu < e.mtu
        else Update.KNOWN
        if e.pmtu_rt == believed(e, p) and not locks(e, p) and fresh
        else Update.TAKE
    )


@pure
def device_mtu(s: Exception_, e: DeviceMtu) -> tuple[int, bool]:
    """fnhe_update_pmtu: the learned MTU and whether it is locked, after the device's MTU changed."""
    unlock = s.locked and e.new <= s.pmtu
    moves = (e.new < s.pmtu or e.orig == s.pmtu) if not s.locked else unlock
    return (e.new if moves else s.pmtu), s.locked and not unlock


@pure
def expired(s: Exception_, now: int) -> bool:
    """find_exception: it has an end, and that has passed."""
    return s.expires != 0 and now > s.expires


@rule("net/ipv4/route.c:__ip_rt_update_pmtu", at=(Life.ABSENT, Life.PRESENT))
def update_refused(s: Exception_, e: UpdatePmtu, p: FibParams) -> tuple[Exception_, tuple[Effect, ...]]:
    """A locked MTU stays, a larger one than the route's is not believed, and a fresh known one is nothing new."""
    require(update(e, p) != Update.TAKE, "nothing to learn")
    return replace(s, now=e.now), ()


@rule("net/ipv4/route.c:update_or_create_fnhe", "RFC 1191 6.3", at=(Life.ABSENT, Life.PRESENT))
def update_taken(s: Exception_, e: UpdatePmtu, p: FibParams) -> tuple[Exception_, tuple[Effect, ...]]:
    """The path's MTU is learned until mtu_expires; an MTU of zero renews the exception and leaves what it holds."""
    require(update(e, p) == Update.TAKE, "something to learn")
    learned = believed(e, p)
    t = replace(
        s,
        life=Life.PRESENT,
        pmtu=learned if learned != 0 else s.pmtu,
        locked=locks(e, p) if learned != 0 or s.life == Life.ABSENT else s.locked,
        lowered=s.lowered if learned == 0 else False,
        expires=max(1, e.now + e.timeout),
        now=e.now,
    )
    return t, ()


@rule("net/ipv4/route.c:__ip_do_redirect", at=(Life.ABSENT, Life.PRESENT))
def redirected(s: Exception_, e: Redirect, p: FibParams) -> tuple[Exception_, tuple[Effect, ...]]:
    """A redirect sets the gateway, and the whole exception's end with it; the learned MTU stays."""
    return replace(s, life=Life.PRESENT, gw=True, expires=max(1, e.now + e.timeout), now=e.now), ()


@rule("net/ipv4/route.c:fnhe_update_pmtu", at=(Life.ABSENT, Life.PRESENT))
def device_changes(s: Exception_, e: DeviceMtu, p: FibParams) -> tuple[Exception_, tuple[Effect, ...]]:
    """A smaller MTU of the device lowers what was learned; a larger one lifts it where the device was the limit."""
    if s.life == Life.ABSENT:
        return replace(s, now=e.now), ()
    pmtu, locked = device_mtu(s, e)
    return replace(
        s, pmtu=pmtu, locked=locked, lowered=s.lowered or pmtu != s.pmtu or locked != s.locked, now=e.now
    ), ()


@rule("net/ipv4/route.c:find_exception", at=Life.ABSENT)
def find_nothing(s: Exception_, e: Find, p: FibParams) -> tuple[Exception_, tuple[Effect, ...]]:
    """There is nothing to find."""
    return replace(s, now=e.now), ()


@rule("net/ipv4/route.c:find_exception", at=Life.PRESENT)
def find_alive(s: Exception_, e: Find, p: FibParams) -> tuple[Exception_, tuple[Effect, ...]]:
    """An exception that has not expired is used; one without an end, of an older generation, says nothing."""
    require(not expired(s, e.now), "not expired")
    return replace(s, now=e.now), (Found(pmtu=s.pmtu),)


@rule("net/ipv4/route.c:ip_del_fnhe", at=Life.PRESENT)
def find_expired(s: Exception_, e: Find, p: FibParams) -> tuple[Exception_, tuple[Effect, ...]]:
    """The lookup that sees an expired exception deletes it."""
    require(expired(s, e.now), "expired")
    return Exception_(now=e.now), (Deleted(),)


@rule("net/ipv4/route.c:rt_bind_exception", at=(Life.ABSENT, Life.PRESENT))
def new_generation(s: Exception_, e: NewGeneration, p: FibParams) -> tuple[Exception_, tuple[Effect, ...]]:
    """An exception of an older generation is emptied when a route is bound to it."""
    return replace(s, pmtu=0, locked=False, gw=False, expires=0, lowered=False, now=e.now), ()


@assume
def time_goes_on(s: Exception_, e: Find) -> bool:
    """Time does not run backwards between events."""
    return e.now >= s.now


@assume
def device_mtu_is_valid(s: Exception_, e: DeviceMtu) -> bool:
    """A device that speaks IPv4 has an MTU of at least 68 bytes (inetdev_valid_mtu)."""
    return e.new >= LEAST_MTU and e.orig >= LEAST_MTU


@invariant(at=Life.ABSENT)
def absent_is_empty(s: Exception_) -> bool:
    """Where there is no exception nothing is left of one."""
    return s.pmtu == 0 and not s.locked and not s.gw and s.expires == 0 and not s.lowered


@invariant(at=Life.PRESENT)
def locked_is_small(s: Exception_, p: FibParams) -> bool:
    """A locked path MTU is at most min_pmtu."""
    return not s.locked or s.pmtu <= p.min_pmtu


@invariant(at=Life.PRESENT)
def small_only_if_locked_or_lowered(s: Exception_, p: FibParams) -> bool:
    """What is learned lies below min_pmtu only if locked or because of the device: ICMP alone never makes it tiny."""
    return s.pmtu == 0 or s.pmtu >= p.min_pmtu or s.locked or s.lowered


@invariant(at=Life.PRESENT)
def endless_is_empty(s: Exception_) -> bool:
    """An exception without an end holds neither MTU nor gateway."""
    return s.expires != 0 or (s.pmtu == 0 and not s.gw and not s.locked)


@transition(UpdatePmtu)
def icmp_never_raises(s: Exception_, e: UpdatePmtu, t: Exception_) -> bool:
    """A message never makes the MTU larger than what the route had."""
    return t.pmtu == s.pmtu or t.pmtu <= e.old_mtu


@transition(UpdatePmtu)
def admin_lock_holds(s: Exception_, e: UpdatePmtu, t: Exception_) -> bool:
    """Where the route's MTU is locked by hand no message changes anything."""
    return not e.mtu_locked or t == replace(s, now=e.now)


@transition(Find)
def found_unless_expired(s: Exception_, e: Find, t: Exception_, effects: tuple[Effect, ...]) -> bool:
    """A lookup uses an exception exactly while it is there and not past its end."""
    used = any(isinstance(x, Found) for x in effects)
    return used == (s.life == Life.PRESENT and not (s.expires != 0 and e.now > s.expires))


@transition(DeviceMtu)
def device_is_a_limit(s: Exception_, e: DeviceMtu, t: Exception_) -> bool:
    """After the device's MTU changed nothing larger than it is believed, if nothing larger than the old one was."""
    return s.pmtu > e.orig or s.life == Life.ABSENT or t.pmtu <= e.new or t.pmtu < e.orig


FIB_FNHE = machine(
    Machine(
        name="fib_fnhe",
        title="Routing: exceptions of a nexthop (path MTU and redirects)",
        accepts={Exception_: (UpdatePmtu, Redirect, DeviceMtu, Find, NewGeneration)},
        params=FibParams,
        initial=(Exception_(),),
        modules=("refmodel.fib.params", "refmodel.fib.fnhe"),
    )
)
