"""The gateway as a process: it says where it is, refuses a taken port in words, and ends at SIGTERM."""

import json
import os
import signal
import subprocess
import sys

import httpx

from tests.integration.gateway.world import free_address


def start(address: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "METERLINE_GATEWAY_LISTEN": address}
    return subprocess.Popen([sys.executable, "-m", "gateway"], env=environment, stderr=subprocess.PIPE, text=True)


def test_the_process_serves_until_sigterm_and_a_second_one_is_told_why_not():
    address = free_address()
    first = start(address)
    try:
        assert first.stderr is not None
        assert json.loads(first.stderr.readline())["event"] == "serving"
        answer = httpx.get(f"http://{address}/healthz", trust_env=False)
        assert answer.status_code == 200
        _, said = (second := start(address)).communicate(timeout=30)
        assert second.returncode == 1
        assert said.strip().splitlines()[-1].startswith(f"Cannot listen on {address}: is the port taken?")
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=20) == 0
    finally:
        first.kill()
        first.communicate()


def test_a_setting_that_makes_no_sense_is_named():
    environment = {**os.environ, "METERLINE_GATEWAY_CONCURRENCY_MAX": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "gateway"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "METERLINE_GATEWAY_CONCURRENCY_MAX" in ended.stderr
