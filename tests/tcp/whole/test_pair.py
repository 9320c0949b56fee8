"""Two whole TCPs over a wire that loses, reorders, duplicates, delays and damages."""

from hypothesis import given, settings
from hypothesis import strategies as st

from refmodel.tcp.state import St
from refmodel.tcp.whole import calls
from refmodel.tcp.whole.invariants import violations
from refmodel.tcp.whole.pair import Fate, Pair
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.sock import Sock

SECOND = 1_000_000
EAGAIN = -11

fates = st.lists(
    st.builds(
        Fate,
        delay=st.sampled_from([200, 10_000, 10_000, 10_000, 40_000, 300_000]),
        copies=st.sampled_from([1, 1, 1, 1, 1, 0, 2]),
        damaged=st.sampled_from([False] * 15 + [True]),
    ),
    max_size=60,
)
params = st.builds(
    WholeParams,
    hz=st.sampled_from([250, 1000]),
    kernel=st.sampled_from([601, 612]),
    tcp_sack=st.sampled_from([1, 1, 0]),
    tcp_timestamps=st.sampled_from([1, 1, 0]),
    tcp_window_scaling=st.sampled_from([1, 1, 0]),
    tcp_ecn=st.sampled_from([2, 1]),
    tcp_early_retrans=st.sampled_from([3, 0]),
    tcp_rmem_1=st.sampled_from([131072, 8192]),
)
writes = st.lists(st.sampled_from([1, 100, 1448, 5000, 20000]), min_size=0, max_size=6)


class Stream:
    """One direction: what the writer still has to write, what the reader has got."""

    def __init__(self, sizes: list[int]) -> None:
        self.todo = list(sizes)
        self.total = sum(sizes)
        self.got = 0
        self.ended = False
        self.shut = False


def drive(pair: Pair, fds: tuple[int, int], streams: tuple[Stream, Stream], limit: int) -> None:
    """Both applications write, shut down, read to the end and close, checking every law after every event."""
    socks: list[Sock] = [pair.hosts[i].process.fds[fds[i]].sk for i in (0, 1)]
    begun = [sk.copied_seq for sk in socks]
    end = pair.now + limit
    while not all(s.shut for s in streams) or not all(s.ended for s in streams):
        for i, host in enumerate(pair.hosts):
            act(host.process, fds[i], streams[i], streams[1 - i])
            assert (socks[i].copied_seq - begun[i]) & 0xFFFFFFFF >= streams[1 - i].got
        pair.settle()
        for host in pair.hosts:
            assert [name for name, _ in violations(host.net)] == []
        if pair.now > end:
            raise AssertionError(f"not over after {limit / SECOND:.0f} s: {[vars(s) for s in streams]}")
        if not pair.step():
            break


def act(process: calls.Process, fd: int, out: Stream, into: Stream) -> None:
    """What an application does whenever something happened: write on, read all."""
    while out.todo:
        ret = process.start(calls.sys_send(process, fd, out.todo[0], 0x40)).ret.value
        if ret == EAGAIN:
            break
        assert ret > 0
        out.todo[0] -= ret
        if out.todo[0] == 0:
            out.todo.pop(0)
    if not out.todo and not out.shut:
        assert process.start(calls.sys_shutdown(process, fd, 1)).ret.value == 0
        out.shut = True
    while not into.ended:
        ret = process.start(calls.sys_recv(process, fd, 100_000, 0x40)).ret.value
        if ret == EAGAIN:
            break
        assert ret >= 0
        into.got += ret
        into.ended = ret == 0


@settings(deadline=None)
@given(fates=fates, first=params, second=params, there=writes, back=writes)
def test_every_byte_arrives_once_and_in_order_and_both_ends_close(
    fates: list[Fate], first: WholeParams, second: WholeParams, there: list[int], back: list[int]
) -> None:
    script = iter(fates)
    pair = Pair(lambda host, number: next(script, Fate()), (first, second))
    try:
        fds = pair.connect()
    except TimeoutError:
        return  # the wire lost every SYN-ACK, or every last ACK of the handshake: one end gave up
    streams = (Stream(there), Stream(back))
    drive(pair, fds, streams, 1800 * SECOND)
    assert [s.got for s in streams] == [s.total for s in streams]
    assert all(s.ended for s in streams)
    for i, host in enumerate(pair.hosts):
        host.process.start(calls.sys_close(host.process, fds[i]))
    pair.settle()
    pair.run(pair.now + 600 * SECOND)
    for host in pair.hosts:
        assert [name for name, _ in violations(host.net)] == []
        assert not [sk for sk in host.net.ehash.values() if sk.sk_state != St.LISTEN], "a connection is still there"
        assert host.net.next_timer() is None, "a timer is still armed"
