"""Two whole TCPs over a wire that loses, reorders, duplicates, delays and damages: no law is ever broken."""

from hypothesis import given, settings
from hypothesis import strategies as st

from refmodel.tcp.whole.pair import Fate
from refmodel.tcp.whole.params import WholeParams
from tests.tcp.whole.driver import SECOND, App, Program, run, shown

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
    tcp_recovery=st.sampled_from([1, 1, 0]),
    tcp_rmem_1=st.sampled_from([131072, 8192]),
    tcp_syncookies=st.just(0),
)
apps = st.builds(
    App,
    writes=st.lists(st.sampled_from([1, 100, 1448, 5000, 20000]), max_size=5).map(tuple),
    pause=st.sampled_from([0, 0, 0, 50_000, 2 * SECOND]),
    piece=st.sampled_from([100_000, 3000]),
    rcvbuf=st.sampled_from([0, 0, 2000, 10_000]),
    sndbuf=st.sampled_from([0, 0, 5000]),
    nodelay=st.booleans(),
    cork=st.sampled_from([False, False, True]),
    urgent=st.sampled_from([-1, -1, 0, 1]),
    inline=st.booleans(),
    keepalive=st.booleans(),
    end=st.sampled_from(["shutdown"] * 6 + ["close", "abort"]),
    idle=st.sampled_from([0, 0, 100, 300_000]),
)
programs = st.builds(
    Program, params, params, apps, apps, fates.map(tuple), st.sampled_from([1, 1, 2]), st.sampled_from([10, 10, 0])
)


@settings(deadline=None)
@given(program=programs)
def test_every_byte_arrives_once_and_in_order_and_both_ends_close(program: Program) -> None:
    assert run(program) == [], shown(program)
