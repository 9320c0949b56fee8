"""Hypothesis over the whole product of states and events of the device layer's machines."""

import pytest

from refmodel.dev.dql import BQL
from refmodel.dev.watchdog import WATCHDOG
from refmodel.engine.property import machine_tests

pytestmark = pytest.mark.slow

TestByteQueueLimits = machine_tests(BQL)
TestWatchdog = machine_tests(WATCHDOG)
