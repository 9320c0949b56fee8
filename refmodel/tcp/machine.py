"""TCP's connection machine, registered: which object answers which events."""

from typing import Final

from refmodel.rule import Machine, machine
from refmodel.tcp import acceptq, calls, close, listen, output, properties, synsent, timers, timewait, transitions  # noqa: F401
from refmodel.tcp import events as ev
from refmodel.tcp import input as received  # noqa: F401
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import Listener, Req, Sock, St, Tw

MODULES: Final = (
    "state",
    "events",
    "params",
    "checks",
    "output",
    "input",
    "synsent",
    "listen",
    "timewait",
    "close",
    "calls",
    "timers",
    "acceptq",
    "properties",
    "transitions",
)

TCP: Final = machine(
    Machine(
        name="tcp",
        title="TCP connections",
        accepts={
            Sock: (
                ev.Seg,
                ev.Output,
                ev.Retransmit,
                ev.SendAck,
                ev.WriteTimer,
                ev.DelackTimer,
                ev.KeepaliveTimer,
                ev.Icmp,
                ev.ListenStop,
                ev.Release,
                ev.Connect,
                ev.Listen,
                ev.Close,
                ev.Shutdown,
                ev.Read,
                ev.Write,
                ev.Poll,
                ev.GetError,
                ev.SetLinger,
                ev.SetLinger2,
                ev.SetKeepalive,
                ev.SetUserTimeout,
            ),
            Req: (ev.Seg, ev.ReqTimer, ev.Icmp, ev.ListenStop),
            Tw: (ev.Seg, ev.TwTimer),
            Listener: (
                ev.ReqAdded,
                ev.ReqTimedOut,
                ev.ReqRemoved,
                ev.ChildQueued,
                ev.Accept,
                ev.Listen,
                ev.Close,
                ev.Poll,
            ),
        },
        params=TcpParams,
        modules=tuple(f"refmodel.tcp.{m}" for m in MODULES),
        initial=(Sock(), Sock(state=St.LISTEN), Listener()),
    )
)
