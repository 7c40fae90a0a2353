"""``meterline balances``: what is left of each bucket of volume and money, live."""

import asyncio

import click
from google.protobuf.json_format import MessageToDict
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

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
    table.add_column("remaining", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("")
    for balance in found:
        table.add_row(*_row(balance))
    return table


def _row(balance: Balance) -> tuple[RenderableType, ...]:
    money = balance.unit == Unit.UNIT_MONEY
    write = format_micros if money else "{:,}".format
    notes = [f"{write(balance.granted)} granted"] if balance.granted else []
    if balance.reserved:
        notes.append(f"{write(balance.reserved)} reserved")
    if balance.credit_used or balance.credit_limit > 0:
        limit = "without limit" if balance.credit_limit < 0 else f"of {format_micros(balance.credit_limit)}"
        notes.append(f"owes {format_micros(balance.credit_used)} {limit}")
    if balance.HasField("expire_time"):
        notes.append(f"ends {balance.expire_time.ToJsonString()}")
    ids = " ".join(filter(None, (balance.id, balance.assignment_id)))
    return (
        write(balance.remaining),
        balance.currency if money else _UNITS.get(balance.unit, "?"),
        BalanceState.Name(balance.state).removeprefix("BALANCE_STATE_"),
        Text("\n".join(filter(None, (", ".join(notes), ids)))),
    )
