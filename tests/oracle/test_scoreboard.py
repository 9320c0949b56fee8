"""What is out, and how acknowledgments and SACK blocks mark it."""

from conformance.oracle.recovery import CWR, DISORDER, LOSS, OPEN, RECOVERY
from conformance.oracle.scoreboard import Board, R, S, Sent, segments
from tests.oracle.frames import ACK, ECE, SYN, syn_options
from tests.oracle.sender_host import MS, MSS, Host


def board(*lengths: int) -> Board:
    """A board of entries with so many bytes."""
    b, seq = Board(), 100
    for n in lengths:
        b.append(Sent(seq, seq + n, 0, MSS, segments(n, MSS)))
        seq += n
    return b


def test_a_super_segment_counts_as_segments() -> None:
    assert board(MSS, 3 * MSS + 1).out == 5


def test_an_entry_is_found_by_any_of_its_numbers() -> None:
    b = board(10, 20)
    assert [b.index(x) for x in (99, 100, 109, 110, 129, 130)] == [-1, 0, 0, 1, 1, -1]


def test_a_cut_keeps_counts_and_marks() -> None:
    b = board(4 * MSS)
    b.q[0].sacked = S
    b.sacked = 4
    b.split(0, 100 + MSS)
    assert [(e.segs, e.sacked) for e in b.q] == [(1, S), (3, S)]
    assert (b.out, b.sacked) == (4, 4)


def test_the_front_of_a_super_segment_may_be_acknowledged() -> None:
    b = board(3 * MSS)
    assert b.trim(100 + MSS) == 1
    assert (b.q[0].seq, b.out) == (100 + MSS, 2)


def test_sack_marks_once() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + MSS, 1 + 2 * MSS))
    h.takes(1, (1 + MSS, 1 + 3 * MSS))
    assert [bool(e.sacked & S) for e in h.tx.f.board.q] == [False, True, True, False, False]
    assert h.tx.f.board.sacked == 2
    assert h.tx.f.ca == DISORDER


def test_a_block_cuts_a_super_segment() -> None:
    h = Host()
    h.sends(bytes(5 * MSS))
    h.takes(1, (1 + 2 * MSS, 1 + 4 * MSS))
    assert [(e.segs, bool(e.sacked & S)) for e in h.tx.f.board.q] == [(2, False), (2, True), (1, False)]


def test_blocks_beyond_what_was_sent_mark_nothing() -> None:
    h = Host()
    h.data(2)
    h.takes(1, (1 + MSS, 1 + 9 * MSS))
    assert h.tx.f.board.sacked == 0


def test_a_block_below_the_acknowledgment_is_a_dsack() -> None:
    h = Host()
    h.data(2)
    h.takes(1 + 2 * MSS)
    h.takes(1 + 2 * MSS, (1, 1 + MSS))
    assert h.count("TcpExt.TCPDSACKRecv") == 1


def test_a_first_block_within_the_second_is_a_dsack_out_of_order() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + 2 * MSS, 1 + 3 * MSS), (1 + MSS, 1 + 4 * MSS))
    assert h.count("TcpExt.TCPDSACKOfoRecv") == 1


def test_what_was_overtaken_without_being_repeated_is_reordering() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + 3 * MSS, 1 + 4 * MSS))
    h.takes(1, (1 + MSS, 1 + 2 * MSS), (1 + 3 * MSS, 1 + 4 * MSS))
    assert h.count("TcpExt.TCPSACKReorder") == 1


def test_recovery_ends_with_what_was_out_when_it_began() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + MSS, 1 + 5 * MSS), after=10 * MS)
    h.sends(bytes(MSS), seq=1)
    assert h.tx.f.ca == RECOVERY
    h.data(1)
    h.takes(1 + 5 * MSS, after=10 * MS)
    assert h.tx.f.ca == OPEN


def test_a_time_out_marks_everything_that_is_not_sacked() -> None:
    h = Host()
    h.data(4)
    h.takes(1, (1 + MSS, 1 + 2 * MSS))
    h.sends(bytes(MSS), seq=1, after=300 * MS)
    f = h.tx.f
    assert f.ca == LOSS
    assert (f.board.sacked, f.board.lost, f.board.retrans) == (1, 3, 1)
    assert f.board.q[0].sacked & R


def test_without_sack_a_duplicate_stands_for_a_segment() -> None:
    h = Host(sack=False)
    h.takes(1)
    h.data(4)
    h.takes(1)
    h.takes(1)
    assert h.tx.f.reno == 2


def test_a_mark_of_congestion_begins_a_reduction() -> None:
    h = Host()
    h.tx.ecn = True
    h.data(4)
    s = h.tap.frame(1, ACK | ECE, 1, 1 + MSS, window=502)
    h.end.hears(s)
    h.end.process()
    assert h.tx.f.ca == CWR


def test_an_acknowledgment_of_nothing_that_was_sent_is_left_alone() -> None:
    h = Host()
    h.data(1)
    h.takes(1 + 9 * MSS)
    assert h.tx.snd_una == 1


def test_an_older_acknowledgment_still_sacks() -> None:
    h = Host()
    h.data(5)
    h.takes(1 + MSS)
    h.takes(1, (1 + 3 * MSS, 1 + 4 * MSS))
    assert h.tx.snd_una == 1 + MSS
    assert h.tx.f.board.sacked == 1


def test_numbers_go_on_past_the_32nd_bit() -> None:
    h = Host()
    h.end.sends(h.tap.frame(0, SYN, 0xFFFF_FF00, options=syn_options(h.now)))
    h.end.hears(h.tap.frame(1, SYN | ACK, 0, 0xFFFF_FF01, options=syn_options(7, h.now), window=64_240))
    h.seq = 0xFFFF_FF01
    h.sends(b"")
    h.sends(bytes(MSS))
    assert h.tx.snd_nxt == (0xFFFF_FF01 + MSS) & 0xFFFF_FFFF
    h.takes((0xFFFF_FF01 + MSS) & 0xFFFF_FFFF)
    assert not h.tx.f.board.q


def test_a_start_in_mid_connection_knows_nothing_of_what_came_before() -> None:
    h = Host()
    fresh = Host(exact=False)
    fresh.tx.__init__(fresh.end)  # type: ignore[misc]
    s = h.tap.frame(0, ACK, 5_000_000, 1, payload=bytes(100), options=b"")
    assert fresh.end.sends(s).by == "tcp_write_xmit"
    again = h.tap.frame(0, ACK, 4_999_000, 1, payload=bytes(100), options=b"")
    assert fresh.end.sends(again).by == "tcp_xmit_retransmit_queue"
