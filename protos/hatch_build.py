"""Generates the contracts' modules when the package is built or installed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ContractsHook(BuildHookInterface[Any]):
    """Runs ``build.py`` before hatchling collects files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the base's signature
        """Build the contracts; a failure ends the installation with protoc's own lines."""
        subprocess.run([sys.executable, Path(self.root) / "protos" / "build.py"], check=True)
