"""``meterline explain CHARGE``: which plan, tariff, zone, rounding and buckets made a charge what it is."""

import asyncio

import click
from google.protobuf.json_format import MessageToDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.charge.summary import level_name
from cli.client import Connection, Target, failure_of, rating_options
from cli.output import Output, json_option
from meterline.rating.v1.charges_pb2 import ChargeExplanation, GetChargeRequest
from meterline.rating.v1.charges_pb2_grpc import UsageServiceStub
from meterline.type.v1.service_pb2 import Service
from services.common.errors import MeterlineError
from services.common.money import format_micros


@click.command()
@click.argument("charge_id", metavar="CHARGE")
@rating_options
@json_option
@click.pass_context
def explain(context: click.Context, charge_id: str, target: Target) -> None:
    """Show how a CHARGE (chg_...) came about."""
    try:
        explanation = asyncio.run(_explain(charge_id, target))
    except MeterlineError as error:
        raise failure_of(error, target) from error
    data = MessageToDict(explanation, preserving_proto_field_name=True)
    context.ensure_object(Output).result(data, lambda: _picture(explanation))


async def _explain(charge_id: str, target: Target) -> ChargeExplanation:
    async with Connection(target) as connection:
        stub = UsageServiceStub(connection.channel)
        return await connection.call(stub.ExplainCharge, GetChargeRequest(charge_id=charge_id))


def _picture(explanation: ChargeExplanation) -> RenderableType:
    charge = explanation.charge
    table = Table(box=None, show_header=False, padding=(0, 2))
    rows = {
        "charge": charge.id,
        "usage record": charge.usage_record_id,
        "step": f"{charge.step}, {level_name(charge.step)}: {charge.payer_id} pays {charge.payee_id}",
        "used": f"{Service.Name(charge.service).removeprefix('SERVICE_')} on {charge.network_id}"
        f" by {charge.endpoint_id}, {charge.usage_time.ToJsonString()}",
        "volume": f"{charge.quantity:,}: {charge.benefit_quantity:,} by benefits,"
        f" {charge.rated_quantity:,} by tariff, {charge.uncovered_quantity:,} by nothing",
        "amount": f"{format_micros(charge.amount_micros)} {charge.currency}",
        "plan": _versioned(explanation.plan_id, explanation.plan_version),
        "tariff": _versioned(explanation.tariff_id, explanation.tariff_version),
        "rate": " ".join(filter(None, (explanation.rate_id, explanation.rate_zone_id))),
        "rounded": f"{explanation.rounded_quantity:,}" if explanation.tariff_id else "",
        "program": explanation.program_id,
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value))
    for draw in explanation.draws:
        activated = ", activated by it" if draw.activated else ""
        table.add_row("drawn", f"{draw.quantity:,} from {draw.balance_id} of {draw.assignment_id}{activated}")
    return Group(table, "", *(Text(f"- {sentence}") for sentence in explanation.sentences))


def _versioned(object_id: str, version: int) -> str:
    return f"{object_id}, version {version}" if object_id else ""
