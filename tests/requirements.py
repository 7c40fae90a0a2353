"""Which requirements the tests show: ``@pytest.mark.requirement("R034")``, checked, counted and reported.

The list of requirements is ``docs/requirements.md``. An id that is not in it is an error at collection; a requirement
counts as shown when a test that names it has passed.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[1] / "docs" / "requirements.md"
PROPERTY = "requirement"


def known_requirements(document: Path = DOCUMENT) -> frozenset[str]:
    """The ids that the document defines, each at the start of a list entry."""
    return frozenset(re.findall(r"^- (R\d{3}) ", document.read_text(encoding="utf-8"), re.MULTILINE))


class RequirementsPlugin:
    """Follows one test run. The ids travel as properties of the reports, so they survive worker processes."""

    def __init__(self, config: pytest.Config) -> None:
        self._known = known_requirements()
        self._report: Path | None = config.getoption("--requirements-report")
        self._shown: dict[str, set[str]] = defaultdict(set)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        unknown = [f"{item.nodeid}: {named!r}" for item in items for named in self._attach(item)]
        if unknown:
            listed = "\n  ".join(unknown)
            raise pytest.UsageError(f"requirements that {DOCUMENT.name} does not know:\n  {listed}")

    def _attach(self, item: pytest.Item) -> Iterator[object]:
        """Note the ids on the test; yields those that do not exist."""
        for marker in item.iter_markers("requirement"):
            for named in marker.args or (None,):
                if named not in self._known:
                    yield named
                item.user_properties.append((PROPERTY, named))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name != PROPERTY:
                continue
            if report.when == "call" and report.passed:
                self._shown[str(value)].add(report.nodeid)
            elif report.failed:
                self._shown[str(value)].discard(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        tests = {named: sorted(shown) for named, shown in sorted(self._shown.items()) if shown}
        terminalreporter.write_line(f"requirements shown: {len(tests)} of {len(self._known)}")
        if self._report:
            self._report.write_text(json.dumps(tests, indent=2) + "\n", encoding="utf-8")
