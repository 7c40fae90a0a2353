"""The contracts as the gateway reads them: descriptors, what they say about HTTP, and their comments."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

DESCRIPTORS = "descriptors.binpb"
PACKAGE = "meterline"

_FILE_MESSAGES, _FILE_ENUMS, _FILE_SERVICES = 4, 5, 6
_MESSAGE_FIELDS, _MESSAGE_MESSAGES, _MESSAGE_ENUMS = 2, 3, 4
_PATHS: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "file": {
        _FILE_MESSAGES: ("message_type", "message"),
        _FILE_ENUMS: ("enum_type", "enum"),
        _FILE_SERVICES: ("service", "service"),
    },
    "message": {
        _MESSAGE_FIELDS: ("field", "leaf"),
        _MESSAGE_MESSAGES: ("nested_type", "message"),
        _MESSAGE_ENUMS: ("enum_type", "enum"),
    },
    "enum": {2: ("value", "leaf")},
    "service": {2: ("method", "leaf")},
}
"""For each kind of declaration, the numbers by which a source path names what is in it (descriptor.proto,
SourceCodeInfo)."""


@dataclass(frozen=True, slots=True)
class Contracts:
    """The services that the outside may call, and the comments of everything in the contracts by full name."""

    services: tuple[ServiceDescriptor, ...]
    comments: Mapping[str, str]

    def methods(self) -> Iterator[MethodDescriptor]:
        """Every method of every service, as declared."""
        for service in self.services:
            yield from service.methods


def http_rule(method: MethodDescriptor) -> http_pb2.HttpRule | None:
    """The method's google.api.http annotation; None if it is not for the outside."""
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return None
    rule: http_pb2.HttpRule = options.Extensions[annotations_pb2.http]
    return rule


@cache
def load_contracts() -> Contracts:
    """Read the contracts that are installed with the generated modules."""
    files = descriptor_pb2.FileDescriptorSet.FromString((resources.files(PACKAGE) / DESCRIPTORS).read_bytes())
    services: list[ServiceDescriptor] = []
    comments: dict[str, str] = {}
    for file in files.file:
        comments.update(_comments(file))
        if file.package.startswith(f"{PACKAGE}."):
            import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
            found = descriptor_pool.Default().FindFileByName(file.name)
            services.extend(found.services_by_name.values())
    return Contracts(tuple(services), comments)


def _comments(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        text = location.leading_comments or location.trailing_comments
        if text and (name := _name_at(file, list(location.path))):
            yield name, _paragraphs(text)


def _name_at(file: descriptor_pb2.FileDescriptorProto, path: list[int]) -> str:
    """The full name of what a source path leads to; empty if it is no declaration."""
    here, kind, names = file, "file", [file.package]
    while path:
        number, *path = path
        if not path or number not in _PATHS.get(kind, {}):
            return ""
        member, kind = _PATHS[kind][number]
        here, path = getattr(here, member)[path[0]], path[1:]
        names.append(here.name)
    return ".".join(names)


def _paragraphs(text: str) -> str:
    """Join the lines that were broken for width; an empty line, an indented line and a list item stay lines."""
    lines: list[str] = []
    for raw in text.splitlines():
        line = raw.removeprefix(" ").rstrip()
        if lines and lines[-1] and line and not line.startswith((" ", "-", "*")):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return "\n".join(lines).strip()
