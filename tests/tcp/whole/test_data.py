"""Data that arrives in and out of order. Expected values are the source's, many seen on a kernel as well."""

import pytest

from refmodel.tcp.whole.const import ACK, FIN, PSH
from tests.tcp.whole.peer import Peer


def sacks(p: Peer, seq: int, length: int) -> list[tuple[int, int]]:
    answers = p.data(seq, length)
    assert len(answers) == 1
    return list(answers[0].opts.sacks)


def test_the_block_that_changed_last_stands_first() -> None:
    p = Peer()
    p.data(1, 1000)
    assert sacks(p, 2001, 1000) == [(2001, 3001)]
    assert sacks(p, 4001, 1000) == [(4001, 5001), (2001, 3001)]
    assert sacks(p, 5001, 1000) == [(4001, 6001), (2001, 3001)]
    assert sacks(p, 8001, 1000) == [(8001, 9001), (4001, 6001), (2001, 3001)]


def test_a_segment_that_closes_a_gap_joins_two_blocks() -> None:
    p = Peer()
    p.data(1, 1000)
    p.data(2001, 1000)
    p.data(4001, 1000)
    assert sacks(p, 3001, 1000) == [(2001, 5001)]


def test_what_arrives_twice_out_of_order_is_told_first_by_a_dsack() -> None:
    p = Peer()
    p.data(1, 1000)
    p.data(2001, 1000)
    assert sacks(p, 2001, 1000) == [(2001, 3001), (2001, 3001)]
    assert p.counted()["TCPDSACKOfoSent"] == 1
    assert p.counted()["TCPOFOMerge"] == 1
    assert p.sk.rcv_ooopack == 2


def test_old_data_are_told_by_a_dsack_and_acknowledged_at_once() -> None:
    p = Peer()
    p.data(1, 1000)
    answer = p.data(1, 1000)[0]
    assert answer.opts.sacks == ((1, 1001),)
    assert {k: p.counted()[k] for k in ("DelayedACKLost", "TCPDSACKOldSent")} == {
        "DelayedACKLost": 1,
        "TCPDSACKOldSent": 1,
    }


def test_a_partly_old_segment_is_queued_and_its_old_part_told() -> None:
    p = Peer()
    p.data(1, 1000)
    answer = p.data(501, 1000)[0]
    assert (answer.ack_seq, answer.opts.sacks) == (1501, ((501, 1001),))
    assert p.read(5000) == 1500


def test_a_larger_segment_replaces_the_one_that_it_covers() -> None:
    p = Peer()
    p.data(1, 1000)
    p.data(2001, 500)
    assert sacks(p, 2001, 1000) == [(2001, 2501), (2001, 3001)]
    assert [(x.seq, x.end_seq) for x in p.sk.out_of_order_queue] == [(2001, 3001)]
    assert p.sk.sk_rmem_alloc == 2 * 2304


def test_filling_the_gap_acknowledges_all_at_once() -> None:
    p = Peer()
    p.data(1, 1000)
    for seq in range(2001, 6001, 1000):
        p.data(seq, 1000)
    answers = p.data(1001, 1000)
    assert [(x.ack_seq, x.opts.sacks) for x in answers] == [(6001, ())]
    assert not p.sk.out_of_order_queue
    assert p.read(10000) == 6000
    assert p.sk.sk_rmem_alloc == 0


def test_a_fin_behind_a_gap_waits_for_it() -> None:
    p = Peer()
    p.data(501, 500, FIN | ACK)
    assert p.state == "ESTABLISHED"
    p.data(1, 500)
    assert p.state == "CLOSE_WAIT"
    assert p.sk.rcv_nxt == 1002


def test_without_sack_every_segment_out_of_order_is_a_duplicate_acknowledgment() -> None:
    p = Peer(sack=False)
    p.data(1, 1000)
    for _ in range(8):
        assert [(x.ack_seq, x.opts.sacks) for x in p.data(2001, 1000)] == [(1001, ())]


def test_after_three_duplicates_and_no_quick_acks_left_sacks_are_held_back() -> None:
    p = Peer()
    p.data(1, 1000)
    p.sk.icsk_ack.quick = 0
    p.sk.rcv_rtt_est.rtt_us = 100_000 << 3
    p.sk.srtt_us = 0
    sent = []
    for i in range(1, 7):
        p.sk.icsk_ack.quick = 0
        sent.append(len(p.data(1001 + 1000 * i, 1000)))
    assert sent == [1, 1, 1, 0, 0, 0]
    answers = p.pass_ms(5)
    assert [x.opts.sacks for x in answers] == [((2001, 8001),)]
    assert p.counted()["TCPAckCompressed"] == 2


def test_what_fits_behind_the_last_skb_is_copied_into_it() -> None:
    p = Peer()
    p.data(1, 1000)  # a head of 2048: 320 are skb_shared_info's, 64 headroom, 40 headers: 624 are left
    p.data(1001, 600)
    assert (len(p.sk.sk_receive_queue), p.sk.sk_rmem_alloc) == (1, 2304)
    p.data(1601, 25)
    assert (len(p.sk.sk_receive_queue), p.sk.sk_rmem_alloc) == (2, 2304 + 960)
    assert p.counted()["TCPRcvCoalesce"] == 1


def test_a_packet_socket_that_was_not_read_keeps_skbs_apart() -> None:
    p = Peer()
    p.net.tap, p.net.tap_read = True, p.net.tap_rx
    p.data(1, 1000)
    p.data(1001, 10)
    assert len(p.sk.sk_receive_queue) == 2
    p.net.tap_read = p.net.tap_rx
    p.data(1011, 10)
    assert len(p.sk.sk_receive_queue) == 2


def test_a_closed_window_takes_no_data_but_a_bare_fin() -> None:
    p = Peer(rcvbuf=2304)
    for i in range(20):
        p.data(1 + 500 * i, 500, PSH | ACK)
        if p.sk.rcv_wnd == 0:
            break
    nxt = p.sk.rcv_nxt
    assert p.sk.rcv_wnd == 0
    p.before = dict(p.net.mib)
    assert [x.ack_seq for x in p.data(nxt, 100)] == [nxt]
    assert p.counted()["TCPZeroWindowDrop"] == 1
    p.data(nxt, 0, FIN | ACK)
    assert p.state == "CLOSE_WAIT"


@pytest.mark.parametrize("hz", [250, 1000])
def test_a_lone_segment_is_acknowledged_after_40_ms_once_quick_acks_are_used_up(hz: int) -> None:
    p = Peer(hz=hz)
    p.data(1, 1000)
    p.sk.icsk_ack.quick = 0
    assert p.data(1001, 900) == []
    assert p.pass_ms(30) == []
    assert [x.ack_seq for x in p.pass_ms(30)] == [1901]
    assert p.counted()["DelayedACKs"] == 1


def test_two_full_segments_are_acknowledged_at_once() -> None:
    p = Peer()
    p.data(1, 1000)
    p.sk.icsk_ack.quick = 0
    p.sk.rcv_wnd = 30_000  # the right edge can advance
    assert p.data(1001, 1000) == []
    p.sk.icsk_ack.quick = 0
    assert [x.ack_seq for x in p.data(2001, 1000)] == [3001]
