"""What tests measured or found, told at the end of the run: by `tell`, whichever process a test ran in."""

from collections.abc import Callable

import pytest

PROPERTY = "told"
Tell = Callable[[str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Take a line to be told at the end of the run, under the test's name."""
    return lambda line: record_property(PROPERTY, line)


class TellingPlugin:
    """Collects the lines: they travel as properties of the reports, so they survive worker processes."""

    def __init__(self) -> None:
        self._told: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        lines = [str(line) for name, line in report.user_properties if name == PROPERTY]
        if report.when == "call" and lines:
            self._told[report.nodeid] = lines

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for test, lines in sorted(self._told.items()):
            terminalreporter.write_line(f"told by {test}:")
            for line in lines:
                terminalreporter.write_line(f"  {line}")
