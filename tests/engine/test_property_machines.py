"""Every registered machine under the property engine: nothing here but the machines' own declarations."""

import unittest
from random import Random

from refmodel.engine.explore import Search
from refmodel.engine.property import machine_tests
from refmodel.neigh import NEIGH
from refmodel.nic.napi import NAPI
from refmodel.nic.rx import NIC_RX
from refmodel.nic.tx import NIC_TX
from refmodel.nic.vector import NIC_VECTOR
from refmodel.rule import State
from refmodel.tcp.machine import TCP
from refmodel.tcp.state import Listener, Sock, St
from refmodel.tcp.systems import two_tcps


def reached() -> tuple[State, ...]:
    """States of two TCP machines that a short search reached: deeper than a walk gets by itself."""
    search = Search(two_tcps())
    search.run(max_depth=11)
    states = [s for site in search.sites.sites for s in site.states.items]
    return (Sock(), Sock(state=St.LISTEN), Listener(), *Random(0).sample(states, 200))


def small(tests: type[unittest.TestCase]) -> type[unittest.TestCase]:
    tests.__module__ = __name__
    return tests


TestNeigh = small(machine_tests(NEIGH, examples=50, walks=10))
TestTcp = small(machine_tests(TCP, reached(), examples=50, walks=10))
TestNapi = small(machine_tests(NAPI, examples=50, walks=10))
TestTx = small(machine_tests(NIC_TX, examples=50, walks=10))
TestRx = small(machine_tests(NIC_RX, examples=50, walks=10))
TestVector = small(machine_tests(NIC_VECTOR, examples=50, walks=10))
