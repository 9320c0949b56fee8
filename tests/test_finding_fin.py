"""docs/findings/fin-consumed-twice.md on this machine's kernel: the segments of the script, and what comes back."""

import pytest

from conformance.live.craft import RawConn, RawPeer
from conformance.live.errors import LabUnavailable
from conformance.live.lab import Lab, require_lab
from refmodel.types import M32


@pytest.mark.live
def test_the_running_kernel_consumes_a_fin_twice() -> None:
    try:
        require_lab()
    except LabUnavailable as why:
        pytest.skip(str(why))
    with Lab(("a", "b"), raw=("b",)) as lab:
        lab.settle()
        peer = RawPeer(lab)
        connection = RawConn(peer, 8080, isn=0)
        lab["a"].socket(blocking=False).connect(lab["b"], 8080, fails="EINPROGRESS")
        connection.passive_open()

        def acknowledged() -> int:
            return (connection.expect("A").ack - connection.isn) & M32

        connection.send("FA")
        assert acknowledged() == 2
        connection.put("FA", n=1, seq=-1)  # the byte and the FIN before rcv_nxt: 1:2(1)
        assert acknowledged() == 3
        connection.put("FA", n=1)  # and once more from where that one ended
        assert acknowledged() == 4
