"""The window that a receiver advertises.

The law: what was promised is kept. The right edge of the window never moves back, unless tcp_shrink_window is set or
there is no memory for what arrived; a window that would be silly (less than a segment, or a sixteenth of the buffer) is
advertised as zero; and what is advertised can be said in sixteen bits at the connection's scale. Sizes are bytes.
"""

from typing import Annotated, Any, ClassVar, Final

from msgspec.structs import replace

from refmodel.rule import Event, Machine, Params, State, assume, invariant, machine, pure, require, rule, transition
from refmodel.types import M32, Range, add, near

Effects = tuple[Any, ...]
SPACE: Final = 1 << 30
MAX_TCP_WINDOW: Final = 32767
Bytes = Annotated[int, Range(0, SPACE)]
Wscale = Annotated[int, Range(0, 14)]


class WindowParams(Params, frozen=True):
    """The two sysctls that a window depends on."""

    tcp_shrink_window: bool = False
    tcp_workaround_signed_windows: bool = False


class Window(State, frozen=True):
    """rcv_nxt, what was promised (rcv_wnd bytes from rcv_wup), and the scale that both sides agreed on."""

    AT: ClassVar[str] = ""

    rcv_nxt: Annotated[int, Range(0, M32)] = 0
    rcv_wup: Annotated[int, Range(0, M32), near("rcv_nxt", sign=-1)] = 0
    rcv_wnd: Bytes = 0
    rcv_wscale: Wscale = 0


class Arrives(Event, frozen=True):
    """`n` bytes arrive in order, all within what was promised."""

    n: Bytes = 1


class Advertise(Event, frozen=True):
    """A segment leaves and carries a window.

    `free` is tcp_space, `allowed` tcp_full_space, `clamp` window_clamp, `ssthresh` rcv_ssthresh, `mss` rcv_mss.
    `whole` is the largest multiple of `mss` (see `silly_mss`) within the space on offer. `nomem`: ICSK_ACK_NOMEM.
    """

    free: Annotated[int, Range(-SPACE, SPACE)] = 0
    allowed: Bytes = 0
    clamp: Bytes = 0
    ssthresh: Bytes = 0
    mss: Annotated[int, Range(0, 65535)] = 536
    whole: Bytes = 0
    nomem: bool = False


@pure
def tcp_receive_window(rcv_nxt: int, rcv_wup: int, rcv_wnd: int) -> int:
    """What is left of the promise; source include/net/tcp.h:tcp_receive_window."""
    used = (rcv_nxt - rcv_wup) & M32
    return rcv_wnd - used if used <= rcv_wnd else 0


@pure
def scaled_up(window: int, shift: int) -> int:
    """`window` rounded up to what the header can say."""
    return ((window + (1 << shift) - 1) >> shift) << shift


@pure
def scaled_down(window: int, shift: int) -> int:
    """`window` rounded down to what the header can say."""
    return (window >> shift) << shift


@pure
def is_silly(free: int, full: int, allowed: int, mss: int, shift: int) -> bool:
    """Less than half of the buffer is free, and that is less than a segment or a sixteenth of it.

    Source: net/ipv4/tcp_output.c:__tcp_select_window.
    """
    rounded = scaled_down(free, shift)
    return free < full >> 1 and (rounded < allowed >> 4 or rounded < mss)


@pure
def offered(free: int, full: int, ssthresh: int, shift: int) -> int:
    """The free space that may be offered: rounded where it is short, and within rcv_ssthresh.

    Source: net/ipv4/tcp_output.c:__tcp_select_window.
    """
    return min(scaled_down(free, shift) if free < full >> 1 else free, ssthresh)


@pure
def unscaled_window(old: int, space: int, full: int, mss: int, whole: int) -> int:
    """Without a scale the window moves by whole segments; source net/ipv4/tcp_output.c:__tcp_select_window."""
    if old <= space - mss or old > space:
        return whole
    return space if mss == full and space > old + (full >> 1) else old


@pure
def select_space(free: int, allowed: int, clamp: int, ssthresh: int, mss: int, whole: int, old: int, shift: int) -> int:
    """The window that the buffer allows, promises aside; source net/ipv4/tcp_output.c:__tcp_select_window."""
    full = min(clamp, allowed)
    seg = min(mss, full)
    if seg <= 0 or is_silly(free, full, allowed, seg, shift):
        return 0
    space = offered(free, full, ssthresh, shift)
    return scaled_up(space, shift) if shift != 0 else unscaled_window(old, space, full, seg, whole)


@pure
def shrunk_space(free: int, allowed: int, clamp: int, ssthresh: int, mss: int, shift: int) -> int:
    """The window where it may shrink; source net/ipv4/tcp_output.c:__tcp_select_window (shrink_window_allowed)."""
    full = min(clamp, allowed)
    space = scaled_down(free, shift)
    if space < full >> 1 and (space < allowed >> 4 or space < min(mss, full) or space < 1 << shift):
        return 0
    return scaled_up(min(space, ssthresh), shift)


@pure
def kept_promise(new: int, current: int, shift: int, shrinks: bool) -> int:
    """A promise is kept, rounded up to the scale; source net/ipv4/tcp_output.c:tcp_select_window."""
    return scaled_up(current, shift) if new < current and not shrinks else new


@pure
def header_bound(window: int, shift: int, signed: bool) -> int:
    """What sixteen bits can say of it, fifteen for peers that read it signed.

    Source: net/ipv4/tcp_output.c:tcp_select_window.
    """
    return min(window, MAX_TCP_WINDOW if shift == 0 and signed else 65535 << shift)


@pure
def selected(s: Window, e: Advertise, p: WindowParams) -> int:
    """The window that is promised now."""
    shrinks = p.tcp_shrink_window and s.rcv_wscale != 0
    current = tcp_receive_window(s.rcv_nxt, s.rcv_wup, s.rcv_wnd)
    if shrinks:
        return shrunk_space(e.free, e.allowed, e.clamp, e.ssthresh, e.mss, s.rcv_wscale)
    new = select_space(e.free, e.allowed, e.clamp, e.ssthresh, e.mss, e.whole, s.rcv_wnd, s.rcv_wscale)
    return kept_promise(new, current, s.rcv_wscale, False)


@rule("net/ipv4/tcp_input.c:tcp_rcv_nxt_update")
def arrives(s: Window, e: Arrives, p: WindowParams) -> tuple[Window, Effects]:
    """Data uses up a part of the promise."""
    return replace(s, rcv_nxt=add(s.rcv_nxt, e.n)), ()


@rule("net/ipv4/tcp_output.c:tcp_select_window", "RFC 9293 3.8.6.2.2")
def advertise(s: Window, e: Advertise, p: WindowParams) -> tuple[Window, Effects]:
    """A new promise counts from rcv_nxt."""
    require(not e.nomem, "there was memory for what arrived")
    return replace(s, rcv_wup=s.rcv_nxt, rcv_wnd=selected(s, e, p)), ()


@rule("net/ipv4/tcp_output.c:tcp_select_window")
def advertise_nothing(s: Window, e: Advertise, p: WindowParams) -> tuple[Window, Effects]:
    """Without memory for what arrived the promise is taken back: the peer has to stop."""
    require(e.nomem, "there was no memory for what arrived")
    return replace(s, rcv_wup=s.rcv_nxt, rcv_wnd=0), ()


@assume
def within_the_promise(s: Window, e: Arrives) -> bool:
    """The peer keeps to the window."""
    return e.n <= tcp_receive_window(s.rcv_nxt, s.rcv_wup, s.rcv_wnd)


@assume
def whole_segments(s: Window, e: Advertise) -> bool:
    """`whole` is a multiple of the segment within the space on offer, short of it by less than a segment."""
    full = min(e.clamp, e.allowed)
    seg = min(e.mss, full)
    space = offered(e.free, full, e.ssthresh, s.rcv_wscale)
    fits = e.whole <= space and space - e.whole < max(seg, 1) and (e.whole == 0 or e.whole >= seg)
    return e.free <= e.allowed and (space < 0 or fits)


@assume
def the_clamp_fits_the_scale(s: Window, e: Advertise) -> bool:
    """rcv_ssthresh never exceeds the clamp, which the handshake bounds by what the scale can say."""
    return e.ssthresh <= e.clamp and e.clamp <= 65535 << s.rcv_wscale


@invariant()
def promise_covers_what_arrived(s: Window) -> bool:
    """No more has arrived since than was promised."""
    return ((s.rcv_nxt - s.rcv_wup) & M32) <= s.rcv_wnd


@invariant()
def promise_fits_the_header(s: Window) -> bool:
    """Sixteen bits can say what is promised, but for the rounding of a promise that is kept."""
    return s.rcv_wnd <= (65535 << s.rcv_wscale) + (1 << s.rcv_wscale)


@transition(Advertise)
def right_edge_never_shrinks(s: Window, e: Advertise, t: Window, effects: Effects, p: WindowParams) -> bool:
    """The right edge of the window doesn't move back, unless that is permitted or memory is out."""
    excused = e.nomem or (p.tcp_shrink_window and s.rcv_wscale != 0)
    return excused or t.rcv_wnd >= tcp_receive_window(s.rcv_nxt, s.rcv_wup, s.rcv_wnd)


@transition(Advertise)
def grows_by_segments(s: Window, e: Advertise, t: Window) -> bool:
    """Without a scale a window that opens offers a segment at least, or half the buffer more than before."""
    current = tcp_receive_window(s.rcv_nxt, s.rcv_wup, s.rcv_wnd)
    full = min(e.clamp, e.allowed)
    opened = s.rcv_wscale == 0 and t.rcv_wnd > current and t.rcv_wnd != s.rcv_wnd
    return not opened or t.rcv_wnd >= min(e.mss, full, e.ssthresh) or t.rcv_wnd > s.rcv_wnd + (full >> 1)


@transition(Advertise)
def never_beyond_the_threshold(s: Window, e: Advertise, t: Window, effects: Effects, p: WindowParams) -> bool:
    """What is offered anew lies within rcv_ssthresh, rounded up to the scale."""
    current = tcp_receive_window(s.rcv_nxt, s.rcv_wup, s.rcv_wnd)
    kept = t.rcv_wnd <= scaled_up(current, s.rcv_wscale)
    unmoved = s.rcv_wscale == 0 and t.rcv_wnd == s.rcv_wnd
    return kept or unmoved or t.rcv_wnd <= scaled_up(e.ssthresh, s.rcv_wscale)


@transition(Advertise)
def silly_windows_are_zero(s: Window, e: Advertise, t: Window, effects: Effects, p: WindowParams) -> bool:
    """With too little free nothing is offered anew (RFC 9293 3.8.6.2.2)."""
    full = min(e.clamp, e.allowed)
    silly = is_silly(e.free, full, e.allowed, min(e.mss, full), s.rcv_wscale)
    current = tcp_receive_window(s.rcv_nxt, s.rcv_wup, s.rcv_wnd)
    return not silly or t.rcv_wnd <= scaled_up(current, s.rcv_wscale)


TCP_WINDOW: Final = machine(
    Machine(
        name="tcp_window",
        title="TCP's receive window",
        accepts={Window: (Arrives, Advertise)},
        params=WindowParams,
        modules=(__name__,),
    )
)
