"""The whole API on one page: every root field, and nothing else."""

from functools import partial

import strawberry
from strawberry.schema.config import StrawberryConfig

from graphql_schema import audit, consents, recording_changes, recording_imports, staff
from graphql_schema import consultations as consultation_fields
from graphql_schema import recordings as recording_fields
from graphql_schema.errors import MaskedSchema
from graphql_schema.limits import Limits, limit_extensions
from graphql_schema.root_fields import Uncancelled
from graphql_schema.scalars import BIG_INT, BigInt

_root = partial(strawberry.field, extensions=[Uncancelled()])


@strawberry.type
class Query:
    viewer = _root(staff.viewer, description="The person who asks.")
    consent_text = _root(consents.consent_text, description="The words to show before consent.")
    consultation = _root(consultation_fields.consultation, description="By `id` or by `externalId`.")
    consultations = _root(
        consultation_fields.consultations,
        description="One's own consultations, the newest appointment first.",
    )
    recording = _root(recording_fields.recording, description="A recording of one's own patient's.")
    recordings = _root(recording_fields.recordings, description="One's recordings, newest first.")
    active_rooms = _root(consultation_fields.active_rooms, description="One's rooms that are open now.")
    audit_events = _root(audit.audit_events, description="The audit log, for compliance alone.")
    staff_invitations = _root(
        staff.staff_invitations, description="The newest hundred, newest first, for compliance alone."
    )


@strawberry.type
class Mutation:
    register_consultation = _root(
        consultation_fields.register_consultation, description="Idempotent by external id."
    )
    record_consent = _root(
        consents.record_consent, description="One's own consent, or one that the doctor attests."
    )
    withdraw_consent = _root(consents.withdraw_consent, description="Stops a running recording at once.")
    invite_guest = _root(consultation_fields.invite_guest, description="An interpreter, say.")
    join_consultation = _root(
        consultation_fields.join_consultation, description="A LiveKit token for two hours."
    )
    start_recording = _root(
        recording_fields.start_recording, description="Needs the consent of every participant."
    )
    stop_recording = _root(recording_fields.stop_recording, description="Idempotent.")
    import_recording = _root(
        recording_imports.import_recording,
        description="A recording made elsewhere. Needs the consent of every participant; idempotent while pending.",
    )
    complete_import = _root(
        recording_imports.complete_import, description="After the upload, which is then verified. Idempotent."
    )
    issue_download_url = _root(
        recording_fields.issue_download_url, description="A URL for a few minutes, to whoever holds it."
    )
    process_livekit_webhook = _root(
        recording_fields.process_livekit_webhook, description="The same as POST /webhooks/livekit."
    )
    suspend_staff = _root(staff.suspend_staff, description="For compliance alone.")
    invite_staff = _root(
        staff.invite_staff, description="For compliance alone. Again while it is PENDING sends it again."
    )


@strawberry.type(description="Over WebSocket alone, by graphql-transport-ws.")
class Subscription:
    recording_changed = strawberry.subscription(
        recording_changes.recording_changed,
        description="The consultation's newest recording, if there is one, and then each recording of it that changes.",
    )


def make_schema(*, is_production: bool) -> MaskedSchema:
    """The executable schema; production answers no introspection."""
    return MaskedSchema(
        Query,
        Mutation,
        Subscription,
        config=StrawberryConfig(scalar_map={BigInt: BIG_INT}),
        extensions=limit_extensions(Limits(), allow_introspection=not is_production),
    )
