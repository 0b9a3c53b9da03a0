"""Gates as JUnit XML, the dialect that CI systems read: one test case per gate and system."""

from __future__ import annotations

import json
import math
import re
from xml.etree import ElementTree as ET

from cdslm_eval.results.suite_result import Judgement, SuiteResult

__all__ = ["junit"]

# XML 1.0 has no other control characters, escaped or not, and no halves of characters
_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(result: SuiteResult, finished: str) -> str:
    """Return the gates and the failure budget as JUnit XML.

    A failed gate is a `failure`, one whose value is not known an `error`, an undecided one that counts as passed is
    `skipped` with the reason, so that CI shows it without stopping. The suite has the wall time of the run, and a case
    the time that this run spent measuring what it judges, over all workers: gates on one metric share it, and it is 0
    where the store held the rows.

    Args:
        result: The run.
        finished: When it ended, ISO 8601.
    """
    cases = [_case(result, judgement) for judgement in result.judgements]
    cases += [_budget(result.name, sentence) for sentence in result.over_budget]
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        **({"time": f"{result.seconds:.3f}"} if math.isfinite(result.seconds) else {}),
    }
    root = ET.Element("testsuites", {"name": _clean(result.name), **counts})
    suite = ET.SubElement(root, "testsuite", {"name": _clean(result.name), **counts, "timestamp": finished})
    properties = ET.SubElement(suite, "properties")
    for name, value in result.settings.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        ET.SubElement(properties, "property", {"name": _clean(name), "value": _clean(text)})
    suite.extend(cases)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _seconds(result: SuiteResult, judgement: Judgement) -> dict[str, str]:
    """Return the attribute `time` of a gate's case; none where it is not known what was measured for it."""
    metrics = {estimate.name: estimate.metric for estimate in result.scores.estimates}
    name = re.match(r"[\w-]*", judgement.gate)
    spent = result.measured_s.get((judgement.system, metrics.get(name[0] if name else "", "")))
    return {} if spent is None else {"time": f"{spent:.3f}"}


def _case(result: SuiteResult, one: Judgement) -> ET.Element:
    names = {
        "classname": f"{_clean(result.name)}.{_clean(one.system)}",
        "name": _clean(one.title),
        **_seconds(result, one),
    }
    case = ET.Element("testcase", names)
    sentence = _clean(one.sentence)
    if one.status == "unmeasured":
        ET.SubElement(case, "error", {"message": sentence, "type": "unmeasured"}).text = sentence
    elif not one.passed:
        ET.SubElement(case, "failure", {"message": sentence, "type": one.status}).text = sentence
    elif one.status == "undecided":
        ET.SubElement(case, "skipped", {"message": sentence})
    ET.SubElement(case, "system-out").text = sentence
    return case


def _budget(suite: str, sentence: str) -> ET.Element:
    case = ET.Element("testcase", {"classname": f"{_clean(suite)}.failure budget", "name": _clean(sentence)})
    ET.SubElement(case, "failure", {"message": _clean(sentence), "type": "budget"}).text = _clean(sentence)
    return case


def _clean(text: str) -> str:
    return _UNSPEAKABLE.sub("\ufffd", text)
