"""Hypothesis over the whole product of states and events of the queueing layer's machines."""

import pytest

from refmodel.engine.property import machine_tests
from refmodel.ptr_ring import PTR_RING
from refmodel.sched.account import FIFO
from refmodel.sched.bands import PFIFO_FAST
from refmodel.sched.bucket import BUCKET
from refmodel.sched.nolock import NOLOCK

pytestmark = pytest.mark.slow

TestNolock = machine_tests(NOLOCK)
TestBands = machine_tests(PFIFO_FAST)
TestFifo = machine_tests(FIFO)
TestBucket = machine_tests(BUCKET)
TestRing = machine_tests(PTR_RING)
