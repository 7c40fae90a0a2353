"""Wallets, payment methods, auto-refill rules and payments of the contract."""

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money as MoneyMessage

from meterline.rating.v1 import wallets_pb2
from services.common.clock import SECOND_MS
from services.common.errors import invalid
from services.common.money import MICROS, NANOS_A_MICRO
from services.rating.convert.balances import money_from_proto, timestamp, validity_from_proto
from services.rating.domain.payments import Payment, PaymentMethod
from services.rating.domain.refills import COOL_OFF_DEFAULT_MS, Rule, Source, month_used, state_of
from services.rating.usecases.auto_refill import Changes
from services.rating.usecases.balances import Balance
from services.runtime.limits import is_output_only
from services.runtime.masks import changed_fields, updated_id

NAME = "auto_refill_rule"
FIELDS: Mapping[str, tuple[str, ...]] = {
    "enabled": ("enabled",),
    "threshold": ("threshold_micros", "currency"),
    "threshold_quantity": ("threshold_quantity",),
    "product": ("refill_quantity", "refill_validity_ms", "refill_maximum"),
    "amount": ("amount_micros", "currency"),
    "source": ("source",),
    "payment_method_id": ("method_id",),
    "cool_off": ("cool_off_ms",),
    "monthly_count_max": ("monthly_count_max",),
    "monthly_amount_max": ("monthly_amount_max_micros",),
}
"""Fields of a rule that an update may change, and what they are kept as."""
_RULE_FIELDS = wallets_pb2.AutoRefillRule.DESCRIPTOR.fields_by_name


def money_to_proto(currency: str, micros: int) -> MoneyMessage:
    """Write an amount that is not negative."""
    units, rest = divmod(micros, MICROS)
    return MoneyMessage(currency_code=currency, units=units, nanos=rest * NANOS_A_MICRO)


def wallet_to_proto(balance: Balance) -> wallets_pb2.Wallet:
    """Write a wallet."""
    return wallets_pb2.Wallet(
        account_id=balance.account_id,
        balance_id=balance.id,
        balance=money_to_proto(balance.currency, balance.remaining),
        reserved=money_to_proto(balance.currency, balance.reserved),
    )


def method_from_proto(message: wallets_pb2.PaymentMethod) -> PaymentMethod:
    """Read a new payment method."""
    return PaymentMethod(
        account_id=message.account_id,
        token=message.token,
        customer=message.customer,
        display_name=message.display_name,
    )


def method_to_proto(method: PaymentMethod) -> wallets_pb2.PaymentMethod:
    """Write a payment method."""
    return wallets_pb2.PaymentMethod(
        id=method.id,
        account_id=method.account_id,
        token=method.token,
        customer=method.customer,
        display_name=method.display_name,
        provider=method.provider,
        create_time=timestamp(method.created_ms),
    )


def rule_from_proto(message: wallets_pb2.AutoRefillRule) -> Rule:
    """Read a rule."""
    if bool(message.endpoint_id) == bool(message.account_id) and not message.id:
        raise invalid(f"{NAME}.endpoint_id", "or account_id must be given, one of the two")
    threshold = money_from_proto(f"{NAME}.threshold", message.threshold)
    amount = money_from_proto(f"{NAME}.amount", message.amount)
    most = money_from_proto(f"{NAME}.monthly_amount_max", message.monthly_amount_max)
    stated = {each.currency for each in (threshold, amount, most) if each.currency}
    if len(stated) > 1:
        raise invalid(f"{NAME}.amount", "must be in the currency of the threshold and of monthly_amount_max")
    if most.micros < 0:
        raise invalid(f"{NAME}.monthly_amount_max", "must be more than 0")
    return Rule(
        id=message.id,
        endpoint_id=message.endpoint_id,
        account_id=message.account_id,
        enabled=message.enabled if message.HasField("enabled") else True,
        currency=next(iter(stated), ""),
        threshold_micros=threshold.micros,
        amount_micros=amount.micros,
        balance_id=message.balance_id,
        threshold_quantity=message.threshold_quantity,
        refill_quantity=message.product.quantity,
        refill_validity_ms=validity_from_proto(f"{NAME}.product.validity", message.product),
        refill_maximum=message.product.maximum,
        source=Source(message.source) if message.source else Source.PAYMENT_METHOD,
        method_id=message.payment_method_id,
        cool_off_ms=_milliseconds(message.cool_off) if message.HasField("cool_off") else COOL_OFF_DEFAULT_MS,
        monthly_count_max=message.monthly_count_max,
        monthly_amount_max_micros=most.micros,
    )


def changes_from_proto(message: wallets_pb2.AutoRefillRule, mask: FieldMask) -> Changes:
    """Read an update of a rule."""
    updated_id(message.id, f"{NAME}.id", "arr")
    named = changed_fields(message, NAME, mask, FIELDS, lambda name: is_output_only(_RULE_FIELDS[name]))
    rule = rule_from_proto(message)
    fields = {field for name in named for field in FIELDS[name]}
    if not rule.currency:
        fields.discard("currency")
    return Changes(rule, fields, message.etag)


def rule_to_proto(rule: Rule, now_ms: int) -> wallets_pb2.AutoRefillRule:
    """Write a rule as it stands now."""
    count, micros = month_used(rule, now_ms)
    most = rule.monthly_amount_max_micros
    return wallets_pb2.AutoRefillRule(
        id=rule.id,
        endpoint_id=rule.endpoint_id,
        account_id=rule.account_id,
        enabled=rule.enabled,
        threshold=money_to_proto(rule.currency, rule.threshold_micros) if rule.threshold_micros else None,
        balance_id=rule.balance_id,
        threshold_quantity=rule.threshold_quantity,
        product=_product(rule),
        amount=money_to_proto(rule.currency, rule.amount_micros),
        source=int(rule.source),  # type: ignore[arg-type] # the same numbers
        payment_method_id=rule.method_id,
        cool_off=_duration(rule.cool_off_ms),
        monthly_count_max=rule.monthly_count_max,
        monthly_amount_max=money_to_proto(rule.currency, most) if most else None,
        state=int(state_of(rule, now_ms)),  # type: ignore[arg-type] # the same numbers
        retry_time=timestamp(rule.not_before_ms) if rule.not_before_ms > now_ms else None,
        declines=rule.declines,
        stop_reason=rule.stop_reason,
        month_count=count,
        month_amount=money_to_proto(rule.currency, micros),
        last_payment_id=rule.last_payment_id,
        last_attempt_time=timestamp(rule.last_attempt_ms),
        create_time=timestamp(rule.created_ms),
        update_time=timestamp(rule.updated_ms),
        etag=str(rule.version),
    )


def payment_to_proto(payment: Payment) -> wallets_pb2.Payment:
    """Write a payment."""
    return wallets_pb2.Payment(
        id=payment.id,
        account_id=payment.account_id,
        endpoint_id=payment.endpoint_id,
        auto_refill_rule_id=payment.rule_id,
        payment_method_id=payment.method_id,
        amount=money_to_proto(payment.currency, payment.amount_micros),
        state=int(payment.state),  # type: ignore[arg-type] # the same numbers
        provider_reference=payment.reference,
        decline_code=payment.decline_code,
        detail=payment.detail,
        attempts=payment.attempts,
        next_attempt_time=timestamp(payment.next_ms),
        create_time=timestamp(payment.created_ms),
        update_time=timestamp(payment.updated_ms),
        balance_id=payment.balance_id,
        product=_product(payment),
        redirected_from=payment.redirected_from,
    )


def _product(of: Rule | Payment) -> wallets_pb2.RefillProduct | None:
    if not of.refill_quantity:
        return None
    validity = _duration(of.refill_validity_ms) if of.refill_validity_ms else None
    return wallets_pb2.RefillProduct(quantity=of.refill_quantity, validity=validity, maximum=of.refill_maximum)


def _milliseconds(duration: Duration) -> int:
    if duration.nanos % 1_000_000:
        raise invalid(f"{NAME}.cool_off", "must be whole milliseconds")
    return duration.seconds * SECOND_MS + duration.nanos // 1_000_000


def _duration(milliseconds: int) -> Duration:
    seconds, rest = divmod(milliseconds, SECOND_MS)
    return Duration(seconds=seconds, nanos=rest * 1_000_000)
