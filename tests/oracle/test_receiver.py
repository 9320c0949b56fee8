"""The receiving half: what an end acknowledges, echoes, reports and offers, and what makes it do so."""

from typing import Any

import pytest

from conformance.check.setup import Host as HostInfo
from conformance.oracle.end import End, Excuse, Label, Refusal, Stack
from conformance.oracle.ids import Ids
from conformance.oracle.receiver import CONSTRAINTS, Receiver
from conformance.oracle.recovery import Flow
from conformance.oracle.timers import Rtt
from refmodel.packet.segment import Segment
from refmodel.tcp.state import St
from tests.oracle.frames import ACK, APORT, BPORT, CWR, ECE, FIN, PSH, SYN, A, B, Still, Tap, syn_options, ts

MSS = 1448
WINDOW = 510  # the 65160 bytes of the SYN-ACK, rounded up to the scale of 7: 65280
M32 = 0xFFFFFFFF
SENT_NO_COOKIES = HostInfo("b", mib={"Tcp.PassiveOpens": 1})


class Host:
    """B, which hears A and answers; A's first byte is 1001, B's 5001. Timestamps are ms of the tap's clock."""

    def __init__(self, ecn: bool = False, sack: bool = True, **stack: Any) -> None:
        self.tap = Tap()
        given = {"near": True, "lossy": False, "given": True, "exact": True, "kernel": "6.12", **stack}
        given.setdefault("host", SENT_NO_COOKIES)
        self.end = e = End("b", 1, (B, BPORT), Stack(**given))
        e.peer = End("a", 0, (A, APORT), Stack())
        e.peer.tx = Still(snd_nxt=1001)
        self.rx = e.rx = Receiver(e)
        e.tx = Still(snd_una=5001, snd_nxt=5001, f=Flow(e.counts, Rtt()), takes=lambda s: None, fills=lambda s: False)
        e.ident = Still(
            steps_since_last=lambda s: 0, overtaken=lambda s: False, duplicate=lambda s: False, trusted=True,
            clock=Still(first=None, rate=1000), ids=Ids(),
        )  # fmt: skip
        e.life = Still(
            takes=self._moves, dues=[], due=self._due, cause=self._asked, moves=lambda: None, explain=lambda s: None,
            fin_end=None, peer_fin=None, small=False, got_twice=lambda s: False,
        )  # fmt: skip
        options = syn_options(1000, sack=sack)
        self.rx_takes(self.tap.frame(0, SYN | (ECE | CWR if ecn else 0), 1000, window=64240, options=options))
        synack = syn_options(2000, 1000, sack=sack)
        flags = SYN | ACK | (ECE if ecn else 0)
        self.rx.sent(self.tap.frame(1, flags, 5000, 1001, window=65160, options=synack), Label("tcp_conn_request"))
        e.state = St.ESTABLISHED

    def _moves(self, s: Segment) -> bool:
        return True

    def _due(self, by: str, s: Segment) -> None:
        self.end.life.dues.append(by)

    def _asked(self, s: Segment) -> Label | None:
        return Label(self.end.life.dues.pop()) if self.end.life.dues else None

    def rx_takes(self, s: Segment) -> None:
        """B processes an input at once."""
        self.rx.takes(s)

    def hears(
        self, seq: int, n: int = 0, flags: int = ACK, tsval: int = 1001, after: int = 10, tos: int = 0
    ) -> Segment:
        """A frame of A with `n` bytes from its byte `seq` on (1 is the first) is stamped."""
        s = self.tap.frame(
            0, flags, 1000 + seq, 5001, payload=b"x" * n, options=ts(tsval, 2000), after=after, tos=tos
        )  # fmt: skip
        self.end.pending.append(s)
        return s

    def says(
        self, ack: int, tsecr: int = 1001, window: int = WINDOW, sack: tuple[tuple[int, int], ...] = (), n: int = 0,
        flags: int = ACK, after: int = 10, stamped: bool = True,
    ) -> str:  # fmt: skip
        """B sends an acknowledgment up to A's byte `ack`; which function did. Raises Refusal."""
        options = ts(2001 + self.tap.us // 1000 - 1000, tsecr) if stamped else b""
        if sack:
            body = b"".join((1000 + x & M32).to_bytes(4, "big") for pair in sack for x in pair)
            options += b"\x01\x01\x05" + bytes((2 + len(body),)) + body
        seq = self.end.tx.snd_nxt
        s = self.tap.frame(
            1, flags, seq, 1000 + ack, window=window, payload=b"y" * n, options=options, after=after,
            ip_id=self.tap.number + 1,
        )  # fmt: skip
        self.rx.explain(s)
        label = self.rx.cause(s) if not n and not flags & FIN else Label("tcp_write_xmit")
        self.rx.sent(s, label)
        self.end.last_sent = s
        return label.by

    def refused(self, *args: Any, **fields: Any) -> Refusal:
        """B's frame, which must be refused."""
        with pytest.raises(Refusal) as why:
            self.says(*args, **fields)
        return why.value

    def counted(self, name: str) -> tuple[int, int]:
        """A counter's interval."""
        return self.end.counts.intervals().get(f"TcpExt.{name}", (0, 0))


@pytest.fixture
def host() -> Host:
    """B behind the handshake."""
    return Host()


class TestAcknowledgment:
    """The number that is acknowledged."""

    def test_names_the_end_of_what_came_in_order(self, host: Host) -> None:
        """Two segments are acknowledged by one ACK."""
        host.hears(1, MSS)
        host.hears(1 + MSS, MSS)
        assert host.says(1 + 2 * MSS) == "__tcp_ack_snd_check"

    def test_may_stop_before_what_was_stamped_a_moment_ago(self, host: Host) -> None:
        """What is stamped is not yet processed."""
        host.hears(1, MSS)
        host.hears(1 + MSS, MSS)
        host.says(1 + MSS)
        assert len(host.end.pending) == 1

    def test_of_what_never_arrived_is_refused(self, host: Host) -> None:
        """RFC 9293 3.4: an acknowledgment of something not yet sent."""
        host.hears(1, MSS)
        assert host.refused(1 + MSS + 1000).constraint == "ack-of-what-did-not-arrive"

    def test_within_a_segment_is_refused(self, host: Host) -> None:
        """A segment is taken as a whole."""
        host.hears(1, MSS)
        assert host.refused(1 + 700).constraint == "ack-is-rcv-nxt"

    def test_never_goes_back(self, host: Host) -> None:
        """What was acknowledged stays so."""
        host.hears(1, MSS)
        host.says(1 + MSS)
        host.hears(1 + MSS, MSS, after=5000)
        assert host.refused(1).constraint == "ack-goes-back"

    def test_leaves_out_a_dropped_segment_where_frames_are_lost(self) -> None:
        """With SACK the hole shows which one it was."""
        host = Host(lossy=True)
        host.hears(1, MSS)
        host.hears(1 + MSS, MSS)
        host.says(1, sack=((1 + MSS, 1 + 2 * MSS),), tsecr=1000)
        assert not host.end.pending
        assert host.rx.rcv_nxt == 1001

    def test_leaves_none_out_where_nothing_is_lost(self, host: Host) -> None:
        """A sidecar that counted no drops rules a drop out."""
        host.hears(1, MSS)
        host.hears(1 + MSS, MSS)
        window = WINDOW + 20  # with the right edge moved on memory is not short
        assert host.refused(1, sack=((1 + MSS, 1 + 2 * MSS),), tsecr=1000, window=window).constraint

    def test_names_the_input_that_a_silence_of_acknowledgments_excuses(self) -> None:
        """What was taken for processed and is not acknowledged may have been dropped."""
        host = Host(lossy=True)
        p = host.hears(1, MSS)
        host.rx_takes(host.end.pending.popleft())
        host.hears(1 + MSS, MSS, tsval=1300, after=300_000)
        why = host.refused(1, tsecr=1000, sack=((1 + MSS, 1 + 2 * MSS),))
        assert [(x.kind, x.frame) for x in why.excuses][:1] == [("dropped", p.number)]

    def test_an_empty_segment_that_overtook_text_does_not_bring_it(self, host: Host) -> None:
        """Its number lies ahead, and its timestamp is not taken."""
        host.hears(101, tsval=1005)
        host.hears(1, 100, tsval=1004)
        host.says(101, tsecr=1004)


class TestEcho:
    """TSecr; RFC 7323 4.3."""

    def test_is_the_timestamp_of_the_segment_at_the_last_acknowledgment(self, host: Host) -> None:
        """Of two segments under one ACK the first counts."""
        host.hears(1, MSS, tsval=1005)
        host.hears(1 + MSS, MSS, tsval=1006)
        host.says(1 + 2 * MSS, tsecr=1005)

    def test_of_a_later_segment_is_refused(self, host: Host) -> None:
        """The second segment began beyond the last acknowledgment."""
        host.hears(1, MSS, tsval=1005)
        host.hears(1 + MSS, MSS, tsval=1006)
        assert host.refused(1 + 2 * MSS, tsecr=1006).constraint == "echo-is-ts-recent"

    def test_of_a_hole_stays_what_it_was(self, host: Host) -> None:
        """What waits behind a hole isn't echoed."""
        host.hears(1 + MSS, MSS, tsval=1009)
        host.says(1, tsecr=1000, sack=((1 + MSS, 1 + 2 * MSS),))


class TestSack:
    """SACK blocks; RFC 2018 4, RFC 2883 4."""

    def test_segments_of_one_super_segment_repeat_its_blocks(self, host: Host) -> None:
        """Each has the options of the first, the DSACK too; source net/ipv4/tcp_offload.c:tcp_gso_segment."""
        host.hears(1, 100)
        host.says(101)
        host.hears(1, 100)
        host.says(101, sack=((1, 101),), n=100, after=0)
        host.end.tx.snd_nxt += 100
        host.says(101, sack=((1, 101),), n=100, after=0)
        host.end.tx.snd_nxt += 100
        assert host.refused(101, sack=((1, 101),), n=100, after=5_000).constraint == "sack-blocks"

    def test_the_last_block_that_changed_comes_first(self, host: Host) -> None:
        """As selective_acks stand."""
        host.hears(3001, 500)
        host.says(1, tsecr=1000, sack=((3001, 3501),))
        host.hears(5001, 500)
        host.says(1, tsecr=1000, sack=((5001, 5501), (3001, 3501)))
        host.hears(3501, 500)
        host.says(1, tsecr=1000, sack=((3001, 4001), (5001, 5501)))

    def test_in_another_order_are_refused(self, host: Host) -> None:
        """The block of the last segment stands first."""
        host.hears(3001, 500)
        host.says(1, tsecr=1000, sack=((3001, 3501),))
        host.hears(5001, 500)
        assert host.refused(1, tsecr=1000, sack=((3001, 3501), (5001, 5501))).constraint == "sack-blocks"

    def test_only_three_fit_beside_timestamps(self, host: Host) -> None:
        """Of four blocks the oldest is left out."""
        for seq in (3001, 5001, 7001, 9001):
            host.hears(seq, 100)
        host.says(1, tsecr=1000, sack=((9001, 9101), (7001, 7101), (5001, 5101)))

    def test_what_was_held_back_leaves_before_the_third_block_comes_first(self, host: Host) -> None:
        """tcp_sack_compress_send_ack: its block is extended, and not yet in its place; it is answered later."""
        for seq in (3001, 5001, 7001):
            host.hears(seq, 100)
            host.says(1, tsecr=1000, sack=tuple((x, x + 100) for x in (7001, 5001, 3001) if x <= seq))
        host.hears(7101, 100)
        host.hears(3101, 100)
        host.says(1, tsecr=1000, sack=((7001, 7201), (5001, 5101), (3001, 3201)))
        host.says(1, tsecr=1000, sack=((3001, 3201), (7001, 7201), (5001, 5101)))

    def test_where_nothing_was_held_back_it_comes_first(self, host: Host) -> None:
        """Each segment before was answered."""
        for seq in (3001, 5001, 7001):
            host.hears(seq, 100)
            host.says(1, tsecr=1000, sack=tuple((x, x + 100) for x in (7001, 5001, 3001) if x <= seq))
        host.hears(3101, 100)
        why = host.refused(1, tsecr=1000, sack=((7001, 7101), (5001, 5101), (3001, 3201)))
        assert why.constraint == "sack-blocks"

    def test_of_data_that_never_came_are_refused(self, host: Host) -> None:
        """A block holds what arrived."""
        host.hears(3001, 500)
        assert host.refused(1, tsecr=1000, sack=((3001, 4001),)).constraint == "sack-blocks"

    def test_without_permission_are_refused(self) -> None:
        """RFC 2018 3: both SYNs permit them."""
        host = Host(sack=False)
        host.hears(3001, 500)
        assert host.refused(1, tsecr=1000, sack=((3001, 3501),)).constraint == "sack-not-permitted"

    def test_data_that_came_twice_is_told_once(self, host: Host) -> None:
        """DSACK, counted as such."""
        host.hears(1, 100)
        host.says(101)
        host.hears(1, 100)
        host.says(101, sack=((1, 101),))
        assert host.counted("TCPDSACKOldSent") == host.counted("DelayedACKLost") == (1, 1)

    def test_a_dsack_of_what_came_once_is_refused(self, host: Host) -> None:
        """Nothing came twice."""
        host.hears(1, 100)
        assert host.refused(101, sack=((1, 101),)).constraint == "sack-blocks"

    def test_a_filled_hole_ends_the_blocks(self, host: Host) -> None:
        """The acknowledgment takes in what had waited."""
        host.hears(101, 100)
        host.says(1, tsecr=1000, sack=((101, 201),))
        host.hears(1, 100)
        host.says(201)

    def test_segments_behind_holes_are_counted(self, host: Host) -> None:
        """TCPOFOQueue: skbs that the stack joined count once, so that it is an interval."""
        host.hears(101, 100)
        host.hears(201, 100)
        host.says(1, tsecr=1000, sack=((101, 301),))
        assert host.counted("TCPOFOQueue") == (1, 2)


class TestWindow:
    """What is offered."""

    def test_before_data_comes_stays_what_the_syn_offered(self, host: Host) -> None:
        """Rounded up to the scale and no more."""
        host.hears(1, 1)
        host.says(2, window=WINDOW)
        assert Host().refused(1, tsecr=1000, window=WINDOW + 1).constraint == "window-too-wide"

    def test_opens_by_two_segments_for_each_that_came(self, host: Host) -> None:
        """tcp_grow_window: 2 * 1448 bytes above 65160 are 68056, rounded up 532 times 128."""
        host.hears(1, MSS)
        host.says(1 + MSS, window=532)

    def test_opens_no_further(self, host: Host) -> None:
        """One segment gives room for two."""
        host.hears(1, MSS)
        assert host.refused(1 + MSS, window=534).constraint == "window-too-wide"

    def test_the_right_edge_stays(self, host: Host) -> None:
        """What was promised is kept."""
        host.hears(1, MSS)
        host.says(1 + MSS, window=532)
        host.hears(1 + MSS, MSS)
        assert host.refused(1 + 2 * MSS, window=500).constraint == "window-retreats"

    def test_the_right_edge_may_move_back_where_the_sysctl_says_so(self) -> None:
        """net.ipv4.tcp_shrink_window, since 6.5."""
        host = Host(told={"net.ipv4.tcp_shrink_window": 1})
        host.hears(1, MSS)
        host.says(1 + MSS, window=532)
        host.hears(1 + MSS, MSS)
        host.says(1 + 2 * MSS, window=500)

    def test_without_memory_it_is_zero(self) -> None:
        """ICSK_ACK_NOMEM takes the promise back; and its opening is counted."""
        host = Host(host=HostInfo("b", mib={"Tcp.PassiveOpens": 1, "TcpExt.PruneCalled": 1}))
        host.hears(1, MSS)
        host.hears(1 + MSS, MSS)
        host.says(1 + MSS, window=0)
        assert host.counted("TCPToZeroWindowAdv") == (1, 1)
        assert host.says(1 + MSS, window=0) == "__tcp_ack_snd_check"
        assert host.says(1 + MSS, window=200, after=9000) == "__tcp_cleanup_rbuf"
        assert host.counted("TCPFromZeroWindowAdv") == (1, 1)


class TestEcn:
    """ECE; RFC 3168 6.1.3."""

    def test_a_mark_is_echoed_until_the_window_is_reduced(self) -> None:
        """From CE to CWR."""
        host = Host(ecn=True)
        host.hears(1, 100, tos=3)
        host.says(101, flags=ACK | ECE)
        host.hears(101, 100, flags=ACK | CWR)
        host.says(201)

    @pytest.mark.parametrize(("tos", "flags"), [(3, ACK), (2, ACK | ECE)])
    def test_an_echo_without_a_mark_or_a_mark_without_an_echo_is_refused(self, tos: int, flags: int) -> None:
        """One follows from the other."""
        host = Host(ecn=True)
        host.hears(1, 100, tos=tos)
        assert host.refused(101, flags=flags).constraint == "congestion-echo"


class TestCause:
    """Why an acknowledgment leaves just now."""

    def test_one_cause_sends_one(self, host: Host) -> None:
        """The second has none."""
        host.hears(1, MSS)
        host.says(1 + MSS)
        assert host.refused(1 + MSS).constraint == "ack-without-cause"

    def test_the_delayed_ack_timer_is_told_by_its_time(self, host: Host) -> None:
        """In a dialogue an answer waits 40 ms for data to carry it."""
        for k in range(3):
            host.hears(1 + 10 * k, 10, flags=ACK | PSH, after=100)
            host.end.tx.snd_nxt += 10
            host.says(11 + 10 * k, n=10)
        host.hears(31, 10, flags=ACK | PSH, after=100)
        assert host.says(41, after=44_000) == "tcp_delack_timer_handler"
        assert host.counted("DelayedACKs") == (1, 1)

    def test_a_read_sends_one_if_the_window_doubles(self, host: Host) -> None:
        """From a window that had nearly closed."""
        host.hears(1, 60_000)
        host.says(60_001, window=41)
        assert host.says(60_001, window=300, after=5000) == "__tcp_cleanup_rbuf"

    def test_a_window_that_opens_a_little_sends_none(self, host: Host) -> None:
        """It must at least double."""
        host.hears(1, 60_000)
        host.says(60_001, window=41)
        assert host.refused(60_001, window=60, after=5000).constraint == "ack-without-cause"

    def test_a_keepalive_probe_is_answered(self, host: Host) -> None:
        """Its sequence number lies below the window: tcp_send_dupack."""
        host.hears(1, 100)
        host.says(101)
        host.hears(100, tsval=1500, after=1_000_000)
        assert host.says(101) == "tcp_send_dupack"

    def test_an_old_timestamp_is_answered(self, host: Host) -> None:
        """PAWS: the segment is turned away, and acknowledged."""
        host.hears(1, 100, tsval=1500)
        host.says(101, tsecr=1500)
        host.hears(101, 100, tsval=1400)
        assert host.says(101, tsecr=1500) == "tcp_send_dupack"

    def test_an_acknowledgment_of_what_was_not_sent_is_challenged(self, host: Host) -> None:
        """RFC 5961 5.2: and its text is not taken."""
        host.end.pending.append(host.tap.frame(0, ACK | PSH, 1001, 6001, payload=b"x" * 10, options=ts(1001, 2000)))
        assert host.says(1, tsecr=1000) == "tcp_send_challenge_ack"

    def test_what_stays_unacknowledged_beyond_the_timer_is_missed(self, host: Host) -> None:
        """200 ms, the timer wheel's slack, and the time in which the host may process what was stamped."""
        host.hears(1, MSS)
        host.rx_takes(host.end.pending.popleft())
        host.rx.overdue(host.tap.us + 200_000)
        with pytest.raises(Refusal) as why:
            host.rx.overdue(host.tap.us + 300_000)
        assert why.value.constraint == "ack-withheld"
        assert not why.value.excuses

    def test_a_fin_is_acknowledged_as_the_state_moves(self, host: Host) -> None:
        """tcp_fin in FIN_WAIT2."""
        host.end.state = St.FIN_WAIT2
        host.hears(1, 0, flags=ACK | FIN)
        assert host.says(2) == "tcp_fin"
        assert host.end.state == St.TIME_WAIT


class TestFar:
    """An end that the tap isn't near."""

    def test_may_get_segments_in_another_order(self) -> None:
        """They overtake each other behind the tap."""
        host = Host(near=False, lossy=None, exact=False)
        for k in range(3):
            host.hears(1 + 100 * k, 100)
        host.says(1, tsecr=1000, sack=((201, 301),))
        host.says(1, tsecr=1000, sack=((101, 301),))
        host.says(301)

    def test_reports_no_border_that_no_segment_has(self) -> None:
        """Neither by an acknowledgment nor by a block."""
        host = Host(near=False, lossy=None, exact=False)
        for k in range(3):
            host.hears(1 + 100 * k, 100)
        assert host.refused(1, tsecr=1000, sack=((150, 301),)).constraint == "sack-blocks"

    def test_acknowledges_a_part_of_a_super_segment(self) -> None:
        """It is cut into segments on the way."""
        host = Host(near=False, lossy=None, exact=False)
        host.hears(1, 3 * MSS)
        host.says(1 + MSS)
        host.says(1 + 3 * MSS)

    def test_echoes_no_less_than_before(self) -> None:
        """ts_recent goes on: what left later echoes at least as much, whatever the path does to it."""
        host = Host(near=False, lossy=None, exact=False)
        host.hears(1, 100, tsval=1020)
        host.says(101, tsecr=1020, after=2_000)
        assert host.refused(101, tsecr=1010, n=10, after=2_000).constraint == "echo-is-ts-recent"

    def test_echoes_only_what_was_sent_to_it(self) -> None:
        """A timestamp between two that came was never on its way."""
        host = Host(near=False, lossy=None, exact=False)
        host.hears(1, 100, tsval=1010)
        host.hears(101, 100, tsval=1030)
        assert host.refused(201, tsecr=1020, after=2_000).constraint == "echo-is-ts-recent"

    def test_tells_of_what_came_twice_where_the_segments_lay(self) -> None:
        """A DSACK begins and ends where segments did."""
        host = Host(near=False, lossy=None, exact=False)
        host.hears(1, 100)
        host.says(101, after=2_000)
        host.says(101, sack=((1, 101),), after=2_000)
        assert host.refused(101, sack=((2, 101),), after=2_000).constraint == "sack-blocks"

    def test_tells_of_a_duplicate_whose_timestamp_it_echoes(self) -> None:
        """It had acknowledged the segment before; the copy's timestamp shows that it came."""
        host = Host(near=False, lossy=None, exact=False)
        host.hears(1, 100)
        host.says(101, after=2_000)
        host.hears(1, 100, tsval=1050, after=50_000)
        assert host.refused(101, tsecr=1050).constraint == "sack-blocks"

    def test_forgets_no_block_that_waits(self) -> None:
        """The hole is still there, so what waits behind it is told again."""
        host = Host(near=False, lossy=None, exact=False)
        host.hears(201, 100)
        host.says(1, tsecr=1000, sack=((201, 301),), after=2_000)
        host.hears(401, 100)
        why = host.refused(1, tsecr=1000, sack=((401, 501),), after=2_000)
        assert (why.constraint, why.what) == (
            "sack-blocks",
            "SACK 1401-1501, but 1201-1301 waited before, and waits still",
        )

    def test_repeats_no_acknowledgment_for_text(self) -> None:
        """Text out of order or twice shows in the blocks; only what it doesn't look into is answered with the same."""
        host = Host(near=False, lossy=None, exact=False)
        host.hears(1, 100)
        host.says(101, after=2_000)
        assert host.refused(101, after=2_000).constraint == "ack-without-cause"

    def test_repeats_its_acknowledgment_for_a_probe(self) -> None:
        """An empty segment below what was acknowledged is answered, with nothing to tell."""
        host = Host(near=False, lossy=None, exact=False)
        host.hears(1, 100)
        host.says(101, after=2_000)
        host.hears(100, after=2_000)
        assert host.says(101, after=2_000) == "tcp_send_dupack"

    def test_repeats_its_acknowledgment_for_an_old_timestamp(self) -> None:
        """Text that others overtook by so much that PAWS refuses it is answered, and not looked into."""
        host = Host(near=False, lossy=None, exact=False)
        host.hears(101, 100, tsval=1001)
        host.hears(1, 100, tsval=1010)
        host.says(101, tsecr=1010, after=2_000)
        assert host.says(101, tsecr=1010, after=2_000) == "__tcp_ack_snd_check"

    def test_answers_nothing_that_a_whole_tap_did_not_see(self) -> None:
        """The recorder says that its tap missed nothing: what is acknowledged must have passed it."""
        host = Host(near=False, lossy=None, exact=False, whole=True)
        host.hears(1, 100)
        host.hears(201, 100)
        assert host.refused(301, after=2_000).excuses == ()
        host = Host(near=False, lossy=None, exact=False)
        host.hears(1, 100)
        assert [x.kind for x in host.refused(301, after=2_000).excuses] == ["unheard"]


class TestUnknown:
    """A capture that starts in mid-connection, or lacks frames."""

    def _middle(self) -> Host:
        host = Host()
        host.end.rx = host.rx = Receiver(host.end)
        return host

    def test_the_first_output_tells_where_it_stands(self) -> None:
        """Then it is held to that."""
        host = self._middle()
        host.says(5001, window=1)
        host.hears(5001, 100)
        host.says(5101, window=1)
        assert host.rx.rcv_nxt == 6101

    def test_what_was_unheard_excuses_an_acknowledgment(self, host: Host) -> None:
        """If it is decided so."""
        host.hears(1, 100)
        why = host.refused(201)
        assert [x.kind for x in why.excuses] == ["unheard"]
        host = Host()
        host.hears(1, 100)
        host.end.decided = {host.tap.number + 1: Excuse("unheard", host.tap.number + 1, "told")}
        host.says(201)

    def test_a_foreign_stack_is_held_to_what_binds_all(self) -> None:
        """It may acknowledge within a segment, but not beyond what came."""
        host = Host(linux=False)
        host.hears(1, 100)
        host.says(51)
        assert host.refused(301).constraint == "ack-of-what-did-not-arrive"


def test_a_copy_shares_nothing(host: Host) -> None:
    """What the copy takes leaves the original as it was."""
    host.hears(301, 100)
    host.says(1, tsecr=1000, sack=((301, 401),))
    copy = host.rx.copy()
    copy.takes(host.hears(501, 100))
    assert host.rx.re.blocks == [(1301, 1401)]
    assert copy.re.blocks == [(1501, 1601), (1301, 1401)]


def test_every_constraint_has_its_citations() -> None:
    """A kernel function, and an RFC's section."""
    assert len({c.id for c in CONSTRAINTS}) == len(CONSTRAINTS)
    for c in CONSTRAINTS:
        assert any(x.startswith(("net/", "include/")) for x in c.cites)
        assert any(x.startswith("RFC ") for x in c.cites)
