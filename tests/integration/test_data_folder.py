"""The data folder of a private Meterline, and what ``meterline up`` says when it cannot start."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import COMMANDS, main
from cli.datafolder import LOG_BYTES_MAX, DataFolder
from cli.output import Failure
from tests.system.launching import free_ports


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


def up(*options: str):
    return CliRunner().invoke(main, ["up", *options])


def test_secrets_are_made_once_and_only_their_owner_reads_them(folder: DataFolder):
    with folder.claimed():
        key, secret = folder.operator_key(), folder.service_secret()
    with folder.claimed():
        assert (folder.operator_key(), folder.service_secret()) == (key, secret)
    for name in ("operator.key", "service.secret"):
        assert (folder.path / name).stat().st_mode & 0o777 == 0o600
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert len(key.split("_", 2)[2]) == 43
    assert len(secret) >= 32


def test_a_folder_serves_one_meterline_at_a_time(folder: DataFolder):
    with folder.claimed(), pytest.raises(Failure, match=f"another Meterline .process {os.getpid()}"), folder.claimed():
        pass
    with folder.claimed():
        pass


def test_a_folder_whose_owner_was_killed_is_free(folder: DataFolder):
    program = f"""
import os, pathlib
from cli.datafolder import DataFolder
folder = DataFolder(pathlib.Path({str(folder.path)!r}))
with folder.claimed():
    folder.write_system({{"pid": str(os.getpid())}})
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert folder.read_system() is None
    with folder.claimed():
        folder.write_system({"pid": str(os.getpid()), "gateway": "http://127.0.0.1:8080"})
        assert folder.read_system() == {"pid": str(os.getpid()), "gateway": "http://127.0.0.1:8080"}
    assert folder.read_system() is None


def test_a_long_log_is_put_aside(folder: DataFolder):
    with folder.claimed():
        folder.log("rating").write_bytes(b"x" * (LOG_BYTES_MAX + 1))
        folder.rotate_log("rating")
    assert not folder.log("rating").exists()
    assert (folder.path / "logs" / "rating.log.1").exists()


def test_a_folder_that_cannot_be_made_is_a_clear_failure(tmp_path: Path):
    (tmp_path / "file").touch()
    result = up("--data-dir", str(tmp_path / "file" / "data"))
    assert result.exit_code == 1
    assert "cannot write in the data folder" in result.output
    assert "--data-dir" in result.output


def test_a_second_instance_is_a_clear_failure(folder: DataFolder):
    with folder.claimed():
        result = up("--data-dir", str(folder.path))
    assert result.exit_code == 1
    assert "is used by another Meterline" in result.output


@pytest.mark.parametrize("option", ["gateway-port", "accounts-port", "rating-port", "metrics-port"])
def test_a_taken_port_is_a_clear_failure(tmp_path: Path, option: str):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        names = ["gateway-port", "accounts-port", "catalog-port", "endpoints-port", "rating-port"]
        others = dict(zip(names, map(str, free_ports(len(names))), strict=True)) | {"metrics-port": "0"}
        options = [word for name, value in (others | {option: port}).items() for word in (f"--{name}", value)]
        result = up("--data-dir", str(tmp_path), *options)
    assert result.exit_code == 1
    assert f"port {port}" in result.output
    assert f"--{option}" in result.output


def test_help_names_every_command_without_importing_it():
    shown = CliRunner().invoke(main, ["--help"]).output
    assert [name for name in COMMANDS if f"\n  {name} " in shown] == list(COMMANDS)
    program = "import sys, cli.__main__; cli.__main__.main(['--help'], standalone_mode=False); sys.exit('cli.up' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0
