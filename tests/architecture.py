"""The one contract that import-linter does not bring: a package may import only what is listed.

import-linter's own ``forbidden`` needs every forbidden module by name and errors on names that do not exist yet;
an allow-list stays right when a new dependency or a new service arrives. Used from ``pyproject.toml``.
"""

import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

FIRST_PARTY = frozenset({"services", "gateway", "cli", "tests"})


def is_within(module: str, package: str) -> bool:
    """Whether ``module`` is ``package`` or lies below it."""
    return module == package or module.startswith(package + ".")


class ImportsOnly(Contract):
    """Each source package imports itself, the allowed modules and, unless told otherwise, third-party ones.

    Attributes:
        source_modules: dotted names; ``*`` stands for one part. One that matches nothing is ignored.
        allowed_modules: first-party modules (with all below them) that may be imported.
        allow_external: false leaves only the standard library.
        forbidden_external: third-party packages that may not be imported even so.
        forbidden_siblings: rooms of the same service that may not be imported; when given, the others may.
    """

    source_modules = fields.ListField(subfield=fields.StringField())
    allowed_modules = fields.ListField(subfield=fields.StringField(), required=False, default=[])
    allow_external = fields.BooleanField(required=False, default=True)
    forbidden_external = fields.ListField(subfield=fields.StringField(), required=False, default=[])
    forbidden_siblings = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: FBT001, ARG002 - the base's signature
        """Collect every import of a source package that the lists do not cover."""
        broken = [
            f"{importer} imports {imported}"
            for package in self._sources(graph.modules)
            for importer in sorted(m for m in graph.modules if is_within(m, package))
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if not self._allows(package, imported)
        ]
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line an offending import."""
        for line in check.metadata["broken"]:
            output.print_error(line)

    def _names(self, field: str) -> list[str]:
        return list(getattr(self, field))  # by now import-linter has put the values in the place of the fields

    def _sources(self, modules: Iterable[str]) -> list[str]:
        patterns = self._names("source_modules")
        return sorted(m for m in modules if any(_matches(m, pattern) for pattern in patterns))

    def _allows(self, package: str, imported: str) -> bool:
        top = imported.partition(".")[0]
        if any(is_within(imported, allowed) for allowed in [package, *self._names("allowed_modules")]):
            return True
        if top in FIRST_PARTY:
            return self._allows_sibling(package, imported)
        if top in sys.stdlib_module_names:
            return True
        return bool(self.allow_external) and top not in self._names("forbidden_external")

    def _allows_sibling(self, package: str, imported: str) -> bool:
        service, forbidden = package.rpartition(".")[0], self._names("forbidden_siblings")
        if not (forbidden and service.startswith("services.") and is_within(imported, service)):
            return False
        return not any(is_within(imported, f"{service}.{room}") for room in forbidden)


def _matches(module: str, pattern: str) -> bool:
    return module.count(".") == pattern.count(".") and fnmatchcase(module, pattern)
