"""Law 8: rows of the audit are only added."""

from __future__ import annotations

import sqlalchemy as sa

from jobkit import chain
from jobkit.models import audit, audit_head
from jobkit.verify.inspection import Inspection, check


@check(8, "the audit is as it was written, row by row")
def the_chain_holds(it: Inspection) -> None:
    sealed = sa.select(audit).where(audit.c.number.is_not(None)).order_by(audit.c.number)
    found = chain.check(chain.links(it.rows(sealed)))
    it.checked = found.links
    if found.fault:
        it.breach(f"the audit: {found.fault}")
        return
    (head,) = it.rows(sa.select(audit_head))
    if (head.number, head.sha256) != (found.links, found.sha256):
        it.breach(f"the audit ends with row {found.links}, and row {head.number} was the last")


CHECKS = (the_chain_holds,)
