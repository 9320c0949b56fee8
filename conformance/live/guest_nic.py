"""Records register logs of Linux's e1000e driver: a guest with QEMU's 82574L, a load, the wire's capture beside it.

`python -m conformance.live.guest_nic CASE... --out DIR [--kernel 6.1]` writes for each case `<case>.log.gz` (what
driver and card did), `<case>.pcapng` (their wire) and `<case>.toml`. Both files have the same clock.
"""

import argparse
import gzip
import json
import struct
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from conformance.live import classes, guest, nic_log, observe
from conformance.live.guest_load import CARD, CARD_MAC, PEER, PEER_MAC
from conformance.live.sidecar import Expected, HostInfo, Kernel, NotModelled, Sidecar, Vantage, dump

TRACED: Final = (
    *("e1000e_core_write", "e1000e_core_read", "e1000e_tx_descr", "e1000e_rx_descr", "e1000e_rx_desc_buff_write"),
    *("e1000e_rx_written_to_guest", "e1000e_rx_not_written_to_guest", "e1000e_rx_can_recv_rings_full"),
    *("e1000e_irq_set_ims", "e1000e_irq_clear_ims", "e1000e_irq_set_cause_exit", "e1000e_irq_rearm_timer"),
    *("e1000e_irq_msix_notify_vec", "e1000e_irq_msi_notify", "e1000e_irq_legacy_notify"),
    *("e1000e_irq_msix_notify_postponed_vec", "e1000e_irq_msi_notify_postponed", "e1000e_irq_legacy_notify_postponed"),
    *("e1000e_irq_throttling_no_pending_vec", "e1000e_irq_throttling_no_pending_interrupts"),
    *("e1000e_irq_postponed_by_xitr", "e1000e_irq_iam_clear_eiame", "e1000e_irq_icr_clear_eiac"),
)
MODES: Final = {"legacy": 0, "msi": 1, "msix": 2}


@dataclass(frozen=True)
class Case:
    """One log to record. `ring` is the size of both rings (0: the driver's own), `throttle` InterruptThrottleRate."""

    name: str
    says: str
    load: str
    interrupts: str = "msix"
    throttle: int = 3
    ring: int = 0
    offloads: bool = False
    cpus: int = 1


CASES: Final[Mapping[str, Case]] = {
    c.name: c
    for c in (
        Case(
            "nic-idle",
            "The link comes up, the watchdog looks after it, and one datagram goes out and is refused.",
            "idle",
        ),
        Case("nic-ping", "Twenty small datagrams go out one by one, and each is echoed.", "ping"),
        Case("nic-send", "The card sends a stream; its acknowledgements come back in between.", "send"),
        Case(
            "nic-send-tso", "The card cuts segments and fills in checksums: context descriptors.", "send", offloads=True
        ),
        Case("nic-receive", "The card receives a stream, and refills its ring in batches.", "receive"),
        Case(
            "nic-burst-out",
            "Interrupts are rare and the ring is small: it fills, the queue stops and wakes.",
            "burst_out",
            throttle=100,
            ring=64,
        ),
        Case(
            "nic-burst-in",
            "More frames come than the small ring has buffers, and NAPI polls in batches.",
            "burst_in",
            throttle=100,
            ring=64,
        ),
        Case("nic-unmoderated", "The driver asks for no throttling while a stream comes in.", "receive", throttle=0),
        Case(
            "nic-msi",
            "One MSI vector: the handler reads ICR, which masks everything until the poll is done.",
            "receive",
            interrupts="msi",
        ),
        Case(
            "nic-legacy",
            "The interrupt line: the handler reads ICR, which masks everything until the poll is done.",
            "ping",
            interrupts="legacy",
        ),
        Case("nic-bulk-out", "The card sends much: the traffic asks for few interrupts.", "bulk_out"),
        Case("nic-bulk-in", "The card receives much: the traffic asks for few interrupts.", "bulk_in"),
        Case(
            "nic-overload-in",
            "More frames come at once than a ring of the usual size has buffers.",
            "overload_in",
            throttle=100,
        ),
        Case(
            "nic-unmoderated-out",
            "The driver asks for no throttling while a small ring is filled.",
            "burst_out",
            throttle=0,
            ring=64,
        ),
        Case(
            "nic-dynamic",
            "Moderation without a lower bound for latency: small frames may come to 70000 interrupts a second.",
            "ping",
            throttle=1,
        ),
        Case("nic-simple", "The watchdog chooses the rate by how one-sided the traffic is.", "idle_bulk", throttle=4),
        Case(
            "nic-two-cpus",
            "Two CPUs: one fills the transmit ring while the other cleans it.",
            "burst_out",
            throttle=500,
            ring=64,
            cpus=2,
        ),
    )
}


def record_nic(case: Case, outdir: Path, version: str = "6.12", suffix: str = "") -> Path:
    """Records `case` on Debian's kernel `version` and gives the log's path; raises guest.GuestError.

    A log whose driver counted something else than the wire saw, or whose load failed, raises GuestError too.
    """
    k = guest.kernel(version)
    with tempfile.TemporaryDirectory(prefix="refmodel-nic-") as scratch:
        log, wire = Path(scratch) / "log", Path(scratch) / "wire.pcap"
        result = guest.boot(k, _machine(case, log, wire), _command(case), Path(scratch) / "results")
        if result.status:
            raise guest.GuestError(f"{case.name}: the load failed: {result.output.strip()[-500:]}")
        told = json.loads((result.folder / "facts.json").read_text())
        text = log.read_text()
        parsed = nic_log.parse(text.splitlines(), case.name)
        frames = _frames(wire.read_bytes())
        _agree(case, told, parsed, frames)
        name = case.name + suffix
        outdir.mkdir(parents=True, exist_ok=True)
        path = outdir / f"{name}.log.gz"
        path.write_bytes(gzip.compress(_shortened(text).encode(), 9, mtime=0))
        observe.write_pcapng(outdir / f"{name}.pcapng", _pcap(frames, _offset(parsed, frames)), "nic0", case.says)
        sidecar = _sidecar(case, name, k, told, parsed, path.name)
        unjudged = classes.reasons(data for _, data in frames)
        if case.offloads:
            unjudged.append(NotModelled(classes.CUT, classes.REASONS[classes.CUT]))
        expected = Expected(not_modelled=unjudged)
        (outdir / f"{name}.toml").write_text(dump(replace(sidecar, expected=expected)), encoding="utf-8")
    return path


def _machine(case: Case, log: Path, wire: Path) -> guest.Machine:
    parameters = f"IntMode={MODES[case.interrupts]} InterruptThrottleRate={case.throttle}"
    return guest.Machine(
        modules={"e1000e": parameters, "virtio_net": ""},
        binaries=("ip", "ethtool"),
        cpus=case.cpus,
        devices=(
            *("-netdev", "hubport,id=n0,hubid=0", "-netdev", "hubport,id=n1,hubid=0"),
            *("-device", f"e1000e,netdev=n0,mac={CARD_MAC}", "-device", f"virtio-net-pci,netdev=n1,mac={PEER_MAC}"),
            *("-object", f"filter-dump,id=wire,netdev=n0,file={wire}", "-msg", "timestamp=on", "-D", str(log)),
            *(word for event in TRACED for word in ("-trace", event)),
        ),
    )


def _command(case: Case) -> str:
    offloads = "on" if case.offloads else "off"
    return f"python3 -m conformance.live.guest_load {case.load} {offloads} {case.ring or ''}"


def _shortened(text: str) -> str:
    """Takes the process and thread number off each line: a run's own, and a third of the compressed size."""
    return "".join("0@" + line.partition("@")[2] if "@" in line else line for line in text.splitlines(keepends=True))


def _frames(pcap: bytes) -> list[tuple[int, bytes]]:
    """The (time in ns, bytes) of each frame of QEMU's own pcap."""
    magic, linktype = struct.unpack_from("<I16xI", pcap)
    if magic != 0xA1B2C3D4 or linktype != 1:
        raise guest.GuestError(f"QEMU's filter-dump wrote no pcap of Ethernet frames: magic {magic:#x}")
    frames, at = [], 24
    while at + 16 <= len(pcap):
        sec, usec, length, _ = struct.unpack_from("<IIII", pcap, at)
        frames.append(((sec * 1_000_000 + usec) * 1000, pcap[at + 16 : at + 16 + length]))
        at += 16 + length
    return frames


def _sent(frames: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    card = bytes.fromhex(CARD_MAC.replace(":", ""))
    return [f for f in frames if f[1][6:12] == card]


def _offset(log: nic_log.NicLog, frames: Sequence[tuple[int, bytes]]) -> int:
    """What must be added to the capture's times, in ns, to be on the log's clock.

    QEMU stamps the log with the host's clock and the capture with the guest's, which began on a whole second. The first
    frame that the card sent left while its last descriptor was being handled; one that it received came just before it
    was delivered.
    """
    sent = next((e.time for e in log.events if isinstance(e, nic_log.TxDescriptor) and e.eop), None)
    got = next((e.time for e in log.events if isinstance(e, nic_log.RxDelivered)), None)
    ours = [at for at, _ in _sent(frames)]
    if sent is not None and ours:
        return sent * 1000 - ours[0]
    return got * 1000 - frames[0][0] if got is not None and frames else 0


def _pcap(frames: Sequence[tuple[int, bytes]], offset: int) -> bytes:
    out = [struct.pack("=IHHiIII", observe.PCAP_NSEC, 2, 4, 0, 0, 65535, 1)]
    for ns, data in frames:
        sec, rest = divmod(ns + offset, 1_000_000_000)
        out.append(struct.pack("=IIII", sec, rest, len(data), len(data)) + data)
    return b"".join(out)


def _agree(case: Case, told: Mapping[str, Any], log: nic_log.NicLog, frames: Sequence[tuple[int, bytes]]) -> None:
    """Raises GuestError unless driver, log and wire count the same frames.

    QEMU counts a packet that the card segments once, so that sent frames are only compared without offloads.
    """
    delivered = sum(isinstance(e, nic_log.RxDelivered) for e in log.events)
    packets = sum(isinstance(e, nic_log.TxDescriptor) and e.eop for e in log.events)
    sent, driver = len(_sent(frames)), told["statistics"]
    received = {driver["rx_packets"], delivered, len(frames) - sent}
    out = {driver["tx_packets"], packets} | (set() if case.offloads else {sent})
    if len(received) != 1 or len(out) != 1:
        raise guest.GuestError(f"{case.name}: driver, log and wire count {received} frames received, {out} sent")


def _sidecar(
    case: Case, name: str, k: guest.Kernel, told: Mapping[str, Any], log: nic_log.NicLog, file: str
) -> Sidecar:
    geometry, events = nic_log.bring_up(log)
    offloads = {key: told["offloads"][key] for key in ("tso", "gso", "gro", "tx-checksum")}
    statistics = {key: value for key, value in told["statistics"].items() if value}
    return Sidecar(
        case=name,
        scenario=case.load,
        layer="nic",
        says=case.says,
        kernel=Kernel(k.release, k.version, k.hz),
        vantage=Vantage("a", "nic0", "wire"),
        offloads=offloads,
        hosts=[HostInfo("a", True, [CARD], CARD_MAC), HostInfo("b", True, [PEER], PEER_MAC)],
        expected=Expected(),
        extra={
            "nic": {
                "log": file,
                "driver": "e1000e",
                "device": "82574L (QEMU e1000e)",
                "interrupts": case.interrupts,
                "throttle": case.throttle,
                "tx_ring": geometry.tx_count,
                "rx_ring": geometry.rx_count,
                "cpus": case.cpus,
                "load": case.load,
                "events": len(events),
            },
            "nic_statistics": statistics,
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0 all recorded, 1 a guest failed, 2 usage or a tool is missing."""
    parser = argparse.ArgumentParser(prog="guest_nic", description="Record register logs of Linux's e1000e driver.")
    parser.add_argument("cases", nargs="*", help="cases; without any, they are listed")
    parser.add_argument("--all", action="store_true", help="all cases")
    parser.add_argument("--out", type=Path, default=Path("captures"), help="where to write (default: captures)")
    parser.add_argument("--kernel", default="6.12", choices=("6.1", "6.12"), help="the guest's kernel (default: 6.12)")
    parser.add_argument("--suffix", default="", help="appended to the case's name, for instance -6.1")
    args = parser.parse_args(argv)
    names = list(CASES) if args.all else args.cases
    if not names:
        for case in CASES.values():
            print(f"{case.name:20} {case.says}")
        return 0
    unknown = [n for n in names if n not in CASES]
    lacking = guest.missing_tools()
    if unknown or lacking:
        why = f"no case is named {', '.join(unknown)}" if unknown else f"guests need {'; '.join(lacking)}"
        print(f"guest_nic: {why}", file=sys.stderr)
        return 2
    failed = 0
    for name in names:
        try:
            print(record_nic(CASES[name], args.out, args.kernel, args.suffix), flush=True)
        except (guest.GuestError, nic_log.NicLogError) as e:
            print(f"guest_nic: {e}", file=sys.stderr, flush=True)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
