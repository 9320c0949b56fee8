"""TCP's connection machine, registered: which object answers which events."""

from typing import Final

from refmodel.rule import Machine, machine
from refmodel.tcp import checks, input, listen, output, synsent, timewait  # noqa: F401
from refmodel.tcp import events as ev
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import Req, Sock, Tw

TCP: Final = machine(
    Machine(
        name="tcp",
        title="TCP connections",
        accepts={
            Sock: (ev.Seg, ev.Output, ev.Retransmit, ev.SendAck, ev.DelackTimer),
            Req: (ev.Seg, ev.ReqTimer),
            Tw: (ev.Seg, ev.TwTimer),
        },
        params=TcpParams,
        modules=tuple(
            f"refmodel.tcp.{m}"
            for m in ("state", "events", "params", "checks", "output", "input", "synsent", "listen", "timewait", "machine")
        ),
    )
)
