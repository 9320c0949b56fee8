"""Random scripts on the model and on a kernel: what each sends, returns and counts, without any expectation.

`python -m tests.pkt.random_runs --guest 6.12 --count 100` plays them on Debian's kernel in a guest, without `--guest`
on this machine's (root), and prints where the model does something else. A seed names a script.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from conformance.live import guest, guest_scripts
from conformance.live.kernel import hz
from conformance.live.pkt_kernel import run_script as run_on_kernel
from conformance.pkt.both import counters, difference
from conformance.pkt.model_run import Setting
from conformance.pkt.model_run import run_script as run_on_model
from conformance.pkt.outcome import Outcome
from conformance.pkt.variant import Variant
from refmodel.profile import nearest

STEPS = 25
DELAYS = ("+0", "+.001", "+.005", "+.01", "+.01", "+.05", "+.05", "+.21", "+1.1")
SYSCTLS = (
    ("tcp_early_retrans", (0, 3)), ("tcp_recovery", (0, 1)), ("tcp_sack", (0, 1)), ("tcp_dsack", (0, 1)),
    ("tcp_frto", (0, 2)), ("tcp_autocorking", (0, 1)), ("tcp_abort_on_overflow", (0, 1)), ("tcp_rfc1337", (0, 1)),
    ("tcp_limit_output_bytes", (1048576,)), ("tcp_min_tso_segs", (1, 2)), ("tcp_slow_start_after_idle", (0, 1)),
    ("tcp_moderate_rcvbuf", (0, 1)), ("tcp_workaround_signed_windows", (0, 1)), ("tcp_adv_win_scale", (1, 2, -1)),
    ("tcp_reordering", (3, 5)), ("tcp_thin_linear_timeouts", (0, 1)), ("tcp_notsent_lowat", (4294967295, 2000)),
    ("tcp_comp_sack_nr", (0, 44)), ("tcp_min_rtt_wlen", (300,)), ("tcp_no_ssthresh_metrics_save", (0, 1)),
    ("tcp_retrans_collapse", (0, 1)), ("tcp_app_win", (31, 2)),
)  # fmt: skip
OPTIONS = (
    "SOL_TCP, TCP_NODELAY, [{0}]", "SOL_TCP, TCP_CORK, [{0}]", "SOL_TCP, TCP_QUICKACK, [{0}]",
    "SOL_SOCKET, SO_RCVLOWAT, [{1}]", "SOL_SOCKET, SO_SNDBUF, [{2}]", "SOL_SOCKET, SO_RCVBUF, [{2}]",
    "SOL_TCP, TCP_WINDOW_CLAMP, [{2}]", "SOL_TCP, TCP_USER_TIMEOUT, [{1}]", "SOL_SOCKET, SO_KEEPALIVE, [{0}]",
    "SOL_TCP, TCP_NOTSENT_LOWAT, [{1}]", "SOL_SOCKET, SO_OOBINLINE, [{0}]", "SOL_TCP, TCP_LINGER2, [{0}]",
    "SOL_TCP, TCP_DEFER_ACCEPT, [{0}]", "SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, [{0}]", "SOL_SOCKET, SO_PRIORITY, [{0}]",
)  # fmt: skip


class Talk:
    """A script as it is written: how far each side has come, as the writer believes."""

    def __init__(self, r: Random) -> None:
        self.r = r
        self.mss = r.choice((536, 1000, 1000, 1460))
        self.ts = r.random() < 0.3
        self.sack = self.ts or r.random() < 0.8
        self.seq = self.ack = 1
        self.written = 1
        self.ended = False
        self.clock = 100
        self.lines: list[str] = []

    def options(self, blocks: str = "") -> str:
        """A segment's options: the time stamp, where there is one, and SACK blocks."""
        words = ["nop", "nop", f"TS val {self.clock} ecr 4000"] if self.ts else []
        if blocks and self.sack:
            words += ["nop", "nop", f"sack {blocks}"]
        return f" <{','.join(words)}>" if words else ""

    def packet(self, flags: str, seq: int, length: int, ack: int, blocks: str = "") -> None:
        """A segment of the peer's."""
        r = self.r
        self.clock += r.choice((0, 1, 10, 100))
        window = r.choice((65535, 65535, 65535, 30000, 5000, 1000, 0))
        line = f"{r.choice(DELAYS)} < {flags} {seq}:{seq + length}({length}) ack {ack} win {window}"
        self.lines.append(line + self.options(blocks))

    def data(self) -> None:
        """Data: the next, old, beyond a gap, or across what is there."""
        r = self.r
        length = r.choice((1, 100, self.mss, self.mss, 2 * self.mss))
        at = self.seq + r.choice((0, 0, 0, 0, 0, self.mss, 2 * self.mss, 3 * self.mss, -self.mss, -100, -1, 50_000))
        if at < 1:
            at = 1
        flags = r.choice(("P.", ".", "P.", "."))
        if at == self.seq:
            self.seq += length
        self.packet(flags, at, length, self.ack)

    def acknowledge(self) -> None:
        """An ACK: of more, of nothing new, with SACK blocks, or of what was never sent."""
        r = self.r
        blocks = ""
        if r.random() < 0.45:
            self.ack = min(self.written, self.ack + r.choice((1, 100, self.mss, 2 * self.mss, 5 * self.mss, 10**6)))
        elif r.random() < 0.6 and self.written - self.ack > self.mss:
            n = (self.written - self.ack) // self.mss
            start = self.ack + self.mss * r.randint(1, n)
            blocks = f"{start}:{min(start + self.mss * r.choice((1, 1, 2, 3)), self.written + 1)}"
            if r.random() < 0.1:
                blocks = f"{max(1, self.ack - self.mss)}:{max(2, self.ack)}"
        self.packet(
            ".", self.seq, 0, self.ack + r.choice((0,) * 30 + (100_000, -1000 if self.ack > 1000 else 0)), blocks
        )

    def step(self) -> None:
        """One line."""
        r = self.r
        kind = r.random()
        at = r.choice(DELAYS)
        if kind < 0.25:
            self.data()
        elif kind < 0.55:
            self.acknowledge()
        elif kind < 0.72 and not self.ended:
            length = r.choice((1, 100, 536, 1000, 2000, 5000, 20_000, 60_000))
            self.written += length
            flags = r.choice(("0", "0", "0", "MSG_MORE", "MSG_OOB", "MSG_EOR"))
            self.lines.append(f"{at} send(4, ..., {length}, {flags}) = ...")
        elif kind < 0.86:
            length = r.choice((1, 100, 1000, 5000, 100_000))
            self.lines.append(f"{at} recv(4, ..., {length}, {r.choice(('0', '0', '0', 'MSG_PEEK', 'MSG_OOB'))}) = ...")
        elif kind < 0.92:
            option = r.choice(OPTIONS).format(
                r.choice((0, 1)), r.choice((1, 500, 3000)), r.choice((2000, 8000, 50_000))
            )
            self.lines.append(f"{at} setsockopt(4, {option}, 4) = ...")
        elif kind < 0.95:
            self.lines.append(f"{at} %{{ x = tcpi_snd_cwnd }}%")
        elif kind < 0.97:
            self.packet(
                r.choice(("S", "R", "R.", "F.", "FP.", "-", "PU.")), self.seq + r.choice((0, 0, 1, 100)), 0, self.ack
            )
        elif kind < 0.985:
            self.ended = True
            self.lines.append(f"{at} shutdown(4, {r.choice(('SHUT_WR', 'SHUT_WR', 'SHUT_RD', 'SHUT_RDWR'))}) = ...")
        elif self.written > self.ack:
            self.lines.append(f"{at} < icmp unreachable {r.choice(('frag_needed mtu 800', 'host_unreachable'))}"
                              f" [{self.ack}:{self.ack + 1}(1)]")  # fmt: skip


def text(seed: int) -> str:
    """The script that a seed names."""
    r = Random(seed)
    t = Talk(r)
    chosen = r.sample(SYSCTLS, r.randint(0, 3))
    settings = [f"net.ipv4.{name}={r.choice(values)}" for name, values in chosen]
    control = r.choice(("reno", "cubic"))
    ts = f"net.ipv4.tcp_timestamps={int(t.ts)}"
    wide = 'net.ipv4.tcp_rmem="4096 131072 6291456" net.ipv4.tcp_wmem="4096 16384 4194304"'
    init = f"`sysctl -q net.ipv4.tcp_congestion_control={control} {ts} {wide} {' '.join(settings)}`"
    sack = ",nop,nop,sackOK" if t.sack else ""
    scale = ",nop,wscale 7" if r.random() < 0.5 else ""
    if t.ts:
        syn = f"<mss {t.mss},sackOK,TS val 100 ecr 0,nop,wscale 7>"
        both = "sackOK," if "tcp_sack=0" not in init else "nop,nop,"
        answer = f"<mss 1460,{both}TS val 4000 ecr 100,nop,wscale 7>"
    else:
        syn, answer = f"<mss {t.mss}{sack}{scale}>", "<...>"
    t.lines += [
        "--tolerance_usecs=5000000",
        init,
        "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
        "+0 bind(3, ..., ...) = 0",
        "+0 listen(3, 1) = 0",
        f"+0 < S 0:0(0) win 65535 {syn}",
        f"+0 > S. 0:0(0) ack 1 {answer}",
        f"+.01 < . 1:1(0) ack 1 win 65535{t.options()}",
        "+0 accept(3, ..., ...) = 4",
        "+0 fcntl(4, F_SETFL, O_RDWR|O_NONBLOCK) = 0",
    ]
    for _ in range(STEPS):
        t.step()
    t.lines.append(r.choice(("+.5 close(4) = 0", "+.5 %{ x = tcpi_snd_cwnd }%", "+.1 close(4) = 0\n+3 `true`")))
    return "\n".join(t.lines) + "\n"


def apart(model: Outcome, kernel: Outcome) -> str:
    """What the model does otherwise than the kernel: a packet, a result, TCP_INFO, else a counter; '' if nothing."""
    found = difference(model, kernel)
    if found or model.status != kernel.status:
        return found or f"model {model.status}, kernel {kernel.status}"
    return "; ".join(
        f"{n} is {a} on the model, {b} on the kernel" for n, a, b in counters(model.counters, kernel.counters)
    )


def main() -> None:
    """Plays random scripts on both; exit status 1 if there is a difference."""
    parser = argparse.ArgumentParser(prog="random_runs", description="Random scripts on the model and on a kernel.")
    parser.add_argument(
        "--guest", choices=guest_scripts.KERNELS, help="Debian's kernel in a guest (else this machine's)"
    )
    parser.add_argument("--count", type=int, default=100, help="so many scripts (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="the first one's seed (default: 0)")
    parser.add_argument("--out", type=Path, help="keep the scripts that differ there")
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.count)
    wanted = (Variant.IPV4,)
    same = Counter[bool]()
    with tempfile.TemporaryDirectory(prefix="refmodel-random-") as scratch:
        paths = {seed: Path(scratch) / f"random-{seed}.pkt" for seed in seeds}
        for seed, path in paths.items():
            path.write_text(text(seed))
        if args.guest:
            setting = Setting(args.guest, guest.kernel(args.guest).hz, {}, None, True)
            batch = guest_scripts.Batch(args.guest, wanted, remember=True)
            live = guest_scripts.run_scripts(list(paths.values()), batch)
        else:
            setting = Setting(nearest(os.uname().release), hz(), {}, None, True)
            live = {path: dict(run_on_kernel(path, wanted, None, None, True)) for path in paths.values()}
        for seed, path in paths.items():
            model = dict(run_on_model(path, wanted, setting))
            kernel = live[path]
            found = apart(model[Variant.IPV4], kernel[Variant.IPV4])
            same[not found] += 1
            if found:
                print(f"seed {seed}: {found}", flush=True)
                if args.out:
                    args.out.mkdir(parents=True, exist_ok=True)
                    (args.out / path.name).write_text(path.read_text())
    print(f"{same[True]} of {args.count} are the same")
    sys.exit(1 if same[False] else 0)


if __name__ == "__main__":
    main()
