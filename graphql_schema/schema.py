"""The whole API on one page: every root field, and nothing else."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from app.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from graphql_schema import audit, consents, staff
from graphql_schema import consultations as consultation_fields
from graphql_schema import recordings as recording_fields
from graphql_schema.errors import MaskedSchema
from graphql_schema.limits import Limits, limit_extensions
from graphql_schema.scalars import BIG_INT, BigInt


@strawberry.type
class Query:
    viewer = strawberry.field(staff.viewer, description="The person who asks.")
    consent_text = strawberry.field(consents.consent_text, description="The words to show before consent.")
    consultation = strawberry.field(
        consultation_fields.consultation, description="By `id` or by `externalId`."
    )
    consultations = strawberry.field(
        consultation_fields.consultations,
        description="One's own consultations, the newest appointment first.",
    )
    recording = strawberry.field(
        recording_fields.recording, description="A recording of one's own patient's."
    )
    recordings = strawberry.field(recording_fields.recordings, description="One's recordings, newest first.")
    active_rooms = strawberry.field(
        consultation_fields.active_rooms, description="One's rooms that are open now."
    )
    audit_events = strawberry.field(audit.audit_events, description="The audit log, for compliance alone.")


@strawberry.type
class Mutation:
    register_consultation = strawberry.mutation(
        consultation_fields.register_consultation, description="Idempotent by external id."
    )
    record_consent = strawberry.mutation(
        consents.record_consent, description="One's own consent, or one that the doctor attests."
    )
    withdraw_consent = strawberry.mutation(
        consents.withdraw_consent, description="Stops a running recording at once."
    )
    invite_guest = strawberry.mutation(consultation_fields.invite_guest, description="An interpreter, say.")
    join_consultation = strawberry.mutation(
        consultation_fields.join_consultation, description="A LiveKit token for two hours."
    )
    start_recording = strawberry.mutation(
        recording_fields.start_recording, description="Needs the consent of every participant."
    )
    stop_recording = strawberry.mutation(recording_fields.stop_recording, description="Idempotent.")
    issue_download_url = strawberry.mutation(
        recording_fields.issue_download_url, description="A URL for a few minutes, to whoever holds it."
    )
    process_livekit_webhook = strawberry.mutation(
        recording_fields.process_livekit_webhook, description="The same as POST /webhooks/livekit."
    )
    suspend_staff = strawberry.mutation(staff.suspend_staff, description="For compliance alone.")


def make_schema(*, is_production: bool) -> MaskedSchema:
    """The executable schema; production answers no introspection."""
    limits = Limits(default_page_size=DEFAULT_PAGE_SIZE, max_page_size=MAX_PAGE_SIZE)
    return MaskedSchema(
        Query,
        Mutation,
        config=StrawberryConfig(scalar_map={BigInt: BIG_INT}),
        extensions=limit_extensions(limits, allow_introspection=not is_production),
    )
