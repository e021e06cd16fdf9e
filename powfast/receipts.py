"""What is said of a charge: to observers, and in the answer, with a challenge for later ones."""

from __future__ import annotations

from powfast.bill import RequestIdentity
from powfast.challenge import Issuer, Receipt
from powfast.http import Headers, prepaid_header, receipt_header
from powfast.observers.base import Observer
from powfast.observers.newcomers import Newcomers
from powfast.stores.base import Charged
from powfast.tariff import EvidenceTariff
from powfast.walks import Purpose, Walks

LOW = 8
"""An answer brings the next challenge where the credit left is below so many of its price."""

PREPAID = 32
"""Base prices that such a challenge is worth."""


class Charges:
    """Tells an observer what is charged, and what newcomers pay.

    Parameters
    ----------
    observer : Observer
        Is told.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer, self._newcomers = observer, Newcomers(observer)

    def tell(self, pool: str, charged: Charged, queries: int) -> None:
        """Tell of one charge; of a newcomer's, the price of its pool as well."""
        said: dict[str, str | float] = {"work": charged.price, "queries": queries}
        if charged.newcomers:
            said |= {"pool": pool, "newcomers": charged.newcomers}
            self._newcomers.pay(pool, charged.newcomers)
        self._observer.event("charged", **said)


class Receipts:
    """Writes the headers of answers that are paid for.

    Parameters
    ----------
    issuer : Issuer
        Signs the challenges.
    tariff : EvidenceTariff
        Says what credit may rise to.
    observer : Observer
        Is told of the challenges.
    walks : Walks
        Says which of them are asked for in walks: what is paid ahead pays for requests.
    """

    def __init__(
        self, issuer: Issuer, tariff: EvidenceTariff, observer: Observer, walks: Walks
    ) -> None:
        self._issuer, self._tariff, self._observer = issuer, tariff, observer
        self._walks = walks

    def of(self, identity: RequestIdentity, receipt: Receipt | None, charged: Charged) -> Headers:
        """Say what was paid and what is left; where that is little, offer to pay ahead."""
        paid = self.released(identity, receipt, charged.balance)
        is_low = charged.balance < LOW * charged.price and not identity.is_shared
        return (*paid, *self.offer(identity, charged)) if is_low else paid

    def released(
        self, identity: RequestIdentity, receipt: Receipt | None, balance: float
    ) -> Headers:
        """Say what was paid and what is left, of a held answer too, whose charge is long ago."""
        work = 0 if receipt is None else receipt.work
        if identity.is_shared:  # what is left is what others have paid
            return (receipt_header(work),)
        return (receipt_header(work, max(0.0, balance)),)

    def offer(self, identity: RequestIdentity, charged: Charged) -> Headers:
        """Offer a challenge for any later request of the account, as far as credit may rise."""
        tariff = self._tariff
        room = int(tariff.credit_limit - max(0.0, charged.balance))
        work = min(tariff.publish(max(PREPAID * tariff.base_work, 2 * charged.price)), room)
        if work < tariff.base_work:
            return ()
        self._observer.event("offered", work=work)
        work, algorithm = self._walks.asked(work, Purpose.REQUEST)
        token = self._issuer.issue(
            work=work, account=identity.account, group=identity.group, algorithm=algorithm
        )
        return (prepaid_header(token),)
