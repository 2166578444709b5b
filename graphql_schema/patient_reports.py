"""GraphQL types and root fields of a patient's reports: who looked at the record, and what was recorded."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Self, TypeVar

import strawberry

from app.patient_reports import model
from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from app.texts import Language
from app.texts import patient_reports as texts
from graphql_schema.connections import Connection, Edge, PageInfo
from graphql_schema.context import Info
from graphql_schema.deletions import DeletionCertificate
from graphql_schema.nodes import Node
from graphql_schema.references import ConsultationBy
from graphql_schema.scalars import parse_optional_id, to_id
from graphql_schema.selected_fields import select

_Entry = TypeVar("_Entry")
_Shown = TypeVar("_Shown")
_TimeZone = Annotated[
    str,
    strawberry.argument(description="The texts say times in this time zone, such as `America/New_York`."),
]


@strawberry.input
class _ReportFilter:
    consultation: ConsultationBy | None = strawberry.field(
        default=None, description="The report is about this consultation of the calling patient."
    )
    access_request_id: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "The report is about the patient and the consultation of this approved access request. A compliance "
            "officer must give it, and reads the report for the person who filed the request."
        ),
    )

    def to_model(self, time_zone: str) -> model.ReportRequest:
        return model.ReportRequest(
            access_request_id=parse_optional_id(self.access_request_id),
            consultation=self.consultation.to_model() if self.consultation else None,
            time_zone=time_zone,
        )


@strawberry.input(
    description=(
        "This names the consultation or the access request that the access entries are about. If both fields are "
        "omitted, the entries are about the calling patient. At most one field can be given."
    )
)
class AccessEntryFilter(_ReportFilter):
    pass


@strawberry.input(
    description=(
        "This names the consultation or the access request that the recording summaries are about. If both fields are "
        "omitted, the summaries are about the calling patient. At most one field can be given."
    )
)
class RecordingSummaryFilter(_ReportFilter):
    pass


@strawberry.type(
    description=(
        "An access entry says that somebody looked at a patient's record, or was refused. It has no network "
        "address. The patient may read it, and a compliance officer may read it for the person who filed an "
        "approved access request."
    )
)
class AccessEntry(Node):
    id: strawberry.ID = strawberry.field(
        description="This is the id of the entry, which is also the id of the event in the audit log."
    )
    recorded_at: datetime = strawberry.field(description="This is when the person looked or was refused.")
    when: str = strawberry.field(
        description="This says the time in words, in the time zone of the report, in the reader's language."
    )
    who: str = strawberry.field(
        description=(
            "This says in words who it was: the role of the person, or their name with the role if the practice "
            "chooses so and has published the name."
        )
    )
    relation: model.Relation = strawberry.field(
        description="This is the relation of the person to the patient."
    )
    text: str = strawberry.field(
        description="This sentence says in plain words what happened, in the reader's language."
    )
    why: str | None = strawberry.field(
        description=(
            "This says in words the purpose of the access, and the basis of the person's right to it. It is null if "
            "the person was refused."
        )
    )
    is_refused: bool = strawberry.field(
        description="This says whether the person was refused and saw nothing."
    )
    refusal: str | None = strawberry.field(
        description="This says in words why the person was refused. It is null if the person was not refused."
    )
    consultation_ids: list[strawberry.ID] = strawberry.field(
        description="These are the ids of the patient's consultations that the entry is about."
    )

    @classmethod
    def of(cls, look: model.Look, time_zone: str, language: Language) -> Self:
        who = texts.describe_person(look.relation.value, look.actor_name, language)
        return cls(
            id=to_id(look.id),
            recorded_at=look.recorded_at,
            when=texts.write_moment(look.local_at, time_zone, language),
            who=who,
            relation=look.relation,
            text=texts.describe_look(who, look.action, look.outcome, language),
            why=None if look.is_refused else texts.describe_grounds(look.purpose, look.basis, language),
            is_refused=look.is_refused,
            refusal=texts.describe_refusal(look.reason, language) if look.is_refused else None,
            consultation_ids=[to_id(one) for one in look.consultation_ids],
        )


@strawberry.type(
    description=(
        "This is a video that was recorded of a patient, whether it still exists or not. The patient may read it, and "
        "a compliance officer may read it for the person who filed an approved access request."
    )
)
class RecordingSummary(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the recording.")
    consultation_id: strawberry.ID = strawberry.field(
        description="This is the id of the consultation that was recorded."
    )
    recorded_at: datetime = strawberry.field(description="This is when the recording began.")
    when: str = strawberry.field(
        description="This says in words when it began, in the time zone of the report, in the reader's language."
    )
    doctor: str = strawberry.field(
        description=(
            "This says in words who the doctor was: `Your doctor`, or their name if the practice chooses so and has "
            "published the name."
        )
    )
    duration_seconds: float | None = strawberry.field(
        description="This is the duration of the recording. It is null until the recording has ended."
    )
    fate: model.RecordingFate = strawberry.field(description="This says what happened to the recording.")
    text: str = strawberry.field(
        description=(
            "This says in plain words what happened to the recording and until when the practice keeps it, in the "
            "reader's language."
        )
    )
    kept_until: datetime | None = strawberry.field(
        description=(
            "This is the end of the retention term, exclusive. The practice may have to keep the recording longer. It "
            "is null if the recording is destroyed, or no term has begun."
        )
    )
    destroyed_at: datetime | None = strawberry.field(
        description="This is when the recording was destroyed. It is null before that."
    )
    certificate: DeletionCertificate | None = strawberry.field(
        description="This is the newest certificate of the destruction. It is null before the destruction is proven."
    )

    @classmethod
    def of(cls, recording: model.ReportedRecording, time_zone: str, language: Language) -> Self:
        is_destroyed = recording.fate is model.RecordingFate.DESTROYED
        certificate = recording.certificate
        return cls(
            id=to_id(recording.id),
            consultation_id=to_id(recording.consultation_id),
            recorded_at=recording.recorded_at,
            when=texts.write_moment(recording.local_at, time_zone, language),
            doctor=texts.describe_person(model.Relation.DOCTOR.value, recording.doctor_name, language),
            duration_seconds=recording.duration_seconds,
            fate=recording.fate,
            text=texts.describe_recording(
                recording.text_key,
                recording.destroyed_day if is_destroyed else recording.kept_until_day,
                language,
            ),
            kept_until=recording.kept_until,
            destroyed_at=recording.destroyed_at,
            certificate=None
            if certificate is None
            else DeletionCertificate(
                number=certificate.number, sha256=certificate.sha256, json=certificate.document
            ),
        )


async def access_entries(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: AccessEntryFilter | None = None,
    time_zone: _TimeZone = "UTC",
) -> Connection[AccessEntry] | None:
    """List who looked at the calling patient's record, or at the record of the patient of an access request."""
    page = await info.context.services.patient_reports.list_looks(
        await info.context.asker(),
        page_request(first, after),
        (filter or AccessEntryFilter()).to_model(time_zone),
        select(info, "edges", "node").paths,
    )
    language = info.context.language
    return _connection(
        page,
        lambda look: AccessEntry.of(look, time_zone, language),
        lambda look: Cursor(look.recorded_at, look.id),
    )


async def recording_summaries(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: RecordingSummaryFilter | None = None,
    time_zone: _TimeZone = "UTC",
) -> Connection[RecordingSummary] | None:
    """List what was recorded of the calling patient, or of the patient of an access request."""
    page = await info.context.services.patient_reports.list_recordings(
        await info.context.asker(),
        page_request(first, after),
        (filter or RecordingSummaryFilter()).to_model(time_zone),
        select(info, "edges", "node").paths,
    )
    language = info.context.language
    return _connection(
        page,
        lambda one: RecordingSummary.of(one, time_zone, language),
        lambda one: Cursor(one.created_at, one.id),
    )


def _connection(
    page: model.ReportPage[_Entry], to_node: Callable[[_Entry], _Shown], place: Callable[[_Entry], Cursor]
) -> Connection[_Shown]:
    """Return a page of a report. Its end cursor is the place where the next page begins, even on a page without any
    entry.
    """
    edges = [Edge(node=to_node(entry), cursor=place(entry).encode()) for entry in page.entries]
    return Connection(
        edges=edges,
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=False,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=page.ends_at.encode() if page.ends_at else None,
        ),
    )
