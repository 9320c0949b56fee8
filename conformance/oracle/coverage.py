"""Which of the steps that a wire can show are seen in accepted captures: `python -m conformance.oracle.coverage`.

A step is a function of the kernel that decides to send: what `Packet.by` of the whole TCP names. A step that no capture
shows stands with its reason.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click
from rich.table import Table

from conformance.check.capture import captures_in, check_capture
from conformance.check.verdict import FileReport, Outcome
from conformance.console import out
from conformance.oracle.steps import sender

SHOWN: Final = (
    "tcp_connect", "tcp_conn_request", "reqsk_timer_handler", "tcp_fastopen_synack_timer", "tcp_check_req",
    "tcp_rcv_synsent_state_process", "tcp_write_xmit", "tcp_mtu_probe", "tcp_send_fin", "tcp_send_loss_probe",
    "tcp_retransmit_timer", "tcp_xmit_retransmit_queue", "tcp_send_probe0", "tcp_keepalive_timer",
    "__tcp_ack_snd_check", "tcp_delack_timer_handler", "__tcp_cleanup_rbuf", "tcp_compressed_ack_kick", "tcp_send_ack",
    "tcp_send_dupack", "tcp_send_challenge_ack", "tcp_fin", "tcp_v4_send_reset", "tcp_v4_timewait_ack",
    "tcp_v4_reqsk_send_ack", "tcp_close", "tcp_disconnect", "inet_csk_listen_stop",
)  # fmt: skip

REASONS: Final = {
    "tcp_out_of_resources": "tcp_max_orphans holds for the whole machine, which a recording may not change",
    "dctcp_ece_ack_update": "needs the congestion control dctcp, which none of the recorded kernels has loaded",
}

ALIKE: Final = {
    "tcp_abort": "tcp_disconnect",  # an administrator's reset is a closing application's
    "tcp_sack_compress_send_ack": "tcp_compressed_ack_kick",  # the same ACK, before its timer
}
"""Steps that no wire can tell from another."""


def fired(reports: Iterable[FileReport]) -> Counter[str]:
    """How many frames of accepted connections each step sent."""
    found: Counter[str] = Counter()
    for r in reports:
        for v in r.verdicts:
            if v.layer == "tcp" and v.outcome is Outcome.CONFORMS:
                found.update(x.by for x in v.labels if x.by)
    return found


def share(found: Counter[str]) -> float:
    """The part of all steps that fired."""
    return sum(found[n] > 0 for n in SHOWN) / len((*SHOWN, *REASONS))


def table(found: Counter[str]) -> Table:
    """A row a step: frames, citation, or why it is not shown."""
    t = Table("step", "frames", "source, or why it is not shown", box=None)
    for name in sorted((*SHOWN, *REASONS), key=lambda n: (-found[n], n)):
        s = sender(name)
        t.add_row(name, str(found[name]), REASONS.get(name, "") or ", ".join((*s.kernel, *s.rfc)))
    for name, other in ALIKE.items():
        t.add_row(name, "", f"the wire can't tell it from {other}")
    return t


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
def main(paths: tuple[Path, ...]) -> None:
    """Counts the steps that accepted captures show."""
    files = captures_in(paths or (Path("captures"),))
    found = fired(check_capture(p, labelled=True) for p in files)
    console = out
    console.print(table(found))
    console.print(f"{share(found):.0%} of the steps fire")


if __name__ == "__main__":
    main()
