"""``meterline balances``: what is left of each bucket of volume and money, live."""

import asyncio
from typing import Any

import click
from google.protobuf.json_format import MessageToDict
from rich.console import RenderableType
from rich.table import Table

from cli.client import Connection, Target, failure_of, rating_options
from cli.output import Output, json_option
from meterline.rating.v1.balances_pb2 import Balance, BalanceState, ListBalancesRequest
from meterline.rating.v1.balances_pb2_grpc import BalanceServiceStub
from meterline.type.v1.service_pb2 import Unit
from services.common.errors import MeterlineError
from services.common.money import format_micros

_UNITS = {Unit.UNIT_BYTES: "bytes", Unit.UNIT_MESSAGES: "messages", Unit.UNIT_SECONDS: "seconds"}


@click.command()
@click.option("--endpoint", "endpoint_id", metavar="ep_...", help="Balances of this endpoint.")
@click.option("--account", "account_id", metavar="acc_...", help="Balances of this account's own charging step.")
@rating_options
@json_option
@click.pass_context
def balances(context: click.Context, endpoint_id: str | None, account_id: str | None, target: Target) -> None:
    """Show what is left of each balance, in the order of consumption."""
    if (endpoint_id is None) == (account_id is None):
        raise click.UsageError("give one of --endpoint and --account.")
    request = ListBalancesRequest(endpoint_id=endpoint_id or "", account_id=account_id or "")
    try:
        found = asyncio.run(_balances(request, target))
    except MeterlineError as error:
        raise failure_of(error, target) from error
    data = [MessageToDict(balance, preserving_proto_field_name=True) for balance in found]
    context.ensure_object(Output).result({"balances": data}, lambda: _picture(found))


async def _balances(request: ListBalancesRequest, target: Target) -> list[Balance]:
    async with Connection(target) as connection:
        stub = BalanceServiceStub(connection.channel)
        return list((await connection.call(stub.ListBalances, request)).balances)


def _picture(found: list[Balance]) -> RenderableType:
    if not found:
        return "No balance: nothing was assigned or topped up, or the step is postpaid without a limit."
    table = Table(box=None, padding=(0, 2))
    for name, justify in _COLUMNS.items():
        table.add_column(name, justify=justify)
    for balance in found:
        table.add_row(*_row(balance))
    return table


_COLUMNS: dict[str, Any] = {
    "balance": "left",
    "state": "left",
    "remaining": "right",
    "reserved": "right",
    "granted": "right",
    "unit": "left",
    "ends": "left",
    "assignment": "left",
    "credit used": "right",
    "credit limit": "right",
}


def _row(balance: Balance) -> tuple[str, ...]:
    money = balance.unit == Unit.UNIT_MONEY
    write = format_micros if money else "{:,}".format
    credit = money and (balance.credit_used or balance.credit_limit)
    limit = "none" if balance.credit_limit < 0 else format_micros(balance.credit_limit)
    return (
        balance.id,
        BalanceState.Name(balance.state).removeprefix("BALANCE_STATE_"),
        write(balance.remaining),
        write(balance.reserved),
        write(balance.granted),
        balance.currency if money else _UNITS.get(balance.unit, "?"),
        balance.expire_time.ToJsonString() if balance.HasField("expire_time") else "",
        balance.assignment_id,
        format_micros(balance.credit_used) if credit else "",
        limit if credit else "",
    )
