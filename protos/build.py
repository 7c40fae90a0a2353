#!/usr/bin/env python3
"""Builds the contracts: Python modules and typed stubs beside each ``.proto``, and one descriptor set.

python protos/build.py                 generates what is out of date (a digest decides)
python protos/build.py --lint          checks the style with buf
python protos/build.py --breaking REV  compares the contracts with those of a git revision

The descriptor set meterline/descriptors.binpb keeps comments: the gateway makes its documentation from it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
DESCRIPTORS = "meterline/descriptors.binpb"
STAMP = PROTOS / "meterline" / ".built"
COMPILERS = ("grpcio-tools", "mypy-protobuf", "protobuf", "googleapis-common-protos")
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")


class BuildError(Exception):
    """The contracts could not be built or checked; the message says what to do."""


def sources(root: Path) -> list[str]:
    """The ``.proto`` files of Meterline below ``root``, as protoc and Python imports name them."""
    return sorted(path.relative_to(root).as_posix() for path in root.glob("meterline/**/*.proto"))


def digest() -> str:
    """Changes whenever a contract, a compiler or this program does."""
    sha = hashlib.sha256(Path(__file__).read_bytes())
    for name in COMPILERS:
        sha.update(f"{name} {_version(name)}\n".encode())
    for source in sources(PROTOS):
        sha.update(source.encode() + b"\0" + (PROTOS / source).read_bytes())
    return sha.hexdigest()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        message = f"{distribution} is not installed in {sys.prefix}. Run: make setup"
        raise BuildError(message) from None


def tool(name: str) -> str:
    """The path of a program that the development packages bring.

    Raises:
        BuildError: it is not installed.
    """
    folders = [sysconfig.get_path("scripts"), *os.get_exec_path()]
    for folder in folders:
        if os.access(candidate := Path(folder) / name, os.X_OK):
            return str(candidate)
    raise BuildError(f"{name} is not installed in {sys.prefix}. Run: make setup")


def include_folders() -> list[str]:
    """Where ``google/protobuf`` and ``google/api`` lie: inside installed Python packages."""
    import grpc_tools
    from google.api import annotations_pb2

    well_known = Path(str(grpc_tools.__file__)).parent / "_proto"
    return [str(well_known), str(Path(str(annotations_pb2.__file__)).parents[2])]


def protoc(root: Path, *options: str) -> None:
    """Run protoc on the contracts below ``root``.

    Raises:
        BuildError: a contract does not compile; protoc has printed where and why.
    """
    from grpc_tools import protoc as compiler

    includes = [f"-I{folder}" for folder in (str(root), *include_folders())]
    arguments = ["protoc", *includes, *options, *sources(root)]
    if compiler.main(arguments) != 0:  # type: ignore[no-untyped-call] # grpc_tools is not typed
        raise BuildError("the contracts do not compile: see the lines above")


def write_descriptors(root: Path, target: Path) -> None:
    """Write one descriptor set of the contracts below ``root``, with comments and with all they import."""
    protoc(root, f"--descriptor_set_out={target}", "--include_imports", "--include_source_info")


def generate() -> bool:
    """Generate modules, stubs and the descriptor set if anything has changed since the last time.

    Returns:
        Whether there was anything to do.
    """
    if not sources(PROTOS):
        raise BuildError(f"there is no .proto file below {PROTOS / 'meterline'}")
    with _one_build_at_a_time():
        current = digest()
        if STAMP.exists() and STAMP.read_text() == current and all(path.exists() for path in _wanted()):
            return False
        with tempfile.TemporaryDirectory(prefix=".build-", dir=PROTOS) as temporary:
            _compile_into(Path(temporary))
            _move_into_place(Path(temporary))
        STAMP.write_text(current)
        return True


def _compile_into(target: Path) -> None:
    plugins = [f"--plugin={name}={tool(name)}" for name in PLUGINS]
    outputs = [f"--python_out={target}", f"--grpc_python_out={target}"]
    stubs = [f"--mypy_out=quiet:{target}", f"--mypy_grpc_out=quiet,only_async:{target}"]
    protoc(PROTOS, *plugins, *outputs, *stubs)
    write_descriptors(PROTOS, target / DESCRIPTORS)


def _move_into_place(built: Path) -> None:
    wanted = set(_wanted())
    for path in _generated():
        if path not in wanted:
            path.unlink()
    for path in wanted:
        (built / path.relative_to(PROTOS)).replace(path)


def _wanted() -> Iterator[Path]:
    yield PROTOS / DESCRIPTORS
    for source in sources(PROTOS):
        stem = source.removesuffix(".proto")
        yield from (PROTOS / f"{stem}{suffix}" for suffix in GENERATED)


def _generated() -> list[Path]:
    return [path for suffix in GENERATED for path in (PROTOS / "meterline").glob(f"**/*{suffix}")]


@contextmanager
def _one_build_at_a_time() -> Iterator[None]:
    with (PROTOS / "buf.yaml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def lint() -> None:
    """Check the style of the contracts as ``buf.yaml`` says.

    Raises:
        BuildError: buf found something; it has printed where and why.
    """
    with tempfile.TemporaryDirectory() as temporary:
        image = Path(temporary) / "contracts.binpb"
        write_descriptors(PROTOS, image)
        _buf("lint", str(image))


def breaking(revision: str) -> None:
    """Check that no contract has changed against its form at ``revision`` in a way that breaks a client.

    Raises:
        BuildError: something breaks, or git does not know the revision.
    """
    with tempfile.TemporaryDirectory() as temporary:
        before, after = Path(temporary) / "before", Path(temporary) / "after.binpb"
        _check_out(revision, before)
        if not sources(before):
            print(f"{revision} has no contracts to compare with")
            return
        write_descriptors(before, before / "image.binpb")
        write_descriptors(PROTOS, after)
        _buf("breaking", str(after), "--against", str(before / "image.binpb"))


def _check_out(revision: str, target: Path) -> None:
    command = [tool("git"), "-C", str(PROTOS), "archive", "--format=tar", revision, "--", "."]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode != 0:
        raise BuildError(f"git has no contracts at {revision}: {result.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
        archive.extractall(target, filter="data")


def _buf(*arguments: str) -> None:
    command = [tool("buf"), *arguments, "--config", str(PROTOS / "buf.yaml")]
    if subprocess.run(command, check=False).returncode != 0:
        raise BuildError(f"buf {arguments[0]} found the above")


def main() -> int:
    """Do what the command line asks; the exit status is 1 when a contract is wrong."""
    verbatim = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=verbatim)
    parser.add_argument("--lint", action="store_true", help="check the style of the contracts")
    parser.add_argument("--breaking", metavar="REV", help="compare with the contracts at a git revision")
    arguments = parser.parse_args()
    try:
        if arguments.lint:
            lint()
        if arguments.breaking:
            breaking(arguments.breaking)
        if not (arguments.lint or arguments.breaking) and generate():
            print(f"protos: built {len(sources(PROTOS))} contracts")
    except BuildError as error:
        print(f"protos: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
