"""What one event costs the run engine: segments and calls of TCP, through the Dispatcher.

Run as ``python -m bench.run [EVENTS]``. Each row repeats one event in one state, as a capture of that kind would.
"""

import sys
from typing import Any

from bench.measure import CONSOLE, best, table
from refmodel.engine.run import pick
from refmodel.rule import Event, State
from refmodel.tcp.events import DelackTimer, Output, Read, Seg, Write
from refmodel.tcp.machine import TCP
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import Sock, St


def open_sock(**given: Any) -> Sock:
    """An open connection with timestamps, in the middle of its sequence space."""
    fields: dict[str, Any] = {
        "state": St.ESTABLISHED,
        "snd_una": 1000,
        "snd_nxt": 1000,
        "write_seq": 1000,
        "snd_wnd": 65000,
        "snd_wl1": 5000,
        "max_window": 65000,
        "rcv_nxt": 5000,
        "rcv_wup": 5000,
        "rcv_wnd": 65000,
        "copied_seq": 5000,
        "snd_wscale": 7,
        "rcv_wscale": 7,
        "wscale_ok": True,
        "sack_ok": True,
        "ts_ok": True,
        "ts_recent": 100,
        "ts_recent_stamp": 1,
    }
    return Sock(**(fields | given))


def rows() -> list[tuple[str, State, Event]]:
    """(what, state, event)."""
    here: dict[str, Any] = {"seq": 5000, "ack_seq": 1000, "win": 65000, "ts": True, "tsval": 101, "now": 2_000_000}
    flying = open_sock(snd_nxt=2448, write_seq=2448)
    return [
        ("a data segment in ESTABLISHED", open_sock(), Seg(len=1448, ack_now=False, **here)),
        ("the same, acknowledged at once", open_sock(), Seg(len=1448, **here)),
        ("an ACK of new data", flying, Seg(**(here | {"ack_seq": 2448}))),
        ("send()", open_sock(), Write(n=1448)),
        ("a segment leaves", open_sock(write_seq=2448), Output(n=1448)),
        ("recv()", open_sock(rcv_nxt=6448), Read(n=1448)),
        ("the delayed-ACK timer", open_sock(ack_sched=True, ack_timeout=0), DelackTimer(now=9)),
    ]


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    apply, params = pick(TCP).apply, TcpParams()
    t = table("run: one event through the Dispatcher", "event", "rule", "us", "events/s")

    for what, state, event in rows():
        rule = apply(state, event, params)[0]

        def many(state: State = state, event: Event = event) -> None:
            for _ in range(events):
                apply(state, event, params)

        seconds = best(3, many) / events
        t.add_row(what, rule.id, f"{1e6 * seconds:.1f}", f"{1 / seconds:,.0f}")
    CONSOLE.print(t)


if __name__ == "__main__":
    main()
