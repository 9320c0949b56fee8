"""Reports to write: one of each outcome, by hand, and hostile ones by Hypothesis."""

import os

from hypothesis import strategies as st

from conformance.check.verdict import Divergence, FileReport, FrameLabel, NearMiss, Outcome, Verdict

CONNECT = "tcp.calls.connect"
REFUSED = "tcp.listen.nobody_no_ack"

CONFORMING = Verdict(
    "tcp",
    "10.9.0.1:1 > 10.9.0.2:2",
    Outcome.CONFORMS,
    labels=(FrameLabel(1, "a", CONNECT, note="connect()"), FrameLabel(2, "b", REFUSED, note="answers frame 1")),
    inferred=("kernel 6.18",),
    events=("a: connect()",),
)
DIVERGING = Verdict(
    "tcp",
    "10.9.0.1:3 > 10.9.0.2:2",
    Outcome.DIVERGES,
    "Linux does not send #7",
    divergence=Divergence(
        7,
        1.5,
        "10.9.0.1:3",
        "Linux does not send #7",
        ("Tx(seq=1) by tcp.calls.connect",),
        (NearMiss(CONNECT, "ack 0 expected, 1 seen"), NearMiss("", "too late")),
        ("Sock(state=SYN_SENT)",),
        ("#6 1.4 S", "#7 1.5 S"),
    ),
)
OPEN_QUESTION = Verdict("neigh", "a: 10.9.0.2", Outcome.INCONCLUSIVE, "more guesses than are followed")
STRANGE = Verdict("other", "frames of other layers", Outcome.NOT_MODELLED, "3 frames of LLDP", unmodelled={"LLDP": 3})

GOOD = FileReport("captures/good.pcapng", "6.18", 2, [CONFORMING])
BAD = FileReport("captures/bad run.pcap", "6.12", 9, [CONFORMING, DIVERGING, OPEN_QUESTION, STRANGE], ["cut short"])
UNREADABLE = FileReport("notes.pcap", error="bytes 68 65 at byte 0; expected pcap")
EMPTY = FileReport("empty.pcap")
RUN = [GOOD, BAD, UNREADABLE, EMPTY]

# Every character there is, lone surrogates and controls among them, and what each format must escape.
NASTY = st.sampled_from(
    [
        "\x00",
        "\x1b[31m",
        "\x85",
        "\u2028",
        "\ufffe",
        "\ud800",
        "\udcff",
        "]]>",
        "</script>",
        "<!--",
        "%0A::",
        "&",
        '"',
        "\n",
    ]
)
TEXT = st.lists(st.one_of(NASTY, st.text(st.characters(), max_size=4)), max_size=4).map("".join)
NUMBER = st.integers(0, 1 << 40)
LABEL = st.builds(FrameLabel, NUMBER, TEXT, st.one_of(st.just(CONNECT), TEXT), TEXT, TEXT, TEXT)
LINES = st.lists(TEXT, max_size=2).map(tuple)
DIVERGENCE = st.builds(
    Divergence,
    NUMBER,
    st.floats(0, 1e10),
    TEXT,
    TEXT,
    LINES,
    st.lists(st.builds(NearMiss, TEXT, TEXT), max_size=2).map(tuple),
    LINES,
    LINES,
    TEXT,
)
VERDICT = st.builds(
    Verdict,
    st.one_of(st.just("tcp"), TEXT),
    TEXT,
    st.sampled_from(Outcome),
    TEXT,
    st.lists(LABEL, max_size=3).map(tuple),
    st.one_of(st.none(), DIVERGENCE),
    st.dictionaries(TEXT, NUMBER, max_size=2),
    LINES,
    LINES,
    st.dictionaries(TEXT, st.dictionaries(TEXT, st.tuples(NUMBER, NUMBER), max_size=2), max_size=2),
)
# Names that a file may have on Linux: any bytes but NUL.
PATH = st.binary(max_size=8).map(lambda b: "no/" + os.fsdecode(b.replace(b"\0", b"")))
REPORT = st.builds(FileReport, PATH, TEXT, NUMBER, st.lists(VERDICT, max_size=3), st.lists(TEXT, max_size=2), TEXT)
REPORTS = st.lists(REPORT, max_size=3)
