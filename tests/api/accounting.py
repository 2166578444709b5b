"""Helpers for tests of accountings of disclosures."""

from uuid import UUID

from tests.api.harness import ApiHarness, Case

_REQUEST = """
  id patient { id } status earliestDate latestDate receivedOn dueOn isOverdue isFree extension { reason extendedAt }
  issuedBy { id } issuedAt entryCount sha256 createdAt
"""
ACCOUNTING_REQUESTS = f"""
query ($first: Int, $after: String, $filter: AccountingRequestFilter) {{
  accountingRequests(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_REQUEST} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
REQUEST_ACCOUNTING = f"""
mutation ($wish: RequestAccountingInput!) {{
  requestAccounting(input: $wish) {{ accountingRequest {{ {_REQUEST} }} }}
}}
"""
RECORD_ACCOUNTING = f"""
mutation ($written: RecordAccountingRequestInput!) {{
  recordAccountingRequest(input: $written) {{ accountingRequest {{ {_REQUEST} }} }}
}}
"""
WITHDRAW_ACCOUNTING = f"""
mutation ($accountingId: ID!) {{
  withdrawAccountingRequest(input: {{accountingRequestId: $accountingId}}) {{ accountingRequest {{ {_REQUEST} }} }}
}}
"""
EXTEND_ACCOUNTING = f"""
mutation ($accountingId: ID!, $days: Int! = 30) {{
  extendAccountingRequest(input: {{accountingRequestId: $accountingId, reason: VOLUME, days: $days}}) {{
    accountingRequest {{ {_REQUEST} }}
  }}
}}
"""
ISSUE_ACCOUNTING = f"""
mutation ($accountingId: ID!) {{
  fulfillAccountingRequest(input: {{accountingRequestId: $accountingId}}) {{
    accountingRequest {{ {_REQUEST} }} accounting {{ json csv pdfBase64 }}
  }}
}}
"""


async def insert_accounting_request(harness: ApiHarness, case: Case) -> UUID:
    """Return the id of an OPEN request that the helper inserts with SQL."""
    (row,) = await harness.rows(
        "insert into resguardo.accounting_requests"
        " (patient_id, channel, filed_by, received_on, due_on, earliest_date, latest_date, is_free)"
        " select %s, 'LOGIN', %s, t.day, t.day + 60, t.day - 365, t.day, true"
        " from (select private.today()) as t (day) returning id",
        UUID(case.patient_id),
        case.patient.user_id,
    )
    return UUID(str(row["id"]))
