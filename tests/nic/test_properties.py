"""Hypothesis over the whole product of states and events, and walks from the empty rings: derived from the registry."""

from refmodel.engine.property import machine_tests
from refmodel.nic.napi import NAPI
from refmodel.nic.rx import NIC_RX
from refmodel.nic.tx import NIC_TX
from refmodel.nic.vector import NIC_VECTOR

TestTransmitRing = machine_tests(NIC_TX)
TestReceiveRing = machine_tests(NIC_RX)
TestNapi = machine_tests(NAPI)
TestVectors = machine_tests(NIC_VECTOR)
