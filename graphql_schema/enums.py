"""The enums of the schema, with a description of each value.

The values are those of the application's enums, so that the schema, the application and the database name the same
values. A new value without a description raises ValueError when this module is imported.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

import strawberry

from app.access_requests import model as access_requests
from app.access_reviews import model as access_reviews
from app.accountings import model as accountings
from app.alerts import model as alerts
from app.amendments import model as amendments
from app.attestations import model as attestations
from app.audit import model as audit
from app.audit_exports import model as audit_exports
from app.breaches import model as breaches
from app.clips import model as clips
from app.consents import model as consents
from app.consultations import model as consultations
from app.costs import model as costs
from app.deletions import model as deletions
from app.disclosures import model as disclosures
from app.disclosures import released_copies
from app.emergency_access.model import EmergencyReason
from app.fetches import model as fetches
from app.insights import drafts
from app.insights import model as insights
from app.insights.asking.service import AnswerStatus
from app.insights.writing import coverage
from app.notes import model as notes
from app.officer_proposals import model as officer_proposals
from app.outgoing_webhooks import model as outgoing_webhooks
from app.patient_reports import model as patient_reports
from app.recording_imports import model as recording_imports
from app.recordings import model as recordings
from app.recordings.blockers import BlockerReason
from app.recordings.service import PurposeOfUse
from app.retention import model as retention
from app.review import model as review
from app.session_notes.model import NoteKind
from app.shares.model import ShareEndReason, SharePurpose
from app.staff import model as staff
from app.texts.alerts import load_alert_texts
from app.thumbnails import model as thumbnails
from app.transcripts import model as transcripts
from app.vendor_agreements import model as vendor_agreements

_Member = TypeVar("_Member", bound=Enum)


def describe_enum(
    kind: type[_Member], values: Mapping[_Member, str], *, description: str, name: str | None = None
) -> None:
    """Make an enum of the application a GraphQL enum. Raises ValueError if a value has no description."""
    missing = [member.name for member in kind if member not in values]
    if missing:
        raise ValueError(f"{kind.__name__} has values without a description: {', '.join(missing)}")
    described: Any = strawberry.enum(kind, name=name, description=description)
    by_name = {member.name: text for member, text in values.items()}
    for value in described.__strawberry_definition__.values:
        value.description = by_name[value.name]


describe_enum(
    accountings.AccountingRequestStatus,
    description="This is the status of a request for an accounting of disclosures.",
    values={
        accountings.AccountingRequestStatus.OPEN: "The practice has not issued the accounting yet.",
        accountings.AccountingRequestStatus.FULFILLED: "The practice has issued the accounting.",
        accountings.AccountingRequestStatus.WITHDRAWN: "The patient has withdrawn the request.",
    },
)
describe_enum(
    amendments.AmendmentStatus,
    description="This is the status of a request for an amendment.",
    values={
        amendments.AmendmentStatus.OPEN: "The practice has not decided yet.",
        amendments.AmendmentStatus.ACCEPTED: "The practice has added the amendment to the record.",
        amendments.AmendmentStatus.DENIED: "The practice has denied the amendment.",
    },
)
describe_enum(
    amendments.AmendmentPart,
    description="This is the part of the record that a patient asks to amend.",
    values={
        amendments.AmendmentPart.TRANSCRIPT: "The patient asks to amend the transcript of a recording.",
        amendments.AmendmentPart.INSIGHTS: "The patient asks to amend the insights of a recording.",
        amendments.AmendmentPart.SIGNED_NOTE: "The patient asks to amend the signed note of a recording.",
        amendments.AmendmentPart.RECORD: "The patient asks to amend the record of the consultation.",
    },
)
describe_enum(
    amendments.AmendmentDenialGround,
    description="This is a ground on which the practice may deny an amendment (45 CFR 164.526(a)(2)).",
    values={
        amendments.AmendmentDenialGround.NOT_CREATED_BY_US: "Somebody else created the information.",
        amendments.AmendmentDenialGround.NOT_IN_RECORD_SET: "The information is not in the designated record set.",
        amendments.AmendmentDenialGround.NOT_ACCESSIBLE: (
            "The patient has no right of access to the information (45 CFR 164.524)."
        ),
        amendments.AmendmentDenialGround.ACCURATE_AND_COMPLETE: "The information is accurate and complete.",
    },
)
describe_enum(
    amendments.AmendmentStatementKind,
    description="The kind says what a statement of an amendment is.",
    values={
        amendments.AmendmentStatementKind.REQUEST: "The statement is the patient's request.",
        amendments.AmendmentStatementKind.AMENDMENT: "The practice adds this text to the record.",
        amendments.AmendmentStatementKind.DENIAL: "The practice explains the denial.",
        amendments.AmendmentStatementKind.DISAGREEMENT: "The patient disagrees with the denial.",
        amendments.AmendmentStatementKind.REBUTTAL: "The practice answers the statement of disagreement.",
    },
)
describe_enum(
    released_copies.ReleasedCopyKind,
    description="The kind says how information left the system.",
    values={
        released_copies.ReleasedCopyKind.DOWNLOAD: "A doctor received a download URL of a recording or of a clip.",
        released_copies.ReleasedCopyKind.SUBTITLES: "A doctor received the links to the subtitles of a recording.",
        released_copies.ReleasedCopyKind.NOTE_PDF: "A doctor received the PDF of a signed note.",
        released_copies.ReleasedCopyKind.ACCESS_COPY: (
            "The worker made the copy for an access request, or the patient received a URL of it."
        ),
        released_copies.ReleasedCopyKind.AUDIT_EXPORT: "An officer received a URL of an export of the audit log.",
        released_copies.ReleasedCopyKind.ACCOUNTING: "An officer received an accounting for the patient.",
        released_copies.ReleasedCopyKind.DISCLOSURE: "An officer recorded a disclosure.",
        released_copies.ReleasedCopyKind.SPEECH_SERVICE: (
            "The worker gave sound to the speech service, which may run on the practice's own machine."
        ),
        released_copies.ReleasedCopyKind.LANGUAGE_SERVICE: (
            "Text went to the language service, which may run on the practice's own machine."
        ),
    },
)
describe_enum(
    disclosures.DisclosurePurpose,
    description=(
        "The purpose says why information was disclosed. An accounting contains the disclosures for the first fourteen "
        "purposes."
    ),
    values={
        disclosures.DisclosurePurpose.REQUIRED_BY_LAW: ("A law required the disclosure (45 CFR 164.512(a))."),
        disclosures.DisclosurePurpose.PUBLIC_HEALTH: (
            "The disclosure served public health, such as the report of a disease to a health department "
            "(45 CFR 164.512(b))."
        ),
        disclosures.DisclosurePurpose.ABUSE_REPORT: (
            "The disclosure reported abuse, neglect or domestic violence to an authority (45 CFR 164.512(c))."
        ),
        disclosures.DisclosurePurpose.HEALTH_OVERSIGHT: (
            "A health oversight agency needed the information, for example for an audit or an inspection "
            "(45 CFR 164.512(d))."
        ),
        disclosures.DisclosurePurpose.JUDICIAL: (
            "A court order, a subpoena or another lawful process in a judicial or administrative proceeding "
            "asked for the information (45 CFR 164.512(e))."
        ),
        disclosures.DisclosurePurpose.LAW_ENFORCEMENT: (
            "A law enforcement official asked for the information for a purpose that the law permits (45 "
            "CFR 164.512(f))."
        ),
        disclosures.DisclosurePurpose.DECEDENT: (
            "A coroner, a medical examiner or a funeral director needed the information (45 CFR 164.512(g))."
        ),
        disclosures.DisclosurePurpose.ORGAN_DONATION: (
            "The disclosure served the donation of an organ, an eye or tissue (45 CFR 164.512(h))."
        ),
        disclosures.DisclosurePurpose.RESEARCH: (
            "The disclosure served research that a board had approved without the patients' authorization "
            "(45 CFR 164.512(i))."
        ),
        disclosures.DisclosurePurpose.SERIOUS_THREAT: (
            "The disclosure was to prevent or lessen a serious threat to health or safety (45 CFR 164.512(j))."
        ),
        disclosures.DisclosurePurpose.GOVERNMENT_FUNCTION: (
            "The disclosure served a specialized government function, such as the armed forces or a public "
            "benefit program (45 CFR 164.512(k))."
        ),
        disclosures.DisclosurePurpose.WORKERS_COMPENSATION: (
            "The law on workers' compensation permitted the disclosure (45 CFR 164.512(l))."
        ),
        disclosures.DisclosurePurpose.HHS_INVESTIGATION: (
            "The Secretary of Health and Human Services needed the information to investigate or review "
            "compliance (45 CFR 164.502(a)(2)(ii))."
        ),
        disclosures.DisclosurePurpose.NOT_PERMITTED: (
            "The Privacy Rule did not permit the disclosure, for example because it was made by mistake."
        ),
        disclosures.DisclosurePurpose.TREATMENT: (
            "The disclosure served the patient's treatment (45 CFR 164.506)."
        ),
        disclosures.DisclosurePurpose.PAYMENT: (
            "The disclosure served the payment for care (45 CFR 164.506)."
        ),
        disclosures.DisclosurePurpose.OPERATIONS: (
            "The disclosure served the operations of the practice (45 CFR 164.506)."
        ),
        disclosures.DisclosurePurpose.PATIENT_REQUEST: (
            "The patient, or the patient's representative, received the information (45 CFR 164.502)."
        ),
        disclosures.DisclosurePurpose.AUTHORIZATION: (
            "The patient authorized the disclosure in writing (45 CFR 164.508)."
        ),
        disclosures.DisclosurePurpose.INVOLVED_IN_CARE: (
            "The information went to a person involved in the patient's care, or to a directory (45 CFR 164.510)."
        ),
        disclosures.DisclosurePurpose.INCIDENTAL: (
            "The disclosure was incident to a permitted use or disclosure (45 CFR 164.502(a)(1)(iii))."
        ),
        disclosures.DisclosurePurpose.NATIONAL_SECURITY: (
            "The disclosure served national security or intelligence (45 CFR 164.512(k)(2))."
        ),
        disclosures.DisclosurePurpose.CORRECTIONAL: (
            "The information went to a correctional institution or to an official who had the patient in "
            "custody (45 CFR 164.512(k)(5))."
        ),
        disclosures.DisclosurePurpose.LIMITED_DATA_SET: (
            "The information was part of a limited data set (45 CFR 164.514(e))."
        ),
    },
)
describe_enum(
    disclosures.SuspendingAgency,
    description="This is the kind of agency that asks for a suspension.",
    values={
        disclosures.SuspendingAgency.HEALTH_OVERSIGHT: (
            "A health oversight agency (45 CFR 164.512(d)) asked for the suspension."
        ),
        disclosures.SuspendingAgency.LAW_ENFORCEMENT: (
            "A law enforcement official (45 CFR 164.512(f)) asked for the suspension."
        ),
    },
)
describe_enum(
    costs.CostGrouping,
    description="The grouping says for what a cost report has a group each.",
    values={
        costs.CostGrouping.MONTH: "The report has a group for each calendar month (UTC).",
        costs.CostGrouping.DOCTOR: "The report has a group for each doctor.",
        costs.CostGrouping.VENDOR: "The report has a group for each vendor and each of its models.",
    },
)
describe_enum(
    patient_reports.Relation,
    name="ReportRelation",
    description="This is the relation between a patient and a person who looked at the patient's record.",
    values={
        patient_reports.Relation.SELF: "The patient's own login did it.",
        patient_reports.Relation.DOCTOR: "The doctor of one of the consultations did it.",
        patient_reports.Relation.CLINICIAN: "Another clinician of the practice did it.",
        patient_reports.Relation.COMPLIANCE: "A compliance officer of the practice did it.",
        patient_reports.Relation.OTHER_PATIENT: "The login of another patient did it.",
        patient_reports.Relation.SYSTEM: "The recording system itself did it.",
        patient_reports.Relation.OTHER: "An operator of the practice's systems did it.",
    },
)
describe_enum(
    patient_reports.RecordingFate,
    description="The fate says what happened to a recording of the patient.",
    values={
        patient_reports.RecordingFate.IN_PROGRESS: "It is being recorded or stored.",
        patient_reports.RecordingFate.KEPT: "The practice keeps the recording.",
        patient_reports.RecordingFate.FAILED: "The recording failed.",
        patient_reports.RecordingFate.LOST: "The file of the recording is missing in the bucket.",
        patient_reports.RecordingFate.DESTROYED: "The recording is destroyed.",
    },
)
describe_enum(
    consents.Decision,
    name="ConsentDecision",
    description="The decision says whether a statement of a participant gives or withdraws consent.",
    values={
        consents.Decision.GIVEN: "The participant consents to being recorded.",
        consents.Decision.WITHDRAWN: "The participant withdraws an earlier consent.",
    },
)
describe_enum(
    consents.Source,
    name="ConsentSource",
    description="The source says who made a statement of consent in the application.",
    values={
        consents.Source.SELF: "The participant made the statement with their own login.",
        consents.Source.ATTESTED: "The doctor attests that the participant made the statement.",
    },
)
describe_enum(
    consents.Relationship,
    name="RepresentativeRelationship",
    description="This is the relationship that entitles a representative to act for a participant.",
    values={
        consents.Relationship.PARENT: "The representative is a parent of the participant.",
        consents.Relationship.LEGAL_GUARDIAN: "The representative is the participant's legal guardian.",
        consents.Relationship.HEALTH_CARE_PROXY: "The representative holds a health care proxy.",
        consents.Relationship.POWER_OF_ATTORNEY: "The representative holds a power of attorney.",
        consents.Relationship.OTHER: "The representative acts on a different legal basis.",
    },
)
describe_enum(
    consultations.AccessBasis,
    description="The basis says why the caller may read a consultation.",
    values={
        consultations.AccessBasis.TREATING_CLINICIAN: "The caller is the doctor of the consultation.",
        consultations.AccessBasis.SHARED: "The doctor of the consultation shares it with the caller.",
        consultations.AccessBasis.EMERGENCY: "The caller has an emergency access to the patient.",
        consultations.AccessBasis.COMPLIANCE_REVIEW: "The caller is a compliance officer.",
        consultations.AccessBasis.SELF: "The caller is the patient of the consultation.",
    },
)
describe_enum(
    SharePurpose,
    description="The purpose says why a doctor shares a consultation.",
    values={
        SharePurpose.CARE_TEAM: "The colleague is a member of the care team.",
        SharePurpose.COVERAGE: "The colleague stands in for the doctor.",
        SharePurpose.SECOND_OPINION: "The doctor wants a second opinion of the colleague.",
        SharePurpose.REFERRAL: "The patient is referred to the colleague.",
    },
)
describe_enum(
    ShareEndReason,
    description="The reason says why a share ended before its term.",
    values={
        ShareEndReason.ENDED_BY_DOCTOR: "The doctor of the consultation ended the share.",
        ShareEndReason.ENDED_BY_COLLEAGUE: "The colleague ended the share.",
        ShareEndReason.CONSENT_WITHDRAWN: (
            "A participant withdrew the consent, or a participant who must consent has not consented to shares."
        ),
        ShareEndReason.AUTHORIZATION_WITHDRAWN: "The patient withdrew the authorization.",
        ShareEndReason.COLLEAGUE_SUSPENDED: "The colleague was suspended, or is no longer a clinician.",
    },
)
describe_enum(
    EmergencyReason,
    description="The reason says why a clinician needs emergency access.",
    values={
        EmergencyReason.MEDICAL_EMERGENCY: "The patient is in a medical emergency.",
        EmergencyReason.RISK_OF_HARM: "Somebody is at risk of harm.",
        EmergencyReason.DOCTOR_UNREACHABLE: (
            "The patient needs care now, and the patient's doctor cannot be reached."
        ),
        EmergencyReason.DISASTER: "The practice works under the conditions of a disaster.",
    },
)
describe_enum(
    consultations.Sensitivity,
    description="The legal sensitivity of a consultation decides what happens by default.",
    values={
        consultations.Sensitivity.ORDINARY: "The consultation is subject to no stricter rules.",
        consultations.Sensitivity.PSYCHOTHERAPY: (
            "The consultation may contain psychotherapy notes (45 CFR 164.501). It is not transcribed by default."
        ),
        consultations.Sensitivity.SUBSTANCE_USE: (
            "The consultation is subject to 42 CFR part 2 (substance use). It is not transcribed by default."
        ),
    },
)
describe_enum(
    consultations.SpokenLanguage,
    description=(
        "The participants of a consultation speak this language. The worker tells it to the speech service."
    ),
    values={
        consultations.SpokenLanguage.EN: "The participants of the consultation speak English.",
        consultations.SpokenLanguage.ES: "The participants of the consultation speak Spanish.",
        consultations.SpokenLanguage.MIXED: (
            "The participants speak several languages, or a language other than English and Spanish."
        ),
    },
)
describe_enum(
    consultations.ParticipantKind,
    description="The kind of a participant decides what the participant may do.",
    values={
        consultations.ParticipantKind.DOCTOR: "The consultation belongs to this doctor.",
        consultations.ParticipantKind.PATIENT: (
            "The participant is the patient of the consultation, of whom there is one."
        ),
        consultations.ParticipantKind.GUEST: "The doctor invited this person to the consultation.",
    },
)
describe_enum(
    consultations.GuestRole,
    description="This is the role in which a guest takes part in a consultation.",
    values={
        consultations.GuestRole.INTERPRETER: "The guest interprets between the doctor and the patient.",
        consultations.GuestRole.COMPANION: "The guest accompanies the patient, for example as a relative.",
        consultations.GuestRole.REPRESENTATIVE: "The guest represents the patient, for example as a parent.",
        consultations.GuestRole.CLINICIAN: "The guest is another clinician who takes part.",
        consultations.GuestRole.STUDENT: "The guest is a student who observes the consultation.",
    },
)
describe_enum(
    recordings.RecordingStatus,
    description=(
        "This is the status of a recording. A recording ends as READY, FAILED, ABORTED or LOST, and becomes "
        "DELETED when it is destroyed."
    ),
    values={
        recordings.RecordingStatus.REQUESTED: "The start is requested, and the worker has not begun with it.",
        recordings.RecordingStatus.STARTING: "The worker asks LiveKit to start the recording.",
        recordings.RecordingStatus.RECORDING: "LiveKit records the sound and the video.",
        recordings.RecordingStatus.STOPPING: "The stop is requested, and LiveKit finishes the file.",
        recordings.RecordingStatus.VERIFYING: "The file is complete, and the worker verifies it.",
        recordings.RecordingStatus.READY: "The file is verified and can be downloaded.",
        recordings.RecordingStatus.FAILED: "The recording failed, and `problem` says why.",
        recordings.RecordingStatus.ABORTED: "The recording never began, so there is no file.",
        recordings.RecordingStatus.LOST: (
            "The result of the recording is not known. It becomes READY if its file appears later."
        ),
        recordings.RecordingStatus.DELETED: "The recording is destroyed, and a certificate proves it.",
    },
)
describe_enum(
    recordings.TranscriptionStatus,
    description="This is the status of a recording's transcription by the speech service.",
    values={
        recordings.TranscriptionStatus.PENDING: "The transcription waits for the worker to begin.",
        recordings.TranscriptionStatus.RUNNING: "The worker sends the sound to the speech service.",
        recordings.TranscriptionStatus.READY: "The transcript is complete, and `transcript` returns it.",
        recordings.TranscriptionStatus.NO_SPEECH: "The recording contains no speech, so there is no transcript.",
        recordings.TranscriptionStatus.FAILED: "The transcription failed, and `problem` says why.",
        recordings.TranscriptionStatus.OFF: "The recording is not transcribed, and `problem` says why.",
    },
)
describe_enum(
    recordings.RecordingSource,
    description="The source of a recording is LiveKit or an uploaded file.",
    values={
        recordings.RecordingSource.EGRESS: "LiveKit recorded the room of the consultation.",
        recordings.RecordingSource.IMPORT: "The doctor imported a file that was recorded elsewhere.",
    },
)
describe_enum(
    PurposeOfUse,
    description="The caller requests PHI for this purpose (HL7 PurposeOfUse). The audit log contains it.",
    values={
        PurposeOfUse.TREATMENT: "The caller needs the data to treat the patient (TREAT).",
        PurposeOfUse.PAYMENT: "The caller needs the data for a payment (HPAYMT).",
        PurposeOfUse.OPERATIONS: "The caller needs the data to operate the practice (HOPERAT).",
        PurposeOfUse.PATIENT_REQUEST: "The patient asked for the data (PATRQT).",
        PurposeOfUse.LEGAL: "The law or a court requires the data (HLEGAL).",
    },
)
describe_enum(
    recording_imports.ImportStatus,
    name="RecordingImportStatus",
    description="The status says how far the import of a recording has come.",
    values={
        recording_imports.ImportStatus.AWAITING_URL: "The worker has not signed the upload URL yet.",
        recording_imports.ImportStatus.AWAITING_UPLOAD: "The client can upload the file to `uploadUrl`.",
        recording_imports.ImportStatus.COMPLETED: "The file is uploaded, and the import made a recording.",
        recording_imports.ImportStatus.EXPIRED: "The import ended, because no file was uploaded in time.",
    },
)
describe_enum(
    transcripts.Speaker,
    description="The speaker of a turn is a role, which several participants may have.",
    values={
        transcripts.Speaker.DOCTOR: "The doctor of the consultation speaks.",
        transcripts.Speaker.PATIENT: "The patient of the consultation speaks.",
        transcripts.Speaker.INTERPRETER: "A guest who interprets the conversation speaks.",
        transcripts.Speaker.COMPANION: "A guest who accompanies the patient speaks.",
        transcripts.Speaker.REPRESENTATIVE: "A guest who represents the patient speaks.",
        transcripts.Speaker.CLINICIAN: "A guest who is another clinician speaks.",
        transcripts.Speaker.STUDENT: "A guest who is a student speaks.",
        transcripts.Speaker.UNKNOWN: "The speaker of the turn is not known.",
    },
)
describe_enum(
    deletions.DeletionStatus,
    description="This is the status of a deletion, from the request to the certificate.",
    values={
        deletions.DeletionStatus.REQUESTED: "The deletion is requested, and its grace period has not ended.",
        deletions.DeletionStatus.UNDONE: "The deletion was undone, and the recording is kept.",
        deletions.DeletionStatus.DELETING: "The worker destroys the recording, which can no longer be undone.",
        deletions.DeletionStatus.DELETED: "The recording is destroyed, and its certificate exists.",
    },
)
describe_enum(
    deletions.DeletionGround,
    description="A recording is destroyed on one of these grounds.",
    values={
        deletions.DeletionGround.RETENTION: "The retention term of the recording has ended.",
        deletions.DeletionGround.REQUEST: "A doctor or a compliance officer requested the deletion.",
        deletions.DeletionGround.MISSING: "The object of the recording was missing in the bucket.",
        deletions.DeletionGround.RESTORE: "A backup brought back a recording that was destroyed before.",
    },
)
describe_enum(
    deletions.DeletionReason,
    description=(
        "This is the reason for a requested deletion. The reason is a fixed code that reveals nothing about "
        "the patient."
    ),
    values={
        deletions.DeletionReason.RECORDED_IN_ERROR: "The recording was made by mistake.",
        deletions.DeletionReason.WRONG_PATIENT: "The recording belongs to a different patient.",
        deletions.DeletionReason.DUPLICATE: "The same recording exists a second time.",
        deletions.DeletionReason.PATIENT_ASKED: "The patient asked for the deletion.",
        deletions.DeletionReason.CONSENT_WITHDRAWN: "A participant has withdrawn the consent.",
        deletions.DeletionReason.OTHER: "The deletion has a reason that is not listed.",
    },
)
describe_enum(
    retention.PolicyStatus,
    name="RetentionPolicyStatus",
    description="This is the status of a version of the retention policy. At most one version is ACTIVE.",
    values={
        retention.PolicyStatus.PROPOSED: "The policy waits for the approval of compliance officers.",
        retention.PolicyStatus.ACTIVE: "The policy is in force and decides how long recordings are kept.",
        retention.PolicyStatus.SUPERSEDED: "The policy was in force until a later policy replaced it.",
        retention.PolicyStatus.REJECTED: "A compliance officer rejected the policy, which never came into force.",
    },
)
describe_enum(
    staff.StaffRole,
    description="The role of a staff member decides what the staff member may do.",
    values={
        staff.StaffRole.CLINICIAN: "The staff member is a doctor who sees the recordings of their own patients.",
        staff.StaffRole.COMPLIANCE: "The staff member is a compliance officer, who sees no content of recordings.",
    },
)
describe_enum(
    staff.Role,
    description="The role of a person who calls the API decides what the person may read and do.",
    values={
        staff.Role.CLINICIAN: "A doctor has this role, and sees their own consultations and recordings.",
        staff.Role.COMPLIANCE: "A compliance officer has this role, and sees no content of recordings.",
        staff.Role.PATIENT: "A patient has this role, and sees their own consultations and access requests.",
    },
)
describe_enum(
    staff.AssuranceLevel,
    description=(
        "This says how strongly a session was authenticated at Supabase Auth. Doctors and compliance officers "
        "need AAL2."
    ),
    values={
        staff.AssuranceLevel.AAL1: "The person signed in with one factor, such as a password.",
        staff.AssuranceLevel.AAL2: "The person signed in with a second factor, such as a one-time code.",
        staff.AssuranceLevel.AAL3: (
            "This is a level above the second factor, which Supabase Auth does not use yet."
        ),
    },
)
describe_enum(
    staff.StaffStatus,
    description="The status of a staff member decides whether the staff member has access.",
    values={
        staff.StaffStatus.ACTIVE: "The staff member has the access of their role.",
        staff.StaffStatus.SUSPENDED: "The staff member has no access, and all their sessions have ended.",
    },
)
describe_enum(
    access_reviews.AccessReviewStatus,
    name="StaffAccessReviewStatus",
    description="The status says whether a review of the access of staff is open, decided or carried out.",
    values={
        access_reviews.AccessReviewStatus.OPEN: "The review waits for the decision of a second officer.",
        access_reviews.AccessReviewStatus.APPROVED: (
            "A second officer approved the review, and the worker removes access."
        ),
        access_reviews.AccessReviewStatus.DONE: "The worker has suspended the members whose access the review removes.",
        access_reviews.AccessReviewStatus.REJECTED: "An officer rejected the review.",
    },
)
describe_enum(
    access_reviews.AccessDecision,
    name="StaffAccessDecision",
    description="This is what a review decides about the access of one staff member.",
    values={
        access_reviews.AccessDecision.KEEP: "The member keeps the access.",
        access_reviews.AccessDecision.REMOVE: "The worker suspends the member after the approval.",
    },
)
describe_enum(
    access_reviews.AccessOutcome,
    name="StaffAccessOutcome",
    description="This says what the approval of a review changed for one staff member.",
    values={
        access_reviews.AccessOutcome.KEPT: "The member keeps the access.",
        access_reviews.AccessOutcome.REMOVED: "The member has no access any more.",
        access_reviews.AccessOutcome.USED_SINCE: (
            "The member keeps the access, because they used it after the review had started."
        ),
        access_reviews.AccessOutcome.SUSPENDED_ALREADY: "Somebody else had suspended the member before.",
    },
)
describe_enum(
    officer_proposals.ProposalKind,
    name="OfficerProposalKind",
    description="The kind of a proposal says what an approval changes.",
    values={
        officer_proposals.ProposalKind.RESET_SECOND_FACTOR: (
            "The member's second factors are removed, and all their sessions end."
        ),
        officer_proposals.ProposalKind.REINSTATE: "The suspension of the member ends.",
        officer_proposals.ProposalKind.REASSIGN_CONSULTATIONS: (
            "Another doctor gets the consultations of a doctor who left."
        ),
    },
)
describe_enum(
    officer_proposals.ProposalStatus,
    name="OfficerProposalStatus",
    description="The status says whether a proposal is open, decided or carried out.",
    values={
        officer_proposals.ProposalStatus.PROPOSED: "The proposal waits for the decision of a second officer.",
        officer_proposals.ProposalStatus.APPROVED: (
            "A second officer approved the proposal, and the worker carries it out."
        ),
        officer_proposals.ProposalStatus.DONE: "The worker has carried out the proposal.",
        officer_proposals.ProposalStatus.FAILED: (
            "The worker could not carry out the proposal, and `problem` says why."
        ),
        officer_proposals.ProposalStatus.REJECTED: "An officer rejected the proposal.",
        officer_proposals.ProposalStatus.WITHDRAWN: (
            "The proposal ended, because its officer lost their access or the member was suspended again."
        ),
    },
)
describe_enum(
    officer_proposals.ProposalReason,
    name="OfficerProposalReason",
    description="This is why an officer proposes a change. Each reason belongs to one kind of proposal.",
    values={
        officer_proposals.ProposalReason.DEVICE_LOST: "The person lost the device with the second factor.",
        officer_proposals.ProposalReason.DEVICE_REPLACED: "The person has a new device for the second factor.",
        officer_proposals.ProposalReason.DEVICE_COMPROMISED: "Somebody else may have the second factor.",
        officer_proposals.ProposalReason.SUSPENDED_BY_MISTAKE: "The person was suspended by mistake.",
        officer_proposals.ProposalReason.RETURNED_TO_WORK: "The person works for the practice again.",
        officer_proposals.ProposalReason.INVESTIGATION_CLOSED: (
            "The investigation of the suspended person is over."
        ),
        officer_proposals.ProposalReason.LEFT_PRACTICE: "The doctor left the practice.",
        officer_proposals.ProposalReason.RETIRED: "The doctor is retired.",
        officer_proposals.ProposalReason.LONG_ABSENCE: "The doctor is absent for a long time.",
        officer_proposals.ProposalReason.DIED: "The doctor died.",
    },
)
describe_enum(
    staff.InvitationStatus,
    name="StaffInvitationStatus",
    description="This is the status of the invitation of a staff member.",
    values={
        staff.InvitationStatus.PENDING: "The worker has not finished the invitation.",
        staff.InvitationStatus.SENT: (
            "The person is now a staff member. Supabase Auth sent a sign-in link if the person had no login."
        ),
        staff.InvitationStatus.FAILED: "The invitation failed, and `problem` says why.",
    },
)
describe_enum(
    access_requests.AccessRequestStatus,
    description=(
        "This is the status of an access request. While it is OPEN or APPROVED, the requested recordings are "
        "not destroyed."
    ),
    values={
        access_requests.AccessRequestStatus.OPEN: "The request waits for the decision of a compliance officer.",
        access_requests.AccessRequestStatus.APPROVED: "The request is approved, and its copy is not downloaded yet.",
        access_requests.AccessRequestStatus.FULFILLED: "The request is fulfilled, and `export` has the copy.",
        access_requests.AccessRequestStatus.DENIED: (
            "The request is denied. The recordings are kept for 60 more days if the denial can be reviewed."
        ),
        access_requests.AccessRequestStatus.WITHDRAWN: "The request was withdrawn before it was fulfilled.",
    },
)
describe_enum(
    access_requests.Channel,
    name="AccessRequestChannel",
    description="The channel is the way in which an access request reached the practice.",
    values={
        access_requests.Channel.LOGIN: "The signed-in patient filed the request.",
        access_requests.Channel.WRITTEN: "A compliance officer entered the letter of the patient.",
    },
)
describe_enum(
    access_requests.DenialGround,
    name="AccessDenialGround",
    description=(
        "This is the ground on which an access request is denied (45 CFR 164.524(a)). On a ground that can be "
        "reviewed, a licensed professional must have determined that harm is reasonably likely."
    ),
    values={
        access_requests.DenialGround.EXCEPTED: (
            "The request is for psychotherapy notes, or for information compiled for a legal proceeding. The patient "
            "has no right to a review."
        ),
        access_requests.DenialGround.CORRECTIONAL: (
            "The request is of an inmate, and a copy would endanger people (45 CFR 164.524(a)(2)(ii)). The patient "
            "has no right to a review."
        ),
        access_requests.DenialGround.RESEARCH: (
            "These are the recordings were made for a research study that continues. The patient has no right "
            "to a review."
        ),
        access_requests.DenialGround.PRIVACY_ACT: (
            "The recordings are subject to the Privacy Act, 5 U.S.C. 552a. The patient has no right to a review."
        ),
        access_requests.DenialGround.CONFIDENTIAL_SOURCE: (
            "Access would reveal a source who was promised confidentiality. The patient has no right to a review."
        ),
        access_requests.DenialGround.ENDANGERS_LIFE: (
            "Access is likely to endanger the life or physical safety of a person. The patient may ask for a review."
        ),
        access_requests.DenialGround.HARMS_ANOTHER: (
            "Access is likely to harm a person whom the recording mentions. The patient may ask for a review."
        ),
        access_requests.DenialGround.REPRESENTATIVE_HARMS: (
            "Access of the representative is likely to cause harm. The patient may ask for a review."
        ),
    },
)
describe_enum(
    access_requests.ExtensionReason,
    name="AccessExtensionReason",
    description=(
        "This is the reason for extending the deadline of an access request (45 CFR 164.524(b)(2)(ii)). The "
        "practice must inform the patient of the extension in writing."
    ),
    values={
        access_requests.ExtensionReason.VOLUME: "The request covers a large number of recordings.",
        access_requests.ExtensionReason.STORED_ELSEWHERE: "The recordings are stored at a different place.",
        access_requests.ExtensionReason.PROFESSIONAL_REVIEW: "A professional must examine the recordings first.",
        access_requests.ExtensionReason.TECHNICAL_FAILURE: "A technical failure delays the copy.",
        access_requests.ExtensionReason.STAFF_ABSENCE: "The staff who prepare the copy are absent.",
    },
)
describe_enum(
    access_requests.ReviewOutcome,
    name="AccessReviewOutcome",
    description="This is the outcome of the review of a denied access request.",
    values={
        access_requests.ReviewOutcome.UPHELD: "The reviewer agrees with the denial, which remains.",
        access_requests.ReviewOutcome.REVERSED: "The reviewer disagrees, so the request is approved.",
    },
)
describe_enum(
    access_requests.ExportStatus,
    name="AccessExportStatus",
    description="This is the status of the encrypted copy of an access request.",
    values={
        access_requests.ExportStatus.PREPARING: "The worker makes the encrypted copy.",
        access_requests.ExportStatus.READY: "The patient can download the encrypted copy.",
        access_requests.ExportStatus.NOTHING_RECORDED: "The request covers no recording, so there is no copy.",
        access_requests.ExportStatus.FAILED: "The worker could not make the copy, and `problem` says why.",
        access_requests.ExportStatus.EXPIRED: "The worker deleted the copy after its last day.",
        access_requests.ExportStatus.DELETED: "The copy was deleted, because a recording in it was destroyed.",
    },
)
describe_enum(
    audit_exports.AuditExportStatus,
    name="AuditExportStatus",
    description="This is the status of an export of the audit log.",
    values={
        audit_exports.AuditExportStatus.PENDING: "The job that makes the export is queued.",
        audit_exports.AuditExportStatus.RUNNING: "The worker makes the export.",
        audit_exports.AuditExportStatus.READY: "The officer who asked for the export can download it.",
        audit_exports.AuditExportStatus.FAILED: "The export could not be made, and `problem` says why.",
        audit_exports.AuditExportStatus.STOPPED: (
            "The officer who asked for the export was suspended or got another role, so the worker deleted it."
        ),
        audit_exports.AuditExportStatus.EXPIRED: "The worker deleted the archive after its last day.",
    },
)
describe_enum(
    audit_exports.AuditExportFormat,
    name="AuditExportFormat",
    description="This is the format of the file of events in an export of the audit log.",
    values={
        audit_exports.AuditExportFormat.NDJSON: (
            "Each line is a JSON object with an event in its canonical form, its place in the log, and its salt."
        ),
        audit_exports.AuditExportFormat.CSV: "Each row is an event with its place in the log.",
    },
)
describe_enum(
    fetches.FetchEvaluation,
    description="This says whether the bucket's access log covers a part of a period.",
    values={
        fetches.FetchEvaluation.EVALUATED: "An imported access log covers a part of the period.",
        fetches.FetchEvaluation.NOT_EVALUATED: "No imported access log covers the period, so nothing is known.",
    },
)
describe_enum(
    alerts.AlertKind,
    description="The kind says what an alert is about.",
    values={kind: load_alert_texts()[kind].text["en"] for kind in alerts.AlertKind},
)
describe_enum(
    vendor_agreements.VendorService,
    description="This is a service that receives PHI.",
    values={
        vendor_agreements.VendorService.DATABASE: "This is the Supabase project: the database and Auth.",
        vendor_agreements.VendorService.STORAGE: "This is the bucket, on Cloudflare R2 or on another S3 server.",
        vendor_agreements.VendorService.VIDEO: "This is LiveKit.",
        vendor_agreements.VendorService.SPEECH: "This is the speech service, OpenAI or the service at OPENAI_BASE_URL.",
        vendor_agreements.VendorService.LANGUAGE: (
            "This is the language service at LANGUAGE_BASE_URL, if it is not the speech service."
        ),
        vendor_agreements.VendorService.OTHER: "Resguardo does not use this service. An example is a backup.",
    },
)
describe_enum(
    vendor_agreements.AgreementBasis,
    description="This says why PHI may be in a service.",
    values={
        vendor_agreements.AgreementBasis.AGREEMENT: "The company has signed a business associate agreement.",
        vendor_agreements.AgreementBasis.SELF_OPERATED: "The practice runs the service itself.",
    },
)
describe_enum(
    outgoing_webhooks.WebhookDeliveryStatus,
    description="The status says whether an endpoint has accepted a message.",
    values={
        outgoing_webhooks.WebhookDeliveryStatus.PENDING: "The worker will send the message, or send it again.",
        outgoing_webhooks.WebhookDeliveryStatus.DELIVERED: "The endpoint has accepted the message.",
        outgoing_webhooks.WebhookDeliveryStatus.FAILED: (
            "The worker has used up the attempts or the days for the message. An officer can request another delivery."
        ),
    },
)
describe_enum(
    alerts.AlertStatus,
    description="The status says whether an alert is open or closed.",
    values={
        alerts.AlertStatus.OPEN: "The cause of the alert was present at the last check.",
        alerts.AlertStatus.CLOSED: "The cause of the alert is gone.",
    },
)
describe_enum(
    review.ReviewRule,
    description="A rule of the review selects events of the audit log, which an officer must then review.",
    values={
        review.ReviewRule.SELF: "A member of staff who is also a patient accessed their own data.",
        review.ReviewRule.SURNAME: "A member of staff accessed the data of a patient with the same surname.",
        review.ReviewRule.HOUSEHOLD: "A member of staff accessed the data of a patient of the same household.",
        review.ReviewRule.CO_WORKER: "A member of staff accessed the data of a patient who is a colleague.",
        review.ReviewRule.NO_RELATIONSHIP: (
            "A clinician accessed, or tried to access, the data of a patient whom they do not treat."
        ),
        review.ReviewRule.AFTER_HOURS: "A member of staff accessed patients' data outside the practice's hours.",
        review.ReviewRule.VOLUME: (
            "A member of staff accessed the data of far more patients in a day than on their other days."
        ),
        review.ReviewRule.MANY_URLS: "A member of staff was issued many URLs in a short time.",
        review.ReviewRule.DOWNLOAD_WITHOUT_PLAYBACK: (
            "A clinician was issued a download URL of a recording that they had not played."
        ),
        review.ReviewRule.ROLE_CHANGE: "A member of staff accessed patients' data soon after their role changed.",
        review.ReviewRule.BREAK_GLASS: "A clinician used the emergency access to a patient.",
        review.ReviewRule.DENIED_BURST: "A person was refused many times in a short time.",
        review.ReviewRule.FAILED_SIGN_INS: "Many sign-ins to one login failed in a short time.",
        review.ReviewRule.NEW_SECOND_FACTOR: (
            "A member of staff downloaded patients' data soon after a new second factor was enrolled for their login."
        ),
    },
)
describe_enum(
    review.ReviewRuleStatus,
    description="The status says whether a rule of the review is evaluated.",
    values={
        review.ReviewRuleStatus.EVALUATED: "The worker evaluates the rule for each sealed event.",
        review.ReviewRuleStatus.NOT_EVALUATED: (
            "The rule needs pairs of related people, which the practice has not imported: Resguardo stores no names."
        ),
        review.ReviewRuleStatus.OFF: "The rules file switches the rule off.",
    },
)
describe_enum(
    review.ReviewPolicyStatus,
    description="The status says whether a version of the rules is in force.",
    values={
        review.ReviewPolicyStatus.PROPOSED: "The version waits for the approval of two officers.",
        review.ReviewPolicyStatus.ACTIVE: "The version is in force.",
        review.ReviewPolicyStatus.SUPERSEDED: "A later version has replaced this one.",
        review.ReviewPolicyStatus.REJECTED: "An officer has rejected the version.",
    },
)
describe_enum(
    review.ReviewCaseStatus,
    description="The status says whether a review case waits for a decision.",
    values={
        review.ReviewCaseStatus.OPEN: "The case waits for an officer's decision, and takes further events.",
        review.ReviewCaseStatus.DECIDED: "An officer has recorded the disposition, and the case takes no events.",
    },
)
describe_enum(
    review.Disposition,
    description="This is the category of an officer's decision on a review case.",
    values={
        review.Disposition.APPROPRIATE: "The activity was part of the subject's work.",
        review.Disposition.RULE_TOO_WIDE: "The activity was ordinary, and the rule should not have found it.",
        review.Disposition.POLICY_VIOLATION: "The activity broke a policy of the practice, and is no breach.",
        review.Disposition.POSSIBLE_BREACH: (
            "The activity may be a breach of unsecured PHI, which must be assessed (45 CFR 164.402)."
        ),
    },
)
describe_enum(
    breaches.BreachStatus,
    description="This is the status of a breach assessment.",
    values={
        breaches.BreachStatus.OPEN: "No officer has decided on the assessment.",
        breaches.BreachStatus.NOTIFYING: "The incident is a breach, and a notice is still needed.",
        breaches.BreachStatus.CLOSED: "Nothing is left to do.",
    },
)
describe_enum(
    breaches.BreachCountStatus,
    description="This says whether the affected patients of an assessment are known.",
    values={
        breaches.BreachCountStatus.COUNTING: "The worker reads the events of the incident.",
        breaches.BreachCountStatus.COUNTED: "The worker has read all events of the incident.",
        breaches.BreachCountStatus.FAILED: (
            "The worker could not read the events, and `recountBreach` tries again."
        ),
    },
)
describe_enum(
    breaches.BreachFactorKind,
    description="These are the four factors of a risk assessment (45 CFR 164.402(2)).",
    values={
        breaches.BreachFactorKind.NATURE_AND_EXTENT: (
            "The factor is the nature and the extent of the PHI, and the likelihood that patients can be identified."
        ),
        breaches.BreachFactorKind.UNAUTHORIZED_PERSON: (
            "The factor is the unauthorized person who used or received the PHI."
        ),
        breaches.BreachFactorKind.ACQUIRED_OR_VIEWED: "The factor is whether the PHI was actually acquired or viewed.",
        breaches.BreachFactorKind.MITIGATION: "The factor is the extent to which the risk was mitigated.",
    },
)
describe_enum(
    breaches.BreachRisk,
    description="This is the risk that a factor adds to the probability of a compromise.",
    values={
        breaches.BreachRisk.LOW: "The factor makes a compromise unlikely.",
        breaches.BreachRisk.MEDIUM: "The factor makes a compromise possible.",
        breaches.BreachRisk.HIGH: "The factor makes a compromise likely.",
    },
)
describe_enum(
    breaches.BreachDecision,
    description="This is the decision on a breach assessment (45 CFR 164.402).",
    values={
        breaches.BreachDecision.BREACH: "The incident is a breach, so notices are needed.",
        breaches.BreachDecision.LOW_PROBABILITY: (
            "The four factors show a low probability that PHI was compromised."
        ),
        breaches.BreachDecision.UNINTENTIONAL_ACCESS: (
            "A member of staff used PHI unintentionally and in good faith: 164.402(1)(i)."
        ),
        breaches.BreachDecision.INADVERTENT_DISCLOSURE: (
            "An authorized person disclosed PHI by accident to another authorized person: 164.402(1)(ii)."
        ),
        breaches.BreachDecision.NOT_RETAINED: (
            "The recipient could not have retained the PHI: 164.402(1)(iii)."
        ),
        breaches.BreachDecision.SECURED: (
            "The PHI was encrypted and its key was not exposed, so it was not unsecured PHI."
        ),
    },
)
describe_enum(
    breaches.BreachLateReason,
    description="This is why a decision or a notice came after its deadline.",
    values={
        breaches.BreachLateReason.SCOPE_UNKNOWN: "The practice did not know in time who was affected.",
        breaches.BreachLateReason.EVIDENCE_LATE: "Evidence arrived after the deadline.",
        breaches.BreachLateReason.STAFF_ABSENCE: "The responsible person was absent.",
        breaches.BreachLateReason.VENDOR_LATE: "A vendor informed the practice late.",
        breaches.BreachLateReason.OVERSIGHT: "The practice missed the deadline.",
    },
)
describe_enum(
    breaches.DelayStatement,
    description="This is how law enforcement asked for a delay of notices (45 CFR 164.412).",
    values={
        breaches.DelayStatement.ORAL: "The statement was oral, so the delay lasts at most 30 days.",
        breaches.DelayStatement.WRITTEN: "The statement was in writing and named the end of the delay.",
    },
)
describe_enum(
    breaches.BreachNoticeKind,
    description="This says to whom a notice of a breach is sent.",
    values={
        breaches.BreachNoticeKind.INDIVIDUALS: "All affected patients get the notice: 164.404.",
        breaches.BreachNoticeKind.URGENT: (
            "Affected patients are warned at once, in addition to the notice: 164.404(d)(3)."
        ),
        breaches.BreachNoticeKind.SUBSTITUTE: (
            "Affected patients without a known address get the notice: 164.404(d)(2)."
        ),
        breaches.BreachNoticeKind.SECRETARY: "The Secretary of HHS gets the notice: 164.408.",
        breaches.BreachNoticeKind.MEDIA: "The media of a state or jurisdiction get the notice: 164.406.",
    },
)
describe_enum(
    breaches.BreachNoticeMethod,
    description="This says how a notice of a breach was sent.",
    values={
        breaches.BreachNoticeMethod.FIRST_CLASS_MAIL: "The notice was sent by first-class mail.",
        breaches.BreachNoticeMethod.EMAIL: "The notice was sent by email to patients who agreed to it.",
        breaches.BreachNoticeMethod.TELEPHONE: "The notice was given by telephone.",
        breaches.BreachNoticeMethod.WEB_SITE: "The notice was on the home page of the practice for 90 days.",
        breaches.BreachNoticeMethod.PRESS: "The notice was given to print or broadcast media.",
        breaches.BreachNoticeMethod.HHS_PORTAL: "The notice was entered on the web site of HHS.",
    },
)
describe_enum(
    breaches.SanctionCategory,
    description="This is the category of a violation, by the intent of the member of staff.",
    values={
        breaches.SanctionCategory.CARELESS: "The member violated the policy without intent.",
        breaches.SanctionCategory.CURIOUS: "The member looked at data without need, and not for a gain.",
        breaches.SanctionCategory.MALICIOUS: "The member acted for a gain or to harm somebody.",
    },
)
describe_enum(
    breaches.SanctionMeasure,
    description="This is a sanction that the practice imposes. Each category permits some of them.",
    values={
        breaches.SanctionMeasure.COUNSELING: "Somebody talked with the member of staff. CARELESS permits it.",
        breaches.SanctionMeasure.TRAINING: "The member of staff was trained again. CARELESS permits it.",
        breaches.SanctionMeasure.WRITTEN_WARNING: (
            "The member of staff was warned in writing. CARELESS and CURIOUS permit it."
        ),
        breaches.SanctionMeasure.FINAL_WARNING: (
            "The member of staff was warned for the last time. CURIOUS permits it."
        ),
        breaches.SanctionMeasure.SUSPENSION: (
            "The member of staff was suspended. CURIOUS and MALICIOUS permit it."
        ),
        breaches.SanctionMeasure.TERMINATION: (
            "The employment or contract ended. CURIOUS and MALICIOUS permit it."
        ),
    },
)
describe_enum(
    attestations.ReviewFinding,
    description="This is what the review of a month has found.",
    values={
        attestations.ReviewFinding.NOTHING: "The review has found nothing that needs an action.",
        attestations.ReviewFinding.POLICY_VIOLATION: "Somebody violated a policy.",
        attestations.ReviewFinding.POSSIBLE_BREACH: "An incident may be a breach.",
        attestations.ReviewFinding.UNUSED_ACCESS: "Somebody has access that they do not use.",
        attestations.ReviewFinding.FAILED_SIGN_INS: "Sign-ins failed in an unusual way.",
        attestations.ReviewFinding.TECHNICAL_FAULT: "A part of the system did not work.",
        attestations.ReviewFinding.REVIEW_INCOMPLETE: "A part of the activity was not reviewed.",
    },
)
describe_enum(
    audit.ActorRole,
    description="This is the role in which the actor of an audit event acted.",
    values={
        audit.ActorRole.CLINICIAN: "A doctor of the practice acted.",
        audit.ActorRole.COMPLIANCE: "A compliance officer acted.",
        audit.ActorRole.PATIENT: "A patient of the practice acted.",
        audit.ActorRole.API: "The API acted for a caller without a role, such as a guest.",
        audit.ActorRole.WORKER: "The worker acted, in a job or a periodic task.",
        audit.ActorRole.ADMINISTRATOR: (
            "Somebody with the secret key of Supabase Auth acted there, such as the worker or the dashboard."
        ),
        audit.ActorRole.UNREGISTERED: (
            "A login of Supabase Auth acted there that has no role in the practice."
        ),
        audit.ActorRole.OPERATOR: "A different login of the database acted, such as the owner's.",
    },
)
describe_enum(
    audit.AuditOperation,
    description="This is the kind of operation of an audit event, as in FHIR's AuditEvent.action.",
    values={
        audit.AuditOperation.CREATE: "The action created something (C).",
        audit.AuditOperation.READ: "This is the action read something (R).",
        audit.AuditOperation.UPDATE: "The action changed something (U).",
        audit.AuditOperation.DELETE: "The action deleted something (D).",
        audit.AuditOperation.EXECUTE: "The action executed something (E), such as joining a room.",
    },
)
describe_enum(
    audit.AuditInterval,
    description="The interval says how long the intervals of an audit summary are. They begin in UTC.",
    values={
        audit.AuditInterval.HOUR: "The summary has a count for each hour.",
        audit.AuditInterval.DAY: "The summary has a count for each day.",
        audit.AuditInterval.WEEK: "The summary has a count for each week, which begins on Monday.",
        audit.AuditInterval.MONTH: "The summary has a count for each calendar month.",
    },
)
describe_enum(
    audit.AuditGrouping,
    description="The grouping says for what an audit summary has a series each.",
    values={
        audit.AuditGrouping.ACTION: "The summary has a series for each action.",
        audit.AuditGrouping.OUTCOME: "The summary has a series for each outcome.",
        audit.AuditGrouping.PURPOSE: "The summary has a series for each purpose of use.",
        audit.AuditGrouping.ACTOR: "The summary has a series for each person who acted.",
    },
)
describe_enum(
    audit.Outcome,
    name="AuditOutcome",
    description=(
        "This is the result of an audited action. The caller cannot distinguish DENIED from ABSENT, because "
        "the API gives the same answer."
    ),
    values={
        audit.Outcome.ALLOWED: "The action was allowed and carried out.",
        audit.Outcome.DENIED: "The action was refused, because the caller may not do it.",
        audit.Outcome.ABSENT: "The action was refused, because the requested row does not exist.",
        audit.Outcome.FAILED: "The action was allowed and then failed.",
    },
)
describe_enum(
    recordings.Medium,
    name="MediaFileKind",
    description="The kind says which sound a media file contains.",
    values={
        recordings.Medium.VIDEO: (
            "The file is the video of the room with its mixed sound. No media file has this kind yet."
        ),
        recordings.Medium.MICROPHONE: "The file has the sound of one microphone track.",
        recordings.Medium.SPEAKERS: "The file has the sound of the doctor and the patient, on two channels.",
        recordings.Medium.CLIP: "The file is a clip of the recording. No media file has this kind.",
    },
)
describe_enum(
    clips.ClipStatus,
    name="ClipStatus",
    description="This says whether a clip is made, and can be played.",
    values={
        clips.ClipStatus.PENDING: "The job that makes the clip is queued.",
        clips.ClipStatus.RUNNING: "The worker makes the clip.",
        clips.ClipStatus.READY: "The clip can be played and downloaded.",
        clips.ClipStatus.FAILED: "The clip could not be made. `problem` contains the reason.",
    },
)
describe_enum(
    thumbnails.ThumbnailStatus,
    name="RecordingThumbnailStatus",
    description="This says whether the thumbnail of a recording can be shown.",
    values={
        thumbnails.ThumbnailStatus.PENDING: "The job that makes the thumbnail is queued or runs.",
        thumbnails.ThumbnailStatus.READY: "The thumbnail can be shown. `issueThumbnailUrl` returns its link.",
        thumbnails.ThumbnailStatus.NO_PICTURE: (
            "There is no thumbnail, because every examined picture is black, white, of one colour or part of a fade."
        ),
        thumbnails.ThumbnailStatus.FAILED: "The thumbnail could not be made.",
    },
)
describe_enum(
    BlockerReason,
    name="RecordingBlockerReason",
    description="This says why no recording of a consultation can start.",
    values={
        BlockerReason.CONSENT_MISSING: "A participant who must consent has not consented.",
        BlockerReason.CONSENT_WITHDRAWN: "A participant who must consent has withdrawn the consent.",
        BlockerReason.RECORDING_IN_PROGRESS: "A recording of the consultation is already in progress.",
        BlockerReason.SPEAKERS_WITH_GUESTS: (
            "The consultation records its speakers on two channels, and a guest takes part, for whom there is "
            "no channel."
        ),
    },
)
describe_enum(
    NoteKind,
    name="SessionNoteKind",
    description="This says who may get copies of a note.",
    values={
        NoteKind.SESSION: "The notes are part of the patient's record, so copies for access requests contain them.",
        NoteKind.PSYCHOTHERAPY: (
            "The notes analyse a counselling session and are kept apart from the record (45 CFR 164.501). No copy for "
            "an access request contains them, and no language service receives them."
        ),
    },
)
describe_enum(
    insights.Flag,
    name="LineFlag",
    description=(
        "A flag says in what a line seems to differ from its quotes, so that the doctor checks it. The checker "
        "compares words: it also flags some true lines, and it does not find every error. A flag never hides a line."
    ),
    values={
        insights.Flag.NUMBER: "A number, a unit or a dose of the line differs from the quotes.",
        insights.Flag.SIDE: "A side of the body (left, right or both) differs from the quotes.",
        insights.Flag.NEGATION: "The line affirms what the quotes deny, or denies what the quotes affirm.",
        insights.Flag.RARE_WORD: (
            "The line has a rare word, such as the name of a drug, that the quotes do not contain."
        ),
        insights.Flag.PERSON: "The line is about the patient and its quotes are about a relative, or the reverse.",
        insights.Flag.TIME: "The line is about the present and its quotes are about the past, or the reverse.",
        insights.Flag.INSTRUCTION: "The line cites speech that gives orders to the writer of the lines.",
        insights.Flag.WEAK_SUPPORT: "The quotes contain hardly any content word of the line.",
    },
)
describe_enum(
    AnswerStatus,
    name="TranscriptAnswerStatus",
    description="The status says whether an answer to a question was found in the transcript.",
    values={
        AnswerStatus.ANSWERED: "The answer has at least one line with its quotes.",
        AnswerStatus.NOT_FOUND_IN_TRANSCRIPT: (
            "No answer was found in the transcript. This does not mean that nobody gave the answer in the "
            "consultation."
        ),
    },
)
describe_enum(
    recordings.InsightsStatus,
    description="The status says how far the insights into a recording are.",
    values={
        recordings.InsightsStatus.PENDING: (
            "The insights wait for the worker, or for the next day if the doctor's daily budget is used up."
        ),
        recordings.InsightsStatus.RUNNING: "The worker is writing the insights.",
        recordings.InsightsStatus.READY: "The insights can be read.",
        recordings.InsightsStatus.STALE: (
            "The insights can be read, but the transcript has changed since they were written."
        ),
        recordings.InsightsStatus.NO_SPEECH: "Nobody spoke in the recording, so there is nothing to write.",
        recordings.InsightsStatus.FAILED: "The worker could not write the insights. `retryInsights` tries again.",
        recordings.InsightsStatus.OFF: (
            "A setting or a missing consent forbids the insights, or the recording is destroyed."
        ),
    },
)
describe_enum(
    drafts.Section,
    name="NoteSection",
    description="A note has four sections, as in SOAP.",
    values={
        drafts.Section.S: "The subjective section contains what the patient reports.",
        drafts.Section.O: "The objective section contains examinations, measurements and results.",
        drafts.Section.A: "The assessment contains what the doctor concludes.",
        drafts.Section.P: "The plan contains what was decided.",
    },
)
describe_enum(
    drafts.Responsible,
    name="ActionItemResponsible",
    description="The person has to do an action item.",
    values={
        drafts.Responsible.DOCTOR: "The doctor has to do it.",
        drafts.Responsible.PATIENT: "The patient has to do it.",
    },
)
describe_enum(
    drafts.HighlightReason,
    description="The reason says why a part of a recording is worth seeing.",
    values={
        drafts.HighlightReason.ALLERGY: "The part is about an allergy.",
        drafts.HighlightReason.MEDICATION: "The part is about a medication.",
        drafts.HighlightReason.ASSESSMENT: "The doctor says what they conclude.",
        drafts.HighlightReason.PLAN: "The part is about what happens next.",
        drafts.HighlightReason.FINDING: "The part has a finding, a measurement or a result.",
        drafts.HighlightReason.HISTORY: "The part is about the patient's history.",
        drafts.HighlightReason.SYMPTOM: "The part is about a symptom.",
        drafts.HighlightReason.TOPIC: "A new topic begins.",
    },
)
describe_enum(
    coverage.UncitedKind,
    name="UncitedTurnKind",
    description="The kind says why a turn that no line cites should be read.",
    values={
        coverage.UncitedKind.NUMBER: "The turn says a number.",
        coverage.UncitedKind.DOSE: "The turn says a dose.",
        coverage.UncitedKind.ALLERGY: "The turn says something about an allergy.",
        coverage.UncitedKind.MEDICATION: "The turn names a medication or says something about one.",
    },
)
describe_enum(
    notes.Resolution,
    name="FlagResolution",
    description="The resolution says how a doctor resolved a flag of a line.",
    values={
        notes.Resolution.KEPT: "The doctor confirmed the line as it is.",
        notes.Resolution.CHANGED: "The doctor changed the line, and the line does not have the flag any more.",
        notes.Resolution.REMOVED: "The doctor removed the line. Only a signed note has this resolution.",
    },
)
describe_enum(
    notes.LineAuthor,
    name="NoteLineAuthor",
    description="The author says who wrote the text of a line.",
    values={
        notes.LineAuthor.WRITER: "The language model wrote the text.",
        notes.LineAuthor.DOCTOR: "The doctor wrote or changed the text.",
    },
)
