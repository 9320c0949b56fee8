"""Counterexamples as .pkt scripts: one part of a run becomes the kernel under test, the other the script's packets.

The script can be run on a real kernel by packetdrill: that is how a user learns whether the kernel does what the search
found. Sequence numbers are relative to each side's first SYN, as the language wants them. In a search the sending of
what is queued is a step of its own, which may come late; a script cannot hold it back, so it says where that happened.
"""

from collections.abc import Iterator
from typing import Any

from refmodel.engine.difference import Both
from refmodel.engine.runs import Run, RunStep
from refmodel.tcp.events import (
    Accept,
    Close,
    Connect,
    Listen,
    Output,
    Read,
    Retransmit,
    Seg,
    SendAck,
    SetKeepalive,
    SetLinger,
    Shutdown,
    Tx,
    Write,
    raw_window,
)
from refmodel.tcp.state import Sock, St
from refmodel.types import M32


class NotAScript(ValueError):
    """The run cannot be a .pkt script; says which step and why."""


SETUP = (
    "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
    "+0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0",
)


class _Script:
    """The script as it grows: descriptors, both sides' first sequence numbers."""

    def __init__(self, start: Any) -> None:
        self.lines: list[str] = list(SETUP)
        self.fd = 3
        self.local: int | None = None
        self.remote: int | None = None
        self.accepted = True
        if isinstance(start, Sock) and start.state == St.LISTEN:
            self.listen()

    def listen(self) -> None:
        self.lines += ["+0 bind(3, ..., ...) = 0", "+0 listen(3, 1) = 0"]
        self.accepted = False

    def owner(self) -> int:
        """The connection's descriptor; a passive connection is accepted when it is first used."""
        if not self.accepted:
            self.lines.append("+0 accept(3, ..., ...) = 4")
            self.accepted, self.fd = True, 4
        return self.fd

    def rel(self, seq: int, base: int | None) -> int:
        return (seq - (base or 0)) & M32


def to_pkt(run: Run, component: str) -> str:
    """The run as a .pkt script that drives `component`; raises NotAScript."""
    starts = dict(run.start)
    if component not in starts:
        raise NotAScript(f"no part {component!r} in the run; there are {', '.join(starts)}")
    start = starts[component]
    script = _Script(start.left if isinstance(start, Both) else start)
    about = [f"// {run.title}", f"// found by searching {run.system}; the kernel under test plays {component}"]
    own = [(n, s) for n, s in enumerate(run.steps, 1) if s.component == component and s.kind != "lose"]
    for k, (n, step) in enumerate(own):
        script.lines += _step(script, step, n)
        if _waits(step) and k + 1 < len(own) and not isinstance(own[k + 1][1].event, Output):
            script.lines.append("// in the run what is queued waits here; a kernel with open windows sends it at once")
    return "\n".join([*about, *script.lines]) + "\n"


def _step(script: _Script, step: RunStep, n: int) -> Iterator[str]:
    e = step.event
    sent = [x for x in step.effects if isinstance(x, Tx)]
    if isinstance(e, Seg):
        yield _packet_in(script, e)
        yield from (_packet_out(script, t, "*" if _may_wait(e, t) else "+0") for t in sent)
        return
    if isinstance(e, Connect):
        yield "+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0"
        yield "+0 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)"
    elif isinstance(e, Listen):
        script.listen()
    elif isinstance(e, Accept):
        script.owner()
    elif isinstance(e, Close | Shutdown | Write | Read | SetLinger | SetKeepalive):
        fd = script.owner()
        yield _call(e, fd, step, n)
    elif not isinstance(e, Output | Retransmit | SendAck) and not sent:
        yield f"// {type(e).__name__}"
    when = "+0" if isinstance(e, Connect | Close | Shutdown | Write | Output | Read | SendAck) else "*"
    yield from (_packet_out(script, t, when) for t in sent)


def _may_wait(e: Seg, t: Tx) -> bool:
    """Whether the answer may be a delayed acknowledgment: when it is sent is the kernel's choice, not the search's."""
    return bool(e.len or e.fin) and not (t.syn or t.fin or t.rst or t.len)


def _waits(step: RunStep) -> bool:
    """Whether the step queued something that a later Output sends."""
    s = step.after
    return isinstance(step.event, Close | Shutdown | Write) and isinstance(s, Sock) and s.snd_nxt != s.write_seq


def _call(e: Any, fd: int, step: RunStep, n: int) -> str:
    match e:
        case Close():
            return f"+0 close({fd}) = 0"
        case Shutdown(rd=rd, wr=wr):
            how = "SHUT_RDWR" if rd and wr else "SHUT_RD" if rd else "SHUT_WR"
            return f"+0 shutdown({fd}, {how}) = 0"
        case Write(n=size):
            return f"+0 send({fd}, ..., {size}, 0) = {size}"
        case Read(n=size):
            got = next((x.value for x in step.effects if type(x).__name__ == "CallResult"), size)
            return f"+0 recv({fd}, ..., {size}, 0) = {got}"
        case SetLinger(on=on, time=time):
            return f"+0 setsockopt({fd}, SOL_SOCKET, SO_LINGER, {{onoff={int(on)}, linger={time // 1_000_000}}}, 8) = 0"
        case SetKeepalive(on=on):
            return f"+0 setsockopt({fd}, SOL_SOCKET, SO_KEEPALIVE, [{int(on)}], 4) = 0"
    raise NotAScript(f"step {n}: {type(e).__name__} has no system call")


def _flags(x: Seg | Tx) -> str:
    # Every write of a search is pushed: tcp_push marks its last segment, and packetdrill compares the flag.
    push = isinstance(x, Tx) and x.len > 0
    letters = (("F", x.fin), ("S", x.syn), ("R", x.rst), ("P", push), (".", x.ack))
    return "".join(c for c, on in letters if on) or "-"


def _packet_in(script: _Script, e: Seg) -> str:
    if e.syn and script.remote is None:
        script.remote = e.seq
    seq = script.rel(e.seq, script.remote)
    ack = f" ack {script.rel(e.ack_seq, script.local)}" if e.ack else ""
    return f"+.01 < {_flags(e)} {seq}:{(seq + e.len) & M32}({e.len}){ack} win {min(e.win, 65535)}{_options(e)}"


def _options(e: Seg) -> str:
    if not e.syn:
        return ""
    parts = [f"mss {e.mss or 1460}"]
    if e.sack_ok:
        parts += ["nop", "nop", "sackOK"]
    if e.wscale_ok:
        parts += ["nop", f"wscale {e.wscale}"]
    return f" <{','.join(parts)}>"


def _packet_out(script: _Script, t: Tx, when: str) -> str:
    if t.syn and script.local is None:
        script.local = t.seq
    seq = script.rel(t.seq, script.local)
    ack = f" ack {script.rel(t.ack_seq, script.remote)}" if t.ack else ""
    options = " <...>" if t.syn or t.ts else ""
    window = " win 0" if raw_window(t) == 0 and not t.rst else ""
    return f"{when} > {_flags(t)} {seq}:{(seq + t.len) & M32}({t.len}){ack}{window}{options}"
