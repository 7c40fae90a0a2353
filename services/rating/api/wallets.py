"""WalletService."""
# ruff: noqa: N802 - methods are named as in the contract

from typing import Any

from google.protobuf.empty_pb2 import Empty

from meterline.rating.v1 import wallets_pb2, wallets_pb2_grpc
from services.common.identity import WRITERS
from services.common.pages import page_request
from services.rating.convert import wallets as convert
from services.rating.convert.balances import money_from_proto
from services.rating.domain.payments import Payment, PaymentMethod
from services.rating.domain.refills import Rule
from services.rating.usecases.auto_refill import AutoRefill
from services.rating.usecases.paying import Cashier
from services.rating.usecases.wallets import METHOD, PAYMENT, RULE, Wallets
from services.runtime.server import current_call
from services.runtime.writes import Write, Writes


class WalletServicer(wallets_pb2_grpc.WalletServiceServicer):
    """Keeps payment methods and rules, and takes payments."""

    def __init__(self, wallets: Wallets, rules: AutoRefill, cashier: Cashier, writes: Writes) -> None:
        self._wallets = wallets
        self._rules = rules
        self._cashier = cashier
        self._writes = writes

    async def _write(self, request: Any, response_type: Any, use_case: Any, answer: Any) -> Any:
        call = current_call()
        return await self._writes.run(call.caller, call.method, request, response_type, use_case, answer)

    def _rule(self, rule: Rule) -> wallets_pb2.AutoRefillRule:
        return convert.rule_to_proto(rule, self._cashier.clock.now_ms())

    async def GetWallet(self, request: wallets_pb2.GetWalletRequest, _: Any) -> wallets_pb2.Wallet:
        """Return a wallet, live."""
        return convert.wallet_to_proto(await self._wallets.wallet(current_call().caller, request.account_id))

    # --- payment methods -----------------------------------------------------------------------------------------

    async def CreatePaymentMethod(
        self, request: wallets_pb2.CreatePaymentMethodRequest, _: Any
    ) -> wallets_pb2.PaymentMethod:
        """Keep a payment method."""
        wanted = convert.method_from_proto(request.payment_method)
        owner = await self._wallets.owner(current_call().caller, "", wanted.account_id)

        async def work(write: Write) -> PaymentMethod:
            return await self._wallets.add_method(write, wanted, owner)

        made: wallets_pb2.PaymentMethod = await self._write(
            request, wallets_pb2.PaymentMethod, work, convert.method_to_proto
        )
        return made

    async def GetPaymentMethod(self, request: wallets_pb2.GetPaymentMethodRequest, _: Any) -> wallets_pb2.PaymentMethod:
        """Return a payment method."""
        caller = current_call().caller
        return convert.method_to_proto(
            await self._wallets.get(caller, PaymentMethod, METHOD, request.payment_method_id)
        )

    async def ListPaymentMethods(
        self, request: wallets_pb2.ListPaymentMethodsRequest, _: Any
    ) -> wallets_pb2.ListPaymentMethodsResponse:
        """List payment methods."""
        page = page_request(request.page_size, request.page_token)
        found = await self._wallets.list(current_call().caller, PaymentMethod, {"account_id": request.account_id}, page)
        return wallets_pb2.ListPaymentMethodsResponse(
            payment_methods=map(convert.method_to_proto, found.rows), next_page_token=found.next_page_token
        )

    async def DeletePaymentMethod(self, request: wallets_pb2.DeletePaymentMethodRequest, _: Any) -> Empty:
        """Forget a payment method."""

        async def work(write: Write) -> None:
            await self._wallets.remove_method(write, request.payment_method_id)

        gone: Empty = await self._write(request, Empty, work, lambda _: Empty())
        return gone

    # --- rules ---------------------------------------------------------------------------------------------------

    async def CreateAutoRefillRule(
        self, request: wallets_pb2.CreateAutoRefillRuleRequest, _: Any
    ) -> wallets_pb2.AutoRefillRule:
        """Make a rule."""
        wanted = convert.rule_from_proto(request.auto_refill_rule)
        owner = await self._wallets.owner(current_call().caller, wanted.endpoint_id, wanted.account_id)

        async def work(write: Write) -> Rule:
            return await self._rules.add(write, wanted, owner)

        made: wallets_pb2.AutoRefillRule = await self._write(request, wallets_pb2.AutoRefillRule, work, self._rule)
        return made

    async def GetAutoRefillRule(
        self, request: wallets_pb2.GetAutoRefillRuleRequest, _: Any
    ) -> wallets_pb2.AutoRefillRule:
        """Return a rule."""
        return self._rule(await self._wallets.get(current_call().caller, Rule, RULE, request.auto_refill_rule_id))

    async def ListAutoRefillRules(
        self, request: wallets_pb2.ListAutoRefillRulesRequest, _: Any
    ) -> wallets_pb2.ListAutoRefillRulesResponse:
        """List rules."""
        page = page_request(request.page_size, request.page_token)
        wanted = {"account_id": request.account_id, "endpoint_id": request.endpoint_id}
        found = await self._wallets.list(current_call().caller, Rule, wanted, page)
        return wallets_pb2.ListAutoRefillRulesResponse(
            auto_refill_rules=map(self._rule, found.rows), next_page_token=found.next_page_token
        )

    async def UpdateAutoRefillRule(
        self, request: wallets_pb2.UpdateAutoRefillRuleRequest, _: Any
    ) -> wallets_pb2.AutoRefillRule:
        """Change a rule."""
        caller = current_call().caller
        changes = convert.changes_from_proto(request.auto_refill_rule, request.update_mask)
        present = await self._wallets.get(caller, Rule, RULE, changes.rule.id)
        of_account = "" if present.endpoint_id else present.account_id
        owner = await self._wallets.owner(caller, present.endpoint_id, of_account)

        async def work(write: Write) -> Rule:
            return await self._rules.change(write, changes, owner)

        changed: wallets_pb2.AutoRefillRule = await self._write(request, wallets_pb2.AutoRefillRule, work, self._rule)
        return changed

    async def DeleteAutoRefillRule(self, request: wallets_pb2.DeleteAutoRefillRuleRequest, _: Any) -> Empty:
        """Delete a rule."""

        async def work(write: Write) -> None:
            await self._rules.remove(write, request.auto_refill_rule_id)

        gone: Empty = await self._write(request, Empty, work, lambda _: Empty())
        return gone

    # --- payments ------------------------------------------------------------------------------------------------

    async def CreatePayment(self, request: wallets_pb2.CreatePaymentRequest, _: Any) -> wallets_pb2.Payment:
        """Pay; a repeat returns the payment as it is by then."""
        caller = current_call().caller
        amount = money_from_proto("amount", request.amount)
        owner = await self._wallets.owner(caller, request.endpoint_id, request.account_id)

        async def work(write: Write) -> Payment:
            method = await self._wallets.method_for(caller, request.payment_method_id, owner, write.connection)
            self._wallets.require_payable(owner, amount)
            return await self._wallets.add_payment(write, owner, method, amount)

        begun: wallets_pb2.Payment = await self._write(request, wallets_pb2.Payment, work, convert.payment_to_proto)
        return convert.payment_to_proto(await self._cashier.settle(begun.id))

    async def GetPayment(self, request: wallets_pb2.GetPaymentRequest, _: Any) -> wallets_pb2.Payment:
        """Return a payment."""
        caller = current_call().caller
        return convert.payment_to_proto(await self._wallets.get(caller, Payment, PAYMENT, request.payment_id))

    async def ListPayments(self, request: wallets_pb2.ListPaymentsRequest, _: Any) -> wallets_pb2.ListPaymentsResponse:
        """List payments."""
        page = page_request(request.page_size, request.page_token)
        wanted = {
            "account_id": request.account_id,
            "rule_id": request.auto_refill_rule_id,
            "state": int(request.state),
        }
        found = await self._wallets.list(current_call().caller, Payment, wanted, page)
        return wallets_pb2.ListPaymentsResponse(
            payments=map(convert.payment_to_proto, found.rows), next_page_token=found.next_page_token
        )

    async def ResolvePayment(self, request: wallets_pb2.ResolvePaymentRequest, _: Any) -> wallets_pb2.Payment:
        """Ask now what became of a payment."""
        caller = current_call().caller
        caller.require_role(*WRITERS)
        payment = await self._wallets.get(caller, Payment, PAYMENT, request.payment_id)
        await self._cashier.hasten(payment)
        return convert.payment_to_proto(await self._cashier.settle(payment.id))
