"""What a live 6.18 kernel (HZ 250) made of samples that are known to the us: the estimator must say the same."""

import pytest

from refmodel.engine.run import pick
from refmodel.rule import Event
from refmodel.tcp.rtt import TCP_RTT, RetransmitTimeout, Rtt, RttAck, RttParams
from tests.tcp.record_steps import recorded

P = RttParams(tcp_min_rtt_wlen=0)
RUN = pick(TCP_RTT, check=True)
ISN = 1_000_000


def apply(s: Rtt, e: Event) -> Rtt:
    new = RUN.apply(s, e, P)[1]
    assert isinstance(new, Rtt)
    return new


def shown(s: Rtt) -> dict[str, int]:
    """What TCP_INFO shows of the state, in us."""
    return {
        "rtt": s.srtt_us >> 3,
        "rttvar": s.mdev_us >> 2,
        "rto": s.icsk_rto * 4_000,
        "backoff": s.icsk_backoff,
        "min_rtt": s.rtt_min.v0,
    }


@pytest.mark.parametrize(
    ("name", "repeated"), [("rtt_one_by_one", {15}), ("rtt_four_in_flight", set()), ("rtt_swinging", set())]
)
def test_every_sample_gives_what_the_kernel_shows(name: str, repeated: set[int]) -> None:
    s = Rtt()
    now = 0
    before = {"backoff": 0}
    for i, row in enumerate(recorded(name)):
        now += 2
        for _ in range(max(row["backoff"] - before["backoff"], 0)):
            s = apply(s, RetransmitTimeout())
        us = row["min_rtt"]
        e = RttAck(
            now=now,
            snd_una=ISN + row["una"],
            snd_nxt=ISN + row["nxt"],
            first_us=us,
            last_us=us,
            retrans_acked=i in repeated,
        )
        s = apply(s, e)
        assert shown(s) == {k: row[k] for k in shown(s)}, i
        before = row


def test_the_timeout_doubles_stays_so_without_a_sample_and_returns_with_one() -> None:
    rows = recorded("rtt_backoff")
    rto = [r["rto"] for r in rows]
    assert [r["backoff"] for r in rows] == [0, 1, 2, 3, 3, 0]
    s = Rtt(
        srtt_us=rows[0]["rtt"] << 3, mdev_us=20_687, mdev_max_us=200_000, rttvar_us=200_000, icsk_rto=rto[0] // 4_000
    )
    for want in rto[1:4]:
        s = apply(s, RetransmitTimeout())
        assert s.icsk_rto * 4_000 == want
    s = apply(s, RttAck(now=1, snd_una=1, snd_nxt=1, first_us=1_000_000, last_us=1_000_000, retrans_acked=True))
    assert (s.icsk_rto * 4_000, s.icsk_backoff) == (rto[4], 3)
    us = rows[5]["min_rtt"]
    s = apply(s, RttAck(now=2, snd_una=2, snd_nxt=2, first_us=us, last_us=us))
    assert (s.icsk_rto * 4_000, s.icsk_backoff) == (rto[5], 0)
    assert abs((s.srtt_us >> 3) - rows[5]["rtt"]) <= 1  # three low bits of the first mean are not shown
