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
    `skipped` with the reason, so that CI shows it without stopping. The suite has the wall time of the run; its cases
    have none, since rows are measured for all gates at once.

    Args:
        result: The run.
        finished: When it ended, ISO 8601.
    """
    cases = [_case(result.name, judgement) for judgement in result.judgements]
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


def _case(suite: str, one: Judgement) -> ET.Element:
    names = {"classname": f"{_clean(suite)}.{_clean(one.system)}", "name": _clean(one.title)}
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
