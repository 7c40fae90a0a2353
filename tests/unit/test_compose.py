"""compose.yaml and the Dockerfile against the code: what they set is read, what is read is set. Drift fails here."""

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from gateway.settings import Settings as GatewaySettings
from services.accounts.domain.keys import read_credential
from services.accounts.settings import Settings as AccountsSettings
from services.catalog.settings import Settings as CatalogSettings
from services.endpoints.settings import Settings as EndpointsSettings
from services.rating.settings import RatingSettings
from tests.compose import COMPOSE, DOCKERFILE, EXAMPLE, ROOT, MissingVariableError, composed, recipes, variables

SETTINGS: Mapping[str, type[BaseSettings]] = {
    "accounts": AccountsSettings,
    "catalog": CatalogSettings,
    "endpoints": EndpointsSettings,
    "rating": RatingSettings,
    "rating-fold": RatingSettings,
    "gateway": GatewaySettings,
}
STORES = {"postgres", "valkey"}
PUBLISHED = {"gateway", "rating"}
WAITS_FOR: Mapping[str, set[str]] = {
    "accounts": {"postgres"},
    "catalog": {"postgres", "accounts"},
    "endpoints": {"postgres", "accounts", "catalog"},
    "rating": {"postgres", "valkey", "accounts", "catalog", "endpoints"},
    "rating-fold": {"postgres", "rating"},
    "gateway": {"accounts", "catalog", "endpoints", "rating"},
}
"""Stores, and whom a service follows from its start; the other way round they call only when they have to."""
MADE_UP = {
    "METERLINE_BOOTSTRAP_OPERATOR_KEY": f"mk_{'0' * 26}_{'k' * 43}",
    "METERLINE_SERVICE_SECRET": "s" * 48,
    "METERLINE_DATABASE_PASSWORD": "database-word",
    "POSTGRES_PASSWORD": "superuser-word",
    "METERLINE_VALKEY_PASSWORD": "valkey-word",
}


def read_by(settings: type[BaseSettings]) -> dict[str, bool]:
    """The environment variables that a settings class reads, and whether each must be set."""
    prefix = settings.model_config.get("env_prefix", "")
    found = {}
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        assert not isinstance(alias, AliasChoices), "one name for a setting is enough"
        found[str(alias or f"{prefix}{name.upper()}")] = field.is_required()
    return found


def drift(text: str) -> Iterator[str]:
    """Everything in which a compose file and the code disagree, or that a deployment must not be."""
    content = composed(text, MADE_UP)
    services = content["services"]
    if set(services) != {*SETTINGS, *STORES}:
        yield f"services: {sorted(services)}"
    for name, service in services.items():
        yield from (f"{name}: {fault}" for fault in _faults_of(name, service, services))
    yield from _literal_secrets(text)


def _faults_of(name: str, service: Mapping[str, Any], services: Mapping[str, Any]) -> Iterator[str]:
    if "test" not in service.get("healthcheck", {}):
        yield "no health check"
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    if set(limits) != {"cpus", "memory"}:
        yield "no limits"
    if service.get("restart") != "unless-stopped":
        yield "is not restarted"
    if "ports" in service and name not in PUBLISHED:
        yield "is published"
    if not re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?", service["image"]):
        yield f"image {service['image']} is not pinned"
    if name in SETTINGS:
        yield from _faults_of_process(name, service, services)


def _faults_of_process(name: str, service: Mapping[str, Any], services: Mapping[str, Any]) -> Iterator[str]:
    environment = {key: str(value) for key, value in service["environment"].items()}
    reads = read_by(SETTINGS[name])
    yield from (f"{key} is read by nothing" for key in environment.keys() - reads.keys())
    yield from (
        f"{key} is required and not set" for key, required in reads.items() if required and key not in environment
    )
    if "METERLINE_" + name.upper() + "_DATABASE_URL" in reads.keys() - environment.keys():
        yield "would keep its data in the container"
    if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
        yield "may write or do more than it needs"
    module, *arguments = service["command"]
    if importlib.util.find_spec(module) is None or importlib.util.find_spec(f"{module}.__main__") is None:
        yield f"there is no program {module}"
    if arguments != (["fold"] if name == "rating-fold" else []):
        yield f"arguments {arguments}"
    yield from _wrong_addresses(environment, services)
    waits = {key for key, how in service.get("depends_on", {}).items() if how == {"condition": "service_healthy"}}
    if missing := sorted(WAITS_FOR[name] - waits):
        yield f"does not wait for {missing}"
    probe = service["healthcheck"]["test"]
    if probe[:-1] != ["CMD", "python", "-P", "-m", "services.runtime.health"]:
        yield f"health check {probe}"
    port = re.search(r":(\d+)", probe[-1].removeprefix("http:"))
    if port is None or port[1] not in {address.rpartition(":")[2] for address in _listens(environment)}:
        yield f"health check asks {probe[-1]}, where it does not listen"


def _listens(environment: Mapping[str, str]) -> list[str]:
    return [value for key, value in environment.items() if key.endswith("_LISTEN")]


def _wrong_addresses(environment: Mapping[str, str], services: Mapping[str, Any]) -> Iterator[str]:
    for key, value in environment.items():
        if key.endswith("_ADDRESS"):
            host, _, port = value.partition(":")
            listen = services.get(host, {}).get("environment", {}).get(f"METERLINE_{host.upper()}_LISTEN", "")
            if listen.rpartition(":")[2] != port:
                yield f"{key} is {value}, but {host} listens on {listen or 'nothing'}"
        if key.endswith("_URL") and not re.search(r"@(postgres:5432/(\w+)|valkey:6379/0)$", value):
            yield f"{key} leads to no store of this file"
        if key.endswith(("DATABASE_URL", "JOURNAL_URL")):
            role, database = re.sub(r"^.*//(\w+):.*/(\w+)$", r"\1 \2", value).split()
            if role != database or f" {database}" not in _databases_made():
                yield f"{key}: nobody makes the database {database}"
    if any(not listen.startswith("0.0.0.0:") for listen in _listens(environment)):
        yield "listens where no other container reaches it"


def _databases_made() -> str:
    found = re.search(r"for name in([\w ]+);", COMPOSE.read_text())
    return found[1] if found else ""


def _literal_secrets(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        names = re.search(r"\b\w*(PASSWORD|SECRET|_KEY|AUTH)\s*:\s+(?P<value>\S.*)", line)
        if names and not names["value"].startswith(("${", "&", "*")):
            yield f"line {number}: a secret stands in the file"
        if re.search(r"://[^/@\s]*:(?!\$\{)[^/@\s]+@", line):
            yield f"line {number}: a URL with a password in it"
    for name, kind, said in variables(text):
        if name in MADE_UP and (kind, said) != (":?", "see .env.example"):
            yield f"{name} has a default, or its absence is not explained"


def test_compose_and_code_agree():
    assert list(drift(COMPOSE.read_text())) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("METERLINE_OPERATOR_NAME:", "METERLINE_OPERATOR_TITLE:", "METERLINE_OPERATOR_TITLE is read by nothing"),
        ("  METERLINE_VALKEY_URL: v", "  METERLINE_REDIS_URL: v", "METERLINE_REDIS_URL is read by nothing"),
        ("  METERLINE_RATING_JOURNAL_URL: p", "  X: p", "METERLINE_RATING_JOURNAL_URL is required and not set"),
        ("  METERLINE_CATALOG_DATABASE_URL: p", "  X: p", "catalog: would keep its data in the container"),
        ("METERLINE_CATALOG_ADDRESS: catalog:7002", "METERLINE_CATALOG_ADDRESS: catalog:7003", "catalog listens on"),
        ("METERLINE_ENDPOINTS_LISTEN: 0.0.0.0:7003", "METERLINE_ENDPOINTS_LISTEN: 127.0.0.1:7003", "no other container"),
        ("METERLINE_ENDPOINTS_LISTEN: 0.0.0.0:7003", "METERLINE_ENDPOINTS_LISTEN: 0.0.0.0:7009", "where it does not listen"),
        ('      test: [CMD, python, -P, -m, services.runtime.health, "127.0.0.1:7001"]\n', "", "accounts: no health check"),
        ('    deploy: {resources: {limits: {cpus: "1", memory: 1g}}}\n', "", "rating-fold: no limits"),
        ("      valkey: {condition: service_healthy}\n", "", "rating: does not wait for ['valkey']"),
        ("      rating: {condition: service_healthy}\n    environment:\n      <<: *addresses", "    environment:\n      <<: *addresses", "gateway: does not wait for ['rating']"),
        ("services.rating, fold", "services.rating, folds", "rating-fold: arguments ['folds']"),
        ("[services.catalog]", "[services.catalogue]", "there is no program services.catalogue"),
        ("valkey/valkey:9.0", "valkey/valkey:latest", "is not pinned"),
        ("  read_only: true\n", "", "may write or do more"),
        ("    networks: [back]\n    environment:\n      POSTGRES", '    ports: ["5432:5432"]\n    networks: [back]\n    environment:\n      POSTGRES', "postgres: is published"),
        ("${METERLINE_SERVICE_SECRET:?see .env.example}", "${METERLINE_SERVICE_SECRET:-changeme}", "has a default"),
        ("${METERLINE_SERVICE_SECRET:?see .env.example}", "0123456789abcdef0123456789abcdef", "a secret stands in the file"),
        ("://accounts:${METERLINE_DATABASE_PASSWORD:?see .env.example}@", "://accounts:hunter2@", "a URL with a password"),
        ("@postgres:5432/accounts", "@postgres:5432/account", "nobody makes the database account"),
        ("  rating-fold:", "  folder:", "services:"),
    ],
)  # fmt: skip
def test_what_drifts_is_found(before: str, after: str, told: str):
    text = COMPOSE.read_text()
    assert before in text
    found = "\n".join(drift_of_changed(text.replace(before, after, 1)))
    assert told in found


def drift_of_changed(text: str) -> Iterator[str]:
    """What is wrong with a changed file; a missing service is no reason to stop looking."""
    try:
        yield from drift(text)
    except KeyError as error:
        yield f"missing: {error}"


@pytest.mark.parametrize("name", sorted(MADE_UP))
def test_a_missing_secret_is_told_and_not_replaced(name: str):
    with pytest.raises(MissingVariableError, match=name):
        composed(COMPOSE.read_text(), MADE_UP | {name: ""})


def test_the_commands_of_the_example_make_what_the_code_accepts():
    example = EXAMPLE.read_text()
    made = recipes(example)
    assert made.keys() == {name for name, kind, _ in variables(COMPOSE.read_text()) if kind == ":?"}
    values = {}
    for name, command in made.items():
        run = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
        values[name] = run.stdout.strip()
        assert re.fullmatch(r"[A-Za-z0-9_-]{32,}", values[name]), "long, and safe inside a URL"
    assert read_credential(values["METERLINE_BOOTSTRAP_OPERATOR_KEY"])
    others = set(re.findall(r"^#(\w+)=", example, re.MULTILINE))
    assert others == {name for name, kind, _ in variables(COMPOSE.read_text()) if kind == ":-"}
    assert not re.search(r"^\w+=\S", example, re.MULTILINE), "no secret stands in the example"


def test_the_image_runs_as_nobody_in_particular_from_what_the_sources_make():
    text = DOCKERFILE.read_text()
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert len(stages) == 2
    assert all(re.match(r"python:3\.\d+-slim-bookworm\b", stage) for stage in stages)
    final = stages[-1]
    assert re.search(r"^USER (?!0)\d+:\d+$", final, re.MULTILINE)
    assert not re.search(r"\b(pip|apt-get|gcc)\b", final), "nothing is built or installed in what is delivered"
    assert re.search(r'^ENTRYPOINT \["python", "-P", "-m"\]$', final, re.MULTILINE)
    assert re.search(r'^CMD \["gateway"\]$', final, re.MULTILINE)
    assert importlib.util.find_spec("gateway.__main__")
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in line.split()]
    assert all((ROOT / name).exists() and name not in ignored for name in copied)
    assert ".env" in ignored, "secrets never get into an image"


def test_the_table_of_settings_tells_every_variable_and_its_default():
    rows = re.findall(
        r"^\| `(METERLINE_\w+)` \| .* \| (.+) \|$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE
    )
    told = {name: default.strip("`") for name, default in rows}
    read = {name: value for settings in SETTINGS.values() for name, value in defaults_of(settings).items()}
    assert told == read


def defaults_of(settings: type[BaseSettings]) -> dict[str, str]:
    """The variables that a settings class reads, and their defaults as people write them."""
    said = {
        "METERLINE_BOOTSTRAP_OPERATOR_KEY": "none",
        "METERLINE_SERVICE_SECRET": "required",
        "METERLINE_RATING_STRIPE_API_KEY": "none",
    }
    fields = zip(read_by(settings).items(), settings.model_fields.values(), strict=True)
    return {
        name: said.get(name) or ("required" if required else str(field.default) if field.default != "" else "off")
        for (name, required), field in fields
    }
