"""Pipes of a script's shell texts: what they look at with cat, grep, nstat or ss, and what that goes through."""

import re
from typing import Final, Protocol

from conformance.pkt.look import PROC_NET, Fields, Files, Filter, Grep, Lines, Look, Nstat, Source, Ss
from conformance.pkt.pattern import BadPattern, compile_pattern
from conformance.pkt.shell_words import Pipeline, Simple, Word
from conformance.pkt.source import ScriptError

SOURCES: Final = ("cat", "grep", "egrep", "fgrep", "nstat", "ss")
FILTERS: Final = ("grep", "egrep", "fgrep", "awk", "head", "tail", "wc", "sort", "uniq", "cat")
SS_OPTIONS: Final = "tuanlimoHO"
SS_WORDS: Final = {"--tcp": "t", "--udp": "u", "--all": "a", "--numeric": "n", "--listening": "l", "--info": "i",
                   "--memory": "m", "--options": "o", "--no-header": "H", "--oneline": "O"}  # fmt: skip
_AWK: Final = re.compile(r"\{ *print +(\$[0-9]{1,2}(?: *, *\$[0-9]{1,2})*) *;? *\}")
_COUNT: Final = re.compile(r"-(?:n *)?([0-9]{1,6})")
_NAME: Final = re.compile(r"[A-Za-z0-9]*\*?[A-Za-z0-9]*")
_SYSCTL: Final = re.compile(r"/proc/sys/net/[A-Za-z0-9_/.-]+")


class Refuse(Protocol):
    """Makes the error of a word that is not interpreted."""

    def __call__(self, word: Word, help: str) -> ScriptError:
        """The error; `help` says what would be."""
        ...


def look(pipeline: Pipeline, refuse: Refuse) -> Look:
    """What a pipe looks at; raises ScriptError for what is not interpreted."""
    first, *rest = pipeline.commands
    source, filters = _source(first, refuse)
    return Look(source, (*filters, *(_filter(command, refuse) for command in rest)))


def _source(command: Simple, refuse: Refuse) -> tuple[Source, tuple[Filter, ...]]:
    name = command.words[0].text
    if name == "cat":
        return Files(tuple(_path(w, refuse) for w in command.words[1:] or [_missing(command, refuse)])), ()
    if name == "nstat":
        return _nstat(command, refuse), ()
    if name == "ss":
        return _ss(command, refuse), ()
    grep, files = _grep(command, refuse)
    return Files(tuple(_path(w, refuse) for w in files or [_missing(command, refuse)])), (grep,)


def _missing(command: Simple, refuse: Refuse) -> Word:
    raise refuse(command.words[0], "a file is missing behind it")


def _path(word: Word, refuse: Refuse) -> str:
    path = re.sub(r"^/proc/self/net/|^/proc/\$PPID/net/", "/proc/net/", word.text)
    if path.removeprefix("/proc/net/") in PROC_NET or (_SYSCTL.fullmatch(path) and ".." not in path):
        return path
    raise refuse(word, f"/proc/net/ has {', '.join(PROC_NET)} here; of /proc/sys what is under net/")


def _nstat(command: Simple, refuse: Refuse) -> Nstat:
    flags, names = "", []
    for word in command.words[1:]:
        if re.fullmatch(r"-[nsazr]+", word.text):
            flags += word.text[1:]
        elif _NAME.fullmatch(word.text) and word.text:
            names.append(word.text)
        else:
            raise refuse(word, "nstat has -n -s -a -z -r here, and names of counters")
    return Nstat(tuple(names), "s" not in flags, "z" in flags, "a" in flags)


def _ss(command: Simple, refuse: Refuse) -> Ss:
    options = ""
    for word in command.words[1:]:
        letters = SS_WORDS.get(word.text) or (word.text[1:] if re.fullmatch(r"-[A-Za-z]+", word.text) else "")
        if not letters or not set(letters) <= set(SS_OPTIONS):
            raise refuse(word, f"ss has the options {SS_OPTIONS} here, and no filter")
        options += letters
    return Ss("".join(sorted(set(options))))


def _filter(command: Simple, refuse: Refuse) -> Filter:
    name, words = command.words[0].text, command.words[1:]
    if name in ("grep", "egrep", "fgrep"):
        grep, files = _grep(command, refuse)
        if files:
            raise refuse(files[0], "a grep behind a pipe reads what comes through it")
        return grep
    if name == "awk" and len(words) == 1 and (found := _AWK.fullmatch(words[0].text.strip())):
        return Fields(tuple(int(n) for n in re.findall(r"\$([0-9]+)", found[1])))
    if name in ("head", "tail"):
        joined = " ".join(w.text for w in words)
        if not words:
            return Lines(name)
        if found := _COUNT.fullmatch(joined):
            return Lines(name, int(found[1]))
    if name == "wc" and [w.text for w in words] == ["-l"]:
        return Lines("wc")
    if name in ("sort", "uniq") and not words:
        return Lines(name)
    raise refuse(
        command.words[0], f"behind a pipe are known {', '.join(FILTERS[:-1])}, of awk '{{print $N}}', of wc -l"
    )


def _grep(command: Simple, refuse: Refuse) -> tuple[Grep, tuple[Word, ...]]:
    name = command.words[0].text
    flags = {"egrep": "E", "fgrep": "F"}.get(name, "")
    words = list(command.words[1:])
    pattern: Word | None = None
    while words and re.fullmatch(r"-[A-Za-z]+", words[0].text):
        word = words.pop(0)
        for n, letter in enumerate(word.text[1:], 2):
            if letter == "e" and n == len(word.text) and words:
                pattern = words.pop(0)
            elif letter in "qvciEFwhHons":
                flags += letter
            else:
                raise refuse(word, "grep has -q -v -c -i -E -F -w -e here")
    if pattern is None:
        if not words:
            raise refuse(command.words[0], "grep without a pattern")
        pattern = words.pop(0)
    try:
        compiled = compile_pattern(pattern.text, "E" in flags, "F" in flags, "i" in flags, "w" in flags)
    except BadPattern as why:
        raise refuse(pattern, str(why)) from why
    return Grep(compiled, "v" in flags, "c" in flags, "q" in flags), tuple(words)
