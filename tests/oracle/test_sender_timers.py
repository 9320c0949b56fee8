"""The sender's clock is the proved estimator; a queue before the tap shows in its timestamps."""

from hypothesis import given
from hypothesis import strategies as st

from conformance.oracle.timers import Rtt
from refmodel.tcp import rtt
from tests.oracle.frames import ts
from tests.oracle.sender_host import MS, MSS, Host

samples = st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 5_000), st.booleans()), min_size=1, max_size=40)


@given(samples=samples, hz=st.sampled_from([100, 250, 1000]))
def test_the_estimator_is_the_kernel_s(samples: list[tuple[int, int, bool]], hz: int) -> None:
    p = rtt.RttParams(hz=hz)
    mine, theirs = Rtt(1_000_000 // hz), rtt.Rtt()
    una = nxt = 1
    for m, step, all_acked in samples:
        nxt += step
        una = nxt if all_acked else una
        mine.sample(m, una, nxt)
        theirs, _ = rtt.tcp_rtt_estimator(theirs, m, una, nxt, p)
        assert (mine.srtt, mine.mdev, mine.mdev_max, mine.rttvar, mine.rtt_seq) == (
            theirs.srtt_us, theirs.mdev_us, theirs.mdev_max_us, theirs.rttvar_us, theirs.rtt_seq,
        )  # fmt: skip
        assert mine.rto() == rtt.tcp_set_rto(theirs, p)[0].icsk_rto * (1_000_000 // hz)


def test_the_bounds_lie_below_what_the_kernel_arms() -> None:
    r = Rtt()
    for m in (20_000, 90_000, 30_000):
        r.sample(m, 1, 1)
    assert r.rto_low() <= r.rto()
    assert r.pto_low(False) <= r.pto(False)
    assert r.pto_low(True) <= r.pto(True)


def test_without_a_sample_the_time_out_is_a_second() -> None:
    assert Rtt().rto() == 1_000_000


def test_a_copy_of_the_clock_goes_its_own_way() -> None:
    r = Rtt()
    r.sample(10_000, 1, 1)
    c = r.copy()
    r.sample(90_000, 1, 1)
    assert c.srtt == 80_000


def test_what_waited_in_a_queue_before_the_tap_left_when_its_timestamp_says() -> None:
    h = Host()
    made = h.now
    h.at(40 * MS)
    h.sends(bytes(MSS), options=ts(made, 7))
    assert h.tap.us - h.tx.f.board.q[0].time >= 38 * MS


def test_a_repeated_syn_s_sample_is_the_echo_s() -> None:
    h = Host()
    base = h.tx.f.rtt.srtt >> 3
    assert 10 * MS <= base <= 11 * MS


def test_an_echo_tells_the_round_trip_of_what_was_repeated() -> None:
    h = Host()
    h.data(3)
    first = h.now
    h.sends(bytes(MSS), seq=1, after=220 * MS)
    h.takes(1 + 3 * MSS, echo=first, after=5 * MS)
    assert h.tx.f.rtt.srtt >> 3 > 30 * MS
