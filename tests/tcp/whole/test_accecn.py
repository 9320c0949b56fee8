"""Accurate ECN: how options fit, what counters and ACE fields mean, which kernel takes what."""

import pytest

from refmodel.packet.transport import AccEcn, Mss, Nop, Option, Sack, SackPerm, Timestamp, Wscale
from refmodel.profile import OutOfRange, profile
from refmodel.tcp.whole import accecn
from refmodel.tcp.whole.acktag import FLAG_SLOWPATH
from refmodel.tcp.whole.const import ACK, AE, CWR, ECE
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.options import read_options, wire_options
from refmodel.tcp.whole.params import whole_params
from refmodel.tcp.whole.skb import TcpOptions
from refmodel.tcp.whole.sock import Sock

THREE, TWO, ONE, NONE = (1, (1, 0, 1)), (1, (1, 0)), (1, (1,)), (1, ())


@pytest.mark.parametrize(
    ("required", "remaining", "saving", "blocks", "fit"),
    [
        (0, 40, 0, 0, (3, 12, 0)),  # 11 bytes, padded
        (0, 11, 0, 0, (2, 8, 0)),
        (0, 7, 1, 0, (1, 4, 0)),  # the fifth byte stands where a NOP would
        (0, 7, 0, 0, (0, 4, 0)),
        (0, 2, 2, 0, (0, 0, 0)),  # two NOPs give way
        (0, 2, 0, 0, None),
        (2, 4, 2, 4, (3, 4, 3)),  # a SACK block of 8 bytes gives way for an option of 12
        (2, 4, 2, 2, None),  # two blocks never do
        (3, 28, 2, 1, (3, 12, 1)),
    ],
)
def test_the_largest_option_that_fits(
    required: int, remaining: int, saving: int, blocks: int, fit: tuple[int, int, int] | None
) -> None:
    assert accecn.tcp_options_fit_accecn(required, remaining, saving, blocks) == fit


@pytest.mark.parametrize(
    ("opts", "wire"),
    [
        (
            TcpOptions(1460, 7, True, accecn=THREE),
            (Mss(1460), AccEcn(*THREE), Nop(), Nop(), Nop(), SackPerm(), Nop(), Wscale(7)),
        ),
        (TcpOptions(1460, 7, True, accecn=ONE), (Mss(1460), AccEcn(*ONE), Nop(), SackPerm(), Nop(), Wscale(7))),
        (TcpOptions(1460, 7, accecn=ONE), (Mss(1460), AccEcn(*ONE), Wscale(7))),
        (TcpOptions(1460, 7, True, accecn=NONE), (Mss(1460), AccEcn(*NONE), SackPerm(), Nop(), Wscale(7))),
        (TcpOptions(1460, 7, accecn=NONE), (Mss(1460), Nop(), Wscale(7), AccEcn(*NONE), Nop(), Nop())),
        (TcpOptions(accecn=TWO, sacks=((1, 2),)), (AccEcn(*TWO), Nop(), Nop(), Sack(((1, 2),)))),
        (TcpOptions(accecn=NONE, sacks=((1, 2),)), (AccEcn(*NONE), Sack(((1, 2),)))),
        (TcpOptions(tsval=1, accecn=ONE), (Nop(), Nop(), Timestamp(1, 0), AccEcn(*ONE), Nop(), Nop(), Nop())),
    ],
)
def test_the_option_stands_where_padding_would(opts: TcpOptions, wire: tuple[Option, ...]) -> None:
    assert wire_options(opts, ACK) == wire
    assert sum(len(o.wire()) for o in wire) % 4 == 0
    assert read_options(wire).accecn == opts.accecn


@pytest.mark.parametrize(
    ("sent", "arrived", "valid"),
    [(0, 0, True), (0, 2, False), (2, 0, False), (2, 1, True), (2, 3, True), (3, 2, False), (3, 3, True)],
)
def test_networks_mark_and_never_unmark(sent: int, arrived: int, valid: bool) -> None:
    assert accecn.tcp_ect_transition_valid(sent, arrived) is valid


@pytest.mark.parametrize(
    ("counters", "seen"), [((), 1), ((1,), 2), ((1, 0, 1), 2), ((0, 0, 1), 3), ((1, 0, 0), 3), ((1, 0), 2)]
)
def test_zeroes_where_one_must_stand_are_a_middleboxs(counters: tuple[int, ...], seen: int) -> None:
    assert accecn.tcp_accecn_option_init((1, counters)) == seen


def test_counters_of_24_bits_wrap_and_go_back() -> None:
    sk = Sock(Net(), 2)
    sk.saw_accecn_opt = accecn.TCP_ACCECN_OPT_COUNTER_SEEN
    sk.delivered_ecn_bytes = [0, 0xFFFFFF, 10]
    sk.rx_opt.accecn = 1, (1, 5, 4)
    accecn.tcp_accecn_process_option(sk, 0, FLAG_SLOWPATH)
    assert sk.delivered_ecn_bytes == [0, 0x1000003, 5]


def test_the_ace_field_is_ae_cwr_and_ece() -> None:
    assert [accecn.ace_flags(n) for n in (1, 2, 4, 7)] == [ECE, CWR, AE, AE | CWR | ECE]
    assert [accecn.tcp_accecn_ace(accecn.tcp_accecn_reflector_flags(e)) for e in range(4)] == [2, 3, 4, 6]


def test_where_acks_acknowledge_many_segments_the_ace_field_is_taken_as_it_stands() -> None:
    sk = Sock(Net(), 2)
    for _ in range(30):
        accecn._ewma(sk, 10)
    assert sk.pkts_acked_ewma == 640
    accecn._ewma(sk, 1)
    assert sk.pkts_acked_ewma == 631


@pytest.mark.parametrize(("kernel", "limit"), [("6.1", 2), ("6.12", 2), ("6.18", 5)])
def test_which_kernels_may_be_asked_for_accurate_ecn(kernel: str, limit: int) -> None:
    net = Net(whole_params(profile(kernel)))
    net.sysctl("net.ipv4.tcp_ecn", str(limit))
    with pytest.raises(OutOfRange):
        net.sysctl("net.ipv4.tcp_ecn", str(limit + 1))
    with pytest.raises(OutOfRange):
        whole_params(profile(kernel, sysctls={"net.ipv4.tcp_ecn": limit + 1}))
