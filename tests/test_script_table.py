"""The table of the scripts' results: a kernel's column is written, kept and read again."""

from tests.script_table import Column, read, write

OLD = Column("6.1.192", "ipv4", 6, 6, 5, 4, 3, {"ato": "3", "rto": "1 of 3"}, ("rto/first.pkt, ipv4: kernel failed",))
NEW = Column("6.18.44", "ipv4, ipv6", 9, 9, 9, 9, 0, {"ato": "3", "pmtu": "3", "rto": "3"})
SHIPPED = {"rto": (1, 3), "ato": (1, 3), "pmtu": (1, 3)}


def test_a_column_is_read_as_it_was_written() -> None:
    found = read(write([NEW, OLD], SHIPPED))
    assert list(found) == ["6.1.192", "6.18.44"]
    assert found["6.18.44"] == NEW
    assert found["6.1.192"].odd == OLD.odd
    assert found["6.1.192"].cells == {"ato": "3", "pmtu": "-", "rto": "1 of 3"}
    assert found["6.1.192"].variants == "ipv4"
    assert (found["6.1.192"].runs, found["6.1.192"].kernel, found["6.1.192"].others) == (6, 5, 3)


def test_kernels_stand_by_age_and_mechanisms_by_name() -> None:
    lines = write([NEW, OLD], SHIPPED).splitlines()
    assert "| mechanism | scripts | runs | 6.1.192 | 6.18.44 |" in lines
    assert [line.split()[1] for line in lines if line.startswith(("| ato", "| pmtu", "| rto"))] == [
        "ato",
        "pmtu",
        "rto",
    ]
    assert lines[-1] == "* 6.1.192: rto/first.pkt, ipv4: kernel failed"


def test_nothing_is_read_from_another_document() -> None:
    assert read("# Scripts\n\n| a | b |\n|---|---|\n| 1 | 2 |\n") == {}
