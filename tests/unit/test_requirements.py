"""The count of requirements counts what it says."""

import json

import pytest

from tests.requirements import known_requirements

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester: pytest.Pytester):
    """Run a test file beside Meterline's conftest."""
    pytester.makeconftest(
        "from pathlib import Path\n"
        "from tests.requirements import RequirementsPlugin\n"
        "def pytest_addoption(parser): parser.addoption('--requirements-report', type=Path)\n"
        "def pytest_configure(config):\n"
        "    config.addinivalue_line('markers', 'requirement(*ids): x')\n"
        "    config.pluginmanager.register(RequirementsPlugin(config), 'requirements')\n"
    )

    def run(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        return pytester.runpytest_inprocess("-o", "asyncio_default_fixture_loop_scope=function", *options)

    return run


def test_the_document_numbers_its_requirements_without_a_gap():
    assert known_requirements() == {f"R{number:03}" for number in range(1, 332)}


def test_only_passed_tests_count(run, pytester: pytest.Pytester):
    result = run(
        """
        import pytest

        @pytest.mark.requirement("R001", "R002")
        def test_passes(): pass

        @pytest.mark.requirement("R003")
        def test_fails(): assert False

        @pytest.mark.requirement("R004")
        @pytest.mark.skip
        def test_skips(): pass
        """,
        "--requirements-report=shown.json",
    )
    result.stdout.fnmatch_lines(["requirements shown: 2 of 331"])
    shown = json.loads((pytester.path / "shown.json").read_text())
    assert list(shown) == ["R001", "R002"]
    assert shown["R001"] == ["test_only_passed_tests_count.py::test_passes"]


@pytest.mark.parametrize("named", ["'R332'", "'34'", "34", ""])
def test_an_unknown_requirement_is_an_error_at_collection(run, named: str):
    result = run(f"import pytest\n@pytest.mark.requirement({named})\ndef test_it(): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*requirements.md does not know*"])
