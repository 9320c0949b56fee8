"""Hypothesis over the whole product of states and events of the physical layer's machines."""

import pytest

from refmodel.engine.property import machine_tests
from refmodel.phy.csma import CSMA
from refmodel.phy.moderation import MODERATION
from refmodel.phy.pause import PAUSE

pytestmark = pytest.mark.slow

TestCsma = machine_tests(CSMA)
TestModeration = machine_tests(MODERATION)
TestPause = machine_tests(PAUSE)
