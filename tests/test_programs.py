"""Real programs as they are recorded: their commands, their networks, and one of them under this kernel."""

import shutil
from pathlib import Path

import pytest

from conformance.live.errors import LabUnavailable
from conformance.live.lab import require_lab
from conformance.live.program_list import PROGRAMS, SIZES, Program
from conformance.live.programs import IN_GUESTS, program_plan, record_program
from conformance.live.sidecar import read
from conformance.live.workload_net import has_netem
from conformance.pcap import Reader

WORDS = {"host": "10.9.0.2", "bracketed": "10.9.0.2", "port": "8080", "dir": "/d", "url": "http://10.9.0.2:8080"}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_every_command_is_filled_in_by_what_is_known_and_needed(program: Program) -> None:
    for command in (program.server, *program.clients):
        filled = [w.format(**WORDS) for w in command]
        assert not any("{" in w for w in filled)
    assert {c[0] for c in program.clients} <= set(program.needs) | {"setpriv", "python3"}


def test_names_are_unique_and_guests_have_some_of_them() -> None:
    names = [p.name for p in PROGRAMS]
    assert len(set(names)) == len(names)
    assert set(IN_GUESTS) <= set(names)


@pytest.mark.parametrize("netem", [True, False])
def test_a_program_runs_between_two_taps_in_the_network_of_its_seed(netem: bool) -> None:
    plans = [program_plan(seed, netem) for seed in range(100)]
    assert all(p.tap == "both" and p.start == "whole" and not p.flows and not p.device_any for p in plans)
    assert {p.topology for p in plans} == {"pair", "relay", "router"}
    assert {p.congestion for p in plans} == {"reno", "bbr"}
    assert not any("mem" in name for p in plans for s in p.sysctls.values() for name in s)
    assert netem or not any("netem" in i.rule for p in plans for i in p.impairments)


@pytest.mark.parametrize("host", ["10.9.0.2", "fd09::2"])
@pytest.mark.parametrize("name", ["nginx", "lighttpd", "rsync", "vsftpd", "http-server"])
def test_a_server_of_files_is_prepared_in_its_folder_alone(name: str, host: str, tmp_path: Path) -> None:
    (program,) = (p for p in PROGRAMS if p.name == name)
    assert program.prepare is not None
    program.prepare(tmp_path, host)
    assert [(tmp_path / f"files/{n}.bin").stat().st_size for n in SIZES] == list(SIZES)
    config = next((f.read_text() for f in tmp_path.glob("*.conf")), "")
    assert config.count(str(tmp_path)) or name == "http-server"


@pytest.mark.live
def test_a_program_is_recorded_at_both_ends(tmp_path: Path) -> None:
    try:
        require_lab("nft", "tc", "ss")
    except LabUnavailable as e:
        pytest.skip(str(e))
    (program,) = (p for p in PROGRAMS if p.name == "http-server")
    if lacking := [n for n in program.needs if shutil.which(n) is None]:
        pytest.skip(f"this machine has no {', '.join(lacking)}")
    path = record_program(program, 1090, tmp_path, has_netem())
    s = read(tmp_path / path.name.replace(".pcapng.gz", ".toml"))
    assert s.extra["workload"]["calls"] == "none"
    assert s.host("b").mib_after["Tcp.PassiveOpens"] >= len(SIZES)
    with Reader(path) as reader:
        frames = list(reader)
    assert {f.interface for f in frames} == {0, 1}
    assert len(frames) == s.extra["taps"]["frames"]
