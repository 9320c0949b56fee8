"""The error queue: what of zerocopy sends, time stamps and control messages the kernel's source says."""

import errno
from struct import pack, unpack

import pytest

from refmodel.tcp.whole import errqueue, inet
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import Sock


def sock(**params: int) -> Sock:
    sk = inet.tcp_sock(Net(WholeParams(**params)), 2)
    assert isinstance(sk, Sock)
    return sk


def notified(sk: Sock) -> list[tuple[int, int, int]]:
    return [(e.ee_info, e.ee_data, e.ee_code) for e in sk.sk_error_queue]


def test_a_notification_waits_for_every_holder() -> None:
    sk = sock()
    uarg = errqueue.msg_zerocopy_alloc(sk, 1000)
    assert uarg is not None
    skb = Skb()
    errqueue.skb_zcopy_set(skb, uarg)
    errqueue.skb_zcopy_set(skb, uarg)  # an skb holds it once
    errqueue.net_zcopy_put(uarg)
    assert notified(sk) == []
    errqueue.skb_zcopy_clear(skb)
    assert notified(sk) == [(0, 0, 0)]


def test_a_copy_anywhere_is_told_for_all() -> None:
    sk = sock()
    uarg = errqueue.msg_zerocopy_alloc(sk, 1000)
    again = errqueue.msg_zerocopy_realloc(sk, 1000, uarg)
    assert again is uarg
    assert uarg is not None
    skb = Skb()
    errqueue.skb_zcopy_set(skb, uarg)
    errqueue.skb_orphan_frags_rx(skb)
    for _ in range(2):
        errqueue.net_zcopy_put(uarg)
    errqueue.skb_zcopy_clear(skb)
    assert notified(sk) == [(0, 1, errqueue.SO_EE_CODE_ZEROCOPY_COPIED)]


def test_a_notification_takes_no_more_than_512_kib() -> None:
    sk = sock()
    first = errqueue.msg_zerocopy_alloc(sk, 1 << 19)
    second = errqueue.msg_zerocopy_realloc(sk, 1, first)
    assert second is not first
    assert second is not None
    assert second.id == 1


def test_a_send_that_failed_leaves_no_number_and_no_notification() -> None:
    sk = sock()
    errqueue.net_zcopy_put_abort(errqueue.msg_zerocopy_alloc(sk, 10), True)
    assert (sk.sk_zckey, notified(sk), sk.sk_omem_alloc) == (0, [], 0)


def test_numbers_that_do_not_follow_stay_apart() -> None:
    sk = sock()
    uargs = [errqueue.msg_zerocopy_alloc(sk, 1) for _ in range(3)]
    for i in (0, 2, 1):
        errqueue.net_zcopy_put(uargs[i])
    assert [n[:2] for n in notified(sk)] == [(0, 0), (2, 2), (1, 1)]


def test_option_memory_bounds_what_nobody_takes() -> None:
    sk = sock(optmem_max=2000)
    assert errqueue.msg_zerocopy_alloc(sk, 1) is not None
    assert errqueue.msg_zerocopy_alloc(sk, 1) is not None
    assert errqueue.msg_zerocopy_alloc(sk, 1) is None


@pytest.mark.parametrize(
    ("room", "flags", "got"), [(100, 0, b"abcd"), (20, 0, b"abcd"), (18, 8, b"ab"), (15, 8, None), (0, 8, None)]
)
def test_a_control_message_is_cut_to_its_room(room: int, flags: int, got: bytes | None) -> None:
    msg = errqueue.RecvMsg(room)
    errqueue.put_cmsg(msg, 1, 2, b"abcd")
    assert (msg.msg_flags, [c[2] for c in msg.cmsgs]) == (flags, [] if got is None else [got])


def test_an_empty_queue_has_nothing() -> None:
    sk = sock()
    assert errqueue.inet_recv_error(sk, errqueue.RecvMsg(100), 10) == -errno.EAGAIN


def test_a_stamp_is_the_byte_number_from_where_numbering_began() -> None:
    sk = sock()
    sk.sk_tsflags = (
        errqueue.SOF_TIMESTAMPING_SOFTWARE | errqueue.SOF_TIMESTAMPING_OPT_ID | errqueue.SOF_TIMESTAMPING_OPT_TSONLY
    )
    sk.sk_tskey, sk.snd_una = 0xFFFFFF00, 0x100
    skb = Skb(0xFFFFFF00, 0x100, 0x200)
    skb.tskey, skb.txstamp_ack = 0xFF, True
    errqueue.tcp_ack_tstamp(sk, skb, None, 0xFFFFFF00)
    msg = errqueue.RecvMsg(1000)
    assert errqueue.ip_recv_error(sk, msg, 0) == 0
    (_, kind, stamp), (level, recverr, error) = msg.cmsgs
    assert (kind, level, recverr) == (37, 0, 11)
    now = sk.net.now
    assert stamp == pack("<qq", now // 1_000_000, now % 1_000_000 * 1000) + bytes(32)
    assert unpack("<IBBBBII", error[:16]) == (errno.ENOMSG, 4, 0, 0, 0, errqueue.SCM_TSTAMP_ACK, 0x1FF)
    assert sk.sk_rmem_alloc == 0


def test_turning_errors_off_keeps_stamps_and_notifications() -> None:
    sk = sock()
    for origin in (2, 4, 5, 3):
        entry = errqueue.ErrSkb(100)
        entry.ee_origin = origin
        errqueue.sock_queue_err_skb(sk, entry)
    errqueue.skb_errqueue_purge(sk)
    assert [e.ee_origin for e in sk.sk_error_queue] == [4, 5]
    assert sk.sk_rmem_alloc == 200
