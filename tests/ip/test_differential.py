"""What the differential calls alike, and what not: a judge that cannot refuse proves nothing."""

from conformance.differential.ip_compare import alike
from conformance.differential.ip_packets import header, icmp

A, B = "10.1.0.1", "10.2.3.4"


def answer(body: bytes = b"x", ident: int = 1, **fields: int) -> bytes:
    return header(A, B, 1, icmp(0, 0, b"\1\2\3\4", body), id=ident, **fields)


def test_an_identification_that_is_drawn_may_differ() -> None:
    assert alike(("r0", answer(ident=1), "icmp_push_reply"), ("r0", answer(ident=2)))
    assert not alike(("r0", answer(ident=1), ""), ("r0", answer(ident=2)))


def test_bytes_devices_and_lengths_may_not_differ() -> None:
    ours = ("r0", answer(), "icmp_push_reply")
    assert not alike(ours, ("r1", answer()))
    assert not alike(ours, ("r0", answer(b"y")))
    assert not alike(ours, ("r0", answer(b"xx")))
    assert not alike(ours, ("r0", answer(ttl=63)))
    assert not alike(ours, ("r0", answer(bad_check=1)))


def test_a_time_may_be_a_later_one_within_the_call() -> None:
    first, later = (5000).to_bytes(4, "big"), (5002).to_bytes(4, "big")
    ours = ("r0", answer(first + first), "icmp_push_reply")
    assert alike(ours, ("r0", answer(first + later)), range(5000, 5004))
    assert not alike(ours, ("r0", answer(first + later)), range(5000, 5002))
    assert not alike(ours, ("r0", answer(first + b"abcd")), range(5000, 5004))
