"""The load script runs with the real k6 against the running system, without one error."""

import asyncio
import json
import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.system.launching import System
from tests.system.market import GB, Market, addon, default_of, zone
from tests.system.test_worked_example import complete

SCRIPT = Path(__file__).parents[1] / "load" / "charge.js"
K6 = shutil.which("k6", path=sysconfig.get_path("scripts"))


@pytest.mark.slow
async def test_k6_charges_over_grpc_and_http_without_an_error(system: System, market: Market, tmp_path: Path):
    assert K6, "the development packages bring k6"
    enterprise = market.enterprise
    profile = (await default_of(enterprise, "service-profiles", "DEFAULT"))["id"]
    endless = await addon(enterprise, profile, await zone(enterprise, ["BE"]), 10**6 * GB)
    endpoints = await market.endpoints(5, addons=[endless])
    values = {
        "KEY": enterprise.key, "ENDPOINTS": ",".join(endpoints), "VUS": "4", "DURATION": "2s", "P99_MS": "30000",
        "GRPC": system.description["rating"], "HTTP": system.description["gateway"],
    }  # fmt: skip
    words = [word for name, value in values.items() for word in ("-e", f"{name}={value}")]
    summary = tmp_path / "summary.json"
    process = await asyncio.create_subprocess_exec(
        K6, "run", "--quiet", "--no-usage-report", "--summary-export", summary, *words, SCRIPT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    metrics = json.loads(summary.read_text())["metrics"]
    assert metrics["checks"]["fails"] == 0
    assert b"level=error" not in said, said.decode()
    charged = int(metrics["charged"]["count"])
    query = {"group_by": "SUMMARY_DIMENSION_LEVEL", "account_id": enterprise.account_id}
    rows = (await complete(enterprise, "/v1/usage-summaries", **query))["summaries"]
    assert {int(row["record_count"]) for row in rows} == {charged}, "what k6 counted is what the books hold"
