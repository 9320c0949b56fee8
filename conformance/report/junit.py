"""Verdicts as JUnit XML, for continuous integration: a suite a capture, a test case a subject."""

from collections.abc import Sequence

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from conformance.check.verdict import FileReport, Outcome, Verdict
from conformance.report.clean import cleaned
from conformance.report.text import as_text


def junit(reports: Sequence[FileReport]) -> str:
    """The XML document.

    A divergence is a failure, inconclusive and not modelled are skipped with their reason, what cannot be read is an
    error of the case 'reading'.
    """
    xml = JUnitXml("refmodel check")
    for r in reports:
        xml.append(_suite(cleaned(r)))  # type: ignore[no-untyped-call]
    xml.update_statistics()  # type: ignore[no-untyped-call]
    return bytes(xml.tostring()).decode("utf-8")  # type: ignore[no-untyped-call]


def _suite(r: FileReport) -> TestSuite:
    suite = TestSuite(r.path)
    suite.add_property("kernel", r.profile)
    suite.add_property("frames", str(r.frames))
    for k, notice in enumerate(r.notices):
        suite.add_property(f"notice {k + 1}", notice)
    cases = [_case(v, r.path) for v in r.verdicts]
    if r.error:
        cases.append(_with(TestCase("reading", r.path), Error(r.error, "unreadable")))
    elif not r.verdicts:
        cases.append(_with(TestCase("capture", r.path), Skipped("nothing to judge", str(Outcome.INCONCLUSIVE))))
    suite.add_testcases(cases)
    return suite


def _case(v: Verdict, path: str) -> TestCase:
    case = TestCase(f"{v.layer} {v.subject}".rstrip(), path)
    if v.outcome is Outcome.CONFORMS:
        return case
    reason = v.reason or str(v.outcome)
    if v.outcome is not Outcome.DIVERGES:
        return _with(case, Skipped(reason, str(v.outcome)))
    failure = Failure(v.divergence.what if v.divergence is not None else reason, str(v.outcome))
    failure.text = as_text(v)
    return _with(case, failure)


def _with(case: TestCase, result: Error | Failure | Skipped) -> TestCase:
    case.result = [result]
    return case
