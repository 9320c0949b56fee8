"""Verdicts as SARIF 2.1.0, the exchange format of static analysis: OASIS, sections named beside each part."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec

from conformance.check.verdict import Divergence, FileReport, Outcome, Verdict
from conformance.report.clean import cleaned, printable, raw
from conformance.report.github import message
from conformance.report.source import citation, cites, says
from refmodel import __version__

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
OWN: Final = {
    "refmodel.diverges": "A frame, or a missing one, that the specification does not allow.",
    "refmodel.inconclusive": "The capture does not tell whether the specification was kept.",
    "refmodel.not-modelled": "The specification does not cover these frames.",
}
OWN_RULE: Final = {
    Outcome.DIVERGES: "refmodel.diverges",
    Outcome.INCONCLUSIVE: "refmodel.inconclusive",
    Outcome.NOT_MODELLED: "refmodel.not-modelled",
}
# 3.27.9: what is not a failure has a kind of its own, and no level
KINDS: Final = {Outcome.DIVERGES: "fail", Outcome.INCONCLUSIVE: "open", Outcome.NOT_MODELLED: "notApplicable"}


def sarif(reports: Sequence[FileReport]) -> str:
    """The log as JSON text: one run, its rules, a result for each subject that does not conform.

    A divergence's rule is the constraint that it violates, else the nearest rule that could have sent the frame.
    `startLine` of a region is the frame's number (3.30 has no frames). Captures that cannot be read are notifications
    of the invocation.
    """
    found = [(r, v) for r in reports for v in cleaned(r).verdicts if v.outcome is not Outcome.CONFORMS]
    ids = list(dict.fromkeys(rule_of(v) for _, v in found))
    run = {
        "tool": {"driver": {"name": "refmodel", "version": __version__, "rules": [_rule(x) for x in ids]}},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": not any(r.error for r in reports),
                "toolExecutionNotifications": [n for r in reports for n in _notifications(r)],
            }
        ],
        "artifacts": [{"location": {"uri": x}} for x in dict.fromkeys(uri(r.path) for r in reports)],
        "results": [_result(r, v, ids) for r, v in found],
        "properties": {"subjects": sum(len(r.verdicts) for r in reports), "frames": sum(r.frames for r in reports)},
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(log), indent=1).decode() + "\n"


def rule_of(v: Verdict) -> str:
    """The rule that a result is filed under: the constraint violated, the nearest near miss, or one of our own."""
    d = v.divergence
    near = (d.constraint, *(n.rule for n in d.near)) if d is not None else ()
    return next(filter(None, near), OWN_RULE[v.outcome])


def uri(path: str) -> str:
    """A path as a URI reference: percent-encoded bytes, relative as it was given; absolute ones with their scheme."""
    quoted = quote(raw(path))
    if path.startswith("/"):
        return f"file://{quoted}"
    return f"./{quoted}" if quoted.startswith("/") or not quoted else quoted


def _rule(ident: str) -> dict[str, Any]:
    """A reportingDescriptor (3.49). The citations stand in its help as text; they have no address."""
    rule: dict[str, Any] = {"id": ident, "shortDescription": {"text": OWN.get(ident) or says(ident) or ident}}
    cite = citation(ident)
    if cite:
        rule["help"] = {"text": f"Source: {cite}."}
        rule["properties"] = {"citations": list(cites(ident))}
    return rule


def _result(r: FileReport, v: Verdict, ids: list[str]) -> dict[str, Any]:
    ident = rule_of(v)
    d = v.divergence
    result: dict[str, Any] = {
        "ruleId": ident,
        "ruleIndex": ids.index(ident),
        "kind": KINDS[v.outcome],
        "level": "error" if v.outcome is Outcome.DIVERGES else "none",
        "message": {"text": message(v)},
        "locations": [_location(r.path, v, d)],
        "partialFingerprints": {"subjectAndRule/v1": fingerprint(r.path, v)},
        "properties": {"layer": v.layer, "subject": v.subject, "kernel": printable(r.profile)},
    }
    if d is not None:
        result["properties"] |= {
            "frame": d.frame,
            "time": d.time,
            "host": d.host,
            "allowed": list(d.allowed),
            "state": list(d.state),
            "around": list(d.around),
        }
    return result


def _location(path: str, v: Verdict, d: Divergence | None) -> dict[str, Any]:
    """A location (3.28): the capture and, by number, the frame; the subject it belongs to as the logical one (3.33)."""
    physical: dict[str, Any] = {"artifactLocation": {"uri": uri(path)}}
    subject = f"{v.layer} {v.subject}".rstrip()
    logical = [{"name": v.subject or v.layer, "fullyQualifiedName": subject, "kind": "subject"}]
    if d is not None:
        physical["region"] = {"startLine": max(d.frame, 1)}
        logical.append({"name": f"frame {d.frame}", "fullyQualifiedName": f"{subject}/{d.frame}", "kind": "frame"})
    return {"physicalLocation": physical, "logicalLocations": logical}


def fingerprint(path: str, v: Verdict) -> str:
    """The same for the same fault of the same subject in a file of the same name, whatever its frame (3.27.17)."""
    host = v.divergence.host if v.divergence is not None else ""
    parts = (os.path.basename(path), v.layer, v.subject, host, rule_of(v))
    return hashlib.sha256(b"\0".join(raw(p) for p in parts)).hexdigest()


def _notifications(r: FileReport) -> Iterator[dict[str, Any]]:
    """What went wrong while a capture was read (3.58)."""
    where = [{"physicalLocation": {"artifactLocation": {"uri": uri(r.path)}}}]
    clean = cleaned(r)
    if clean.error:
        yield {"level": "error", "message": {"text": clean.error}, "locations": where}
    for notice in clean.notices:
        yield {"level": "warning", "message": {"text": notice}, "locations": where}
