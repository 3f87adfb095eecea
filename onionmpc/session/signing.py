"""Exchanges signatures for the receipt when a computation has succeeded, and writes the file.

What is signed is in onionmpc.session.receipt. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping

import msgspec

from onionmpc.errors import OnionMPCError, PeerError, UsageError
from onionmpc.files import write_private
from onionmpc.session.agreement import Agreement, session_id
from onionmpc.session.events import ReceiptWritten, Signing, UserInterface
from onionmpc.session.messages import Signed
from onionmpc.session.own_party import OwnParty
from onionmpc.session.peers import Peers
from onionmpc.session.receipt import SALT_BYTES, Opening, Receipt, Signature, check_signed, encode_receipt, sign
from onionmpc.text import duration


class ReceiptExchange:
    """The exchange of signatures. It begins when all parties are done, so that a failed session leaves none."""

    def __init__(self, own: OwnParty, agreement: Agreement, peers: Peers, ui: UserInterface) -> None:
        self._own = own
        self._agreement = agreement
        self._peers = peers
        self._ui = ui
        self._wait_s = min(own.plan.timings.farewell_s, own.plan.patience_s)

    async def run(self, output: bytes) -> tuple[Receipt, OnionMPCError | None]:
        """Sign, wait for the peers' signatures, and write the receipt.

        Args:
            output: SHA-256 of what our program wrote to its standard output.
        Returns:
            The receipt, and what is wrong with it: a missing signature, or a file that could not be written. Neither
            makes the result invalid, so it is not raised.
        """
        opening = Opening(self._own.number, secrets.token_hex(SALT_BYTES), output.hex())
        receipt = sign(self._own.identity, self._agreement, opening)
        (ours,) = receipt.signatures
        self._ui.tell(Signing())
        self._peers.broadcast(Signed(ours.commitment, ours.signature))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                await self._peers.changes.until(
                    lambda: self._peers.all(lambda peer: peer.session.signed or not peer.counts)
                )
        session = session_id(self._agreement)
        signatures, missing = {ours.party: ours}, dict[int, OnionMPCError]()
        for number in self._peers.numbers:
            try:
                signatures[number] = self._signature_of(number, session)
            except OnionMPCError as error:
                missing[number] = error
        signed = tuple(sorted(signatures))
        receipt = msgspec.structs.replace(receipt, signatures=tuple(signatures[number] for number in signed))
        return receipt, self._write(receipt, signed) or (_not_by_all(missing) if missing else None)

    def _signature_of(self, number: int, session: bytes) -> Signature:
        peer = self._peers[number]
        if peer.session.signed is None:
            why = f"it did not sign within {duration(self._wait_s)}" if peer.counts else "it left without signing"
            raise PeerError(why)
        signature = Signature(number, peer.session.signed.commitment, peer.session.signed.signature)
        check_signed(self._own.roster[number], session, signature)
        return signature

    def _write(self, receipt: Receipt, signed: tuple[int, ...]) -> OnionMPCError | None:
        file = self._own.plan.receipt
        if file is None:
            return None
        try:
            write_private(file, encode_receipt(receipt))
        except UsageError as error:
            return error
        self._ui.tell(ReceiptWritten(str(file), signed, len(self._own.roster)))
        return None


def _not_by_all(missing: Mapping[int, OnionMPCError]) -> OnionMPCError:
    # The class, and so the exit code, of the worst: a wrong signature is worse than a missing one.
    kind = type(max(missing.values(), key=lambda error: error.exit_code))
    words = "; ".join(f"party {number}: {error.message}" for number, error in missing.items())
    return kind(f"the receipt is not signed by all ({words})", hint="the program succeeded, and its output is valid")
