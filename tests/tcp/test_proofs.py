"""The connection machine is proved, and the prover reads it as it runs."""

import pytest

from refmodel.engine.prove import prove
from refmodel.engine.run import pick
from refmodel.engine.sampled import differences
from refmodel.profile import KERNELS, OutOfRange, profile
from refmodel.tcp.machine import TCP
from refmodel.tcp.params import tcp_params
from refmodel.tcp.state import FULL, St


@pytest.mark.slow
def test_the_machine_is_proved() -> None:
    report = prove(TCP)
    assert report.ok, report.text()
    assert {f.id.rsplit(".", 1)[1] for f in report.falsified} == {"fin_once", "open_for_sending", "keepalive_armed"}
    assert all(f.counterexample.confirmed for f in report.falsified)
    anywhere = [x for x in report.never_enabled if x.endswith("anywhere")]
    assert anywhere == ["tcp.timers.write_timer_spurious anywhere"]


@pytest.mark.slow
def test_the_prover_reads_the_rules_as_they_run() -> None:
    assert differences(TCP, samples=4).differences == ()


def test_every_rule_says_what_it_does_and_cites_the_kernel() -> None:
    assert all(r.kernel and r.says.endswith(".") for r in TCP.rules)
    assert {x for r in TCP.rules for x in r.at} == {*FULL, St.TIME_WAIT}


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_kernel_has_its_parameters_and_rules(kernel: str) -> None:
    p = tcp_params(profile(kernel, hz=1000))
    assert p.jiffy == 1000
    assert p.tcp_syn_linear_timeouts == (0 if kernel == "6.1" else 4)
    assert ("tcp.input.paws_syn" in {r.id for r in pick(TCP, kernel).rules}) == (kernel != "6.1")


def test_a_sysctl_out_of_range_is_refused() -> None:
    with pytest.raises(OutOfRange, match="tcp_syn_retries = 128: the kernel takes 1 to 127"):
        tcp_params(profile(sysctls={"net.ipv4.tcp_syn_retries": 128}))
