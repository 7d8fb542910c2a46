"""How services say that an account cannot pay, which comes with many a status."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["PAY", "cannot_pay"]

PAY = "the account cannot pay: check its balance, quota and bills"

# Codes of an account that cannot pay, whatever the status beside them: those of OpenAI, of gateways
# before such services, and of Alibaba. Letters only, in lower case.
_EMPTY_ACCOUNT = frozenset(
    {"accountoverdue", "allocationquotafreetieronly", "arrearage", "arrears"}
    | {"billinghardlimitreached", "billingnotactive", "commoditynotpurchased"}
    | {"insufficientbalance", "insufficientquota", "insufficientuserquota", "paymentrequired"}
    | {"postpaidbilloverdue", "preconsumetokenquotafailed", "prepaidbilloverdue"}
)
# What a refusal says of an account without any such code, and SiliconFlow's code, which is just a
# number: either counts with a status that fits, or with the other.
_EMPTY_NUMBER = "30001"
_EMPTY_WORDS = re.compile(
    r"balance (?:is )?(?:insufficient|not enough|too low)|insufficient (?:account )?balance"
    r"|余额不足|欠费",
    re.IGNORECASE,
)
_EMPTY_STATUSES = (402, 403, 429)


def cannot_pay(codes: Sequence[str], said: str, status: int | None) -> bool:
    """Return whether this says that the account is empty, not that it is too fast."""
    plain = [re.sub(r"[\W_]", "", code.lower()) for code in codes]
    if any(code.startswith("ratelimit") for code in plain):
        return False
    if not _EMPTY_ACCOUNT.isdisjoint(plain):
        return True
    told = (_EMPTY_NUMBER in codes, bool(_EMPTY_WORDS.search(said)), status in _EMPTY_STATUSES)
    return sum(told) > 1
