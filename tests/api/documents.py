"""The GraphQL operations that the tests send. Each GraphQL operation in this file selects every field of its
result.
"""

from app.consents.texts import CURRENT_VERSION, consent_texts

_TEXT = consent_texts()[CURRENT_VERSION, "en"]
SHOWN = {"textVersion": _TEXT.version, "textSha256": _TEXT.sha256}
"""The reference of a consent to the current English text."""

VIEWER = "{ viewer { user { id } role assuranceLevel patient { id externalId } } }"
CONSENT_TEXT = """
query ($language: Language! = EN, $version: String) {
  consentText(language: $language, version: $version) { version language markdown sha256 }
}
"""

_PARTICIPANT = "id kind guestRole joinedAt mustConsent hasConsented"
_PARTICIPANTS = f"participants {{ {_PARTICIPANT} }}"
_JOIN_TOKEN = "joinToken { url token roomName expiresAt expiresInSeconds }"
_CONSENT = """
  id participant { id } decision source recordedBy { id } representative { relationship name }
  textVersion textLanguage textSha256 recordedAt
"""
_PLAIN = """
  id externalId doctor { id } conductedBy { id } patient { id externalId }
  scheduledAt kind sensitivity roomName recordsAutomatically
  recordsSpeakersSeparately language isTranscribed createdAt patientExternalId label
"""
_CONSULTATION = f"{_PLAIN} {_PARTICIPANTS} consents {{ {_CONSENT} }}"
_PROBLEM = "problem { code message }"
_RECORDING = f"""
  id consultation {{ id externalId scheduledAt kind sensitivity }} egressId roomName roomSid status
  startedAt endedAt durationSeconds sizeBytes sha256 isTruncated isInterrupted {_PROBLEM} source
  mediaFiles {{
    id kind participant {{ id kind guestRole }} trackSid
    status startedAt durationSeconds sizeBytes sha256 isTruncated isInterrupted {_PROBLEM}
  }}
  deletion {{ id status }} retentionEndsAt isHeld createdAt updatedAt
  transcription {{
    status languageCode chunksDone chunkCount attempt unusedTrackCount unintelligibleCount isRetried {_PROBLEM}
  }}
  insights {{ status partsDone partCount attempt isRefreshed droppedCount dismissedCount writtenAt {_PROBLEM} }} topics
"""
_DELETION = """
  id recording { id status } ground reason status requestedBy { id } requestedAt undoUntil retentionEndsAt attemptCount
  problem { code message } finishedAt
"""
_PAGE_INFO = "pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"

ACCESS_ENTRIES = """
query (
  $first: Int! = 25, $after: String, $requestId: ID, $of: ConsultationBy, $timeZone: String! = "UTC"
) {
  accessEntries(
    first: $first, after: $after, filter: {accessRequestId: $requestId, consultation: $of}, timeZone: $timeZone
  ) {
    edges { cursor node { id recordedAt when who relation text why isRefused refusal consultationIds } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""
RECORDING_SUMMARIES = """
query (
  $first: Int! = 25, $after: String, $requestId: ID, $of: ConsultationBy, $timeZone: String! = "UTC"
) {
  recordingSummaries(
    first: $first, after: $after, filter: {accessRequestId: $requestId, consultation: $of}, timeZone: $timeZone
  ) {
    edges {
      cursor
      node {
        id consultationId recordedAt when doctor durationSeconds fate text keptUntil destroyedAt
        certificate { number sha256 json pdfBase64 }
      }
    }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""

REGISTER = f"""
mutation ($consultation: RegisterConsultationInput!) {{
  registerConsultation(input: $consultation) {{ consultation {{ {_CONSULTATION} }} }}
}}
"""
SET_LABEL = f"""
mutation ($consultationId: ID!, $label: String) {{
  editConsultationLabel(input: {{consultationId: $consultationId, label: $label}}) {{
    consultation {{ {_CONSULTATION} }}
  }}
}}
"""
CONSULTATION = f"""
query ($id: ID!) {{ consultation(by: {{id: $id}}) {{ {_CONSULTATION} }} }}
"""
CONSULTATION_BY_EXTERNAL_ID = f"""
query ($externalId: String!) {{
  consultation(by: {{externalId: $externalId}}) {{ {_CONSULTATION} }}
}}
"""
CONSULTATION_BY = {"id": CONSULTATION, "externalId": CONSULTATION_BY_EXTERNAL_ID}
CONSULTATIONS = f"""
query ($first: Int, $after: String) {{
  consultations(first: $first, after: $after) {{ edges {{ cursor node {{ {_CONSULTATION} }} }} {_PAGE_INFO} }}
}}
"""
RECORD_CONSENT = f"""
mutation ($consent: RecordConsentInput!) {{ recordConsent(input: $consent) {{ consent {{ {_CONSENT} }} }} }}
"""
WITHDRAW_CONSENT = f"""
mutation ($participantId: ID!, $representative: RepresentativeInput, $idempotencyKey: String) {{
  withdrawConsent(
    input: {{participantId: $participantId, representative: $representative, idempotencyKey: $idempotencyKey}}
  ) {{
    consent {{ {_CONSENT} }}
  }}
}}
"""
JOIN = f"""
mutation ($consultationId: ID!) {{
  joinConsultation(input: {{consultationId: $consultationId}}) {{ participant {{ {_PARTICIPANT} }} {_JOIN_TOKEN} }}
}}
"""
JOIN_AS_GUEST = f"""
mutation ($invitation: String!) {{
  joinAsGuest(input: {{invitation: $invitation}}) {{ participant {{ id kind guestRole }} {_JOIN_TOKEN} }}
}}
"""
INVITE = f"""
mutation ($consultationId: ID!, $role: GuestRole!, $idempotencyKey: String) {{
  inviteGuest(input: {{consultationId: $consultationId, role: $role, idempotencyKey: $idempotencyKey}}) {{
    participant {{ {_PARTICIPANT} }} invitation {{ secret expiresAt expiresInSeconds }}
  }}
}}
"""
ACTIVE_ROOMS = "{ activeRooms { consultation { id externalId } name sid participantCount createdAt } }"
START = f"""
mutation ($consultationId: ID!, $idempotencyKey: String) {{
  startRecording(input: {{consultationId: $consultationId, idempotencyKey: $idempotencyKey}}) {{
    recording {{ {_RECORDING} }}
  }}
}}
"""
STOP = f"""
mutation ($recordingId: ID!) {{
  stopRecording(input: {{recordingId: $recordingId}}) {{ recording {{ {_RECORDING} }} }}
}}
"""
RECORDING = f"query ($id: ID!) {{ recording(by: {{id: $id}}) {{ {_RECORDING} }} }}"
RECORDING_CHANGED = f"""
subscription ($consultationId: ID!) {{ recordingChanged(consultationId: $consultationId) {{ {_RECORDING} }} }}
"""
CONSULTATION_CHANGED = f"""
subscription ($consultationId: ID!) {{ consultationChanged(consultationId: $consultationId) {{ {_CONSULTATION} }} }}
"""
RECORDINGS_CHANGED = f"subscription {{ recordingsChanged {{ {_RECORDING} }} }}"
STORED_OBJECT = "query ($id: ID!) { storedObject(recordingId: $id) { exists sizeBytes contentType } }"
RECORDINGS = f"""
query ($first: Int, $after: String, $filter: RecordingFilter) {{
  recordings(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_RECORDING} }} }} {_PAGE_INFO}
  }}
}}
"""
ISSUE_URL = """
mutation ($recordingId: ID!, $file: ID, $purposeOfUse: PurposeOfUse!) {
  issueDownloadUrl(input: {recordingId: $recordingId, file: $file, purposeOfUse: $purposeOfUse}) {
    downloadUrl { url expiresAt expiresInSeconds redisclosureNotice }
  }
}
"""
ISSUE_PLAYBACK_URL = """
mutation ($recordingId: ID!, $file: ID, $viewingId: ID, $purposeOfUse: PurposeOfUse!) {
  issuePlaybackUrl(
    input: {recordingId: $recordingId, file: $file, viewingId: $viewingId, purposeOfUse: $purposeOfUse}
  ) {
    playbackUrl { url expiresAt expiresInSeconds viewingId }
  }
}
"""
_CLIP = (
    """id status startSeconds endSeconds percentDone sizeBytes sha256 createdAt problem { code message }"""
)
CREATE_CLIP = f"""
mutation ($recordingId: ID!, $start: Float!, $end: Float!, $purposeOfUse: PurposeOfUse! = TREATMENT) {{
  createClip(
    input: {{recordingId: $recordingId, startSeconds: $start, endSeconds: $end, purposeOfUse: $purposeOfUse}}
  ) {{
    clip {{ {_CLIP} }} recording {{ id clips {{ id status }} }}
  }}
}}
"""
CLIPS = f"query ($id: ID!) {{ recording(by: {{id: $id}}) {{ id mediaFiles {{ id }} clips {{ {_CLIP} }} }} }}"
ISSUE_THUMBNAIL_URL = """
mutation ($id: ID!) {
  issueThumbnailUrl(input: {recordingId: $id}) { thumbnailUrl { jpeg expiresAt expiresInSeconds } }
}
"""
THUMBNAIL_STATUS = "query ($id: ID!) { recording(by: {id: $id}) { thumbnailStatus } }"
FETCH_REPORT = """
query ($since: DateTime! = "2026-01-01T00:00:00Z", $until: DateTime! = "2026-02-01T00:00:00Z") {
  objectFetches(since: $since, until: $until) {
    evaluation firstEventAt lastEventAt issuedCount fetchedCount findingCount
    findings { entityType entityId fetchedAt address interface }
  }
}
"""
ALERTS = """
query ($first: Int, $after: String, $filter: AlertFilter) {
  alerts(first: $first, after: $after, filter: $filter) {
    edges {
      cursor
      node {
        id kind key status entityType entityIds entityCount openedAt seenAt closedAt message remedy
      }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""
_VENDOR_AGREEMENT = """
  id service vendor basis version signatory signedOn expiresOn recordedAt recordedBy { id }
"""
VENDOR_AGREEMENTS = f"""
query ($first: Int, $after: String, $filter: VendorAgreementFilter) {{
  vendorAgreements(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_VENDOR_AGREEMENT} }} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
RECORD_VENDOR_AGREEMENT = f"""
mutation ($agreement: RecordVendorAgreementInput!) {{
  recordVendorAgreement(input: $agreement) {{ vendorAgreement {{ {_VENDOR_AGREEMENT} }} }}
}}
"""
_WEBHOOK_DELIVERY = """
  id messageId endpoint eventType entityType entityIds status attemptCount nextAttemptAt statusCode createdAt finishedAt
  problem { code message }
  attempts { number startedAt durationSeconds statusCode problem { code message } }
"""
WEBHOOK_DELIVERIES = f"""
query ($first: Int, $after: String, $filter: WebhookDeliveryFilter) {{
  webhookDeliveries(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_WEBHOOK_DELIVERY} }} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
REDELIVER_WEBHOOK = f"""
mutation ($deliveryId: ID!) {{
  redeliverWebhook(input: {{webhookDeliveryId: $deliveryId}}) {{ webhookDelivery {{ {_WEBHOOK_DELIVERY} }} }}
}}
"""
AUDIT_EVENTS = f"""
query ($first: Int, $after: String, $filter: AuditEventFilter) {{
  auditEvents(first: $first, after: $after, filter: $filter) {{
    edges {{
      cursor
      node {{
        id recordedAt occurredAt actor {{ id }} actorRole sessionFingerprint assuranceLevel action operation
        outcome reason purpose basis entities {{ type ids }}
        patientIds consultationIds fields rowCount byteCount digest requestId address policyVersion
      }}
    }}
    {_PAGE_INFO}
  }}
}}
"""
AUDIT_SUMMARY = """
query (
  $filter: AuditEventFilter! = {
    action: "hold.release", recordedDuring: {from: "2026-01-01T00:00:00Z", until: "2027-01-01T00:00:00Z"}
  }
  $interval: AuditInterval! = MONTH
  $groupBy: AuditGrouping! = ACTION
) {
  auditSummary(filter: $filter, interval: $interval, groupBy: $groupBy) {
    interval grouping startsAt eventCounts series { value eventCounts }
  }
}
"""
_INVITATION = "id role status problem { code message } createdAt"
INVITE_STAFF = f"""
mutation ($email: String!, $staffRole: StaffRole!) {{
  inviteStaff(input: {{email: $email, role: $staffRole}}) {{ staffInvitation {{ {_INVITATION} }} }}
}}
"""
STAFF_INVITATIONS = f"""
query ($first: Int! = 100, $after: String) {{
  staffInvitations(first: $first, after: $after) {{ edges {{ cursor node {{ {_INVITATION} }} }} {_PAGE_INFO} }}
}}
"""
INVITED_ADDRESSES = f"""
{{ staffInvitations(first: 100) {{ edges {{ node {{ {_INVITATION} email }} }} }} }}
"""
_MEMBER = "id user { id } publishedName role roleGivenAt status createdAt suspendedAt lastUsedAt"
STAFF = f"""
query ($first: Int! = 25, $after: String, $filter: StaffMemberFilter) {{
  staff(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_MEMBER} }} }} {_PAGE_INFO}
  }}
}}
"""
PUBLISH_STAFF_NAME = f"""
mutation ($userId: ID!, $publishedName: String) {{
  publishStaffName(input: {{userId: $userId, publishedName: $publishedName}}) {{ staffMember {{ {_MEMBER} }} }}
}}
"""
_ACCESS_REVIEW = "id status startedBy { id } startedAt decidedBy { id } decidedAt finishedAt sha256"
_ACCESS_ENTRY = (
    "id member { id } joinedAt role roleGivenAt lastUsedAt isUnused decision decidedBy { id } outcome"
)
STAFF_ACCESS_REVIEWS = f"""
query ($first: Int! = 25, $after: String) {{
  staffAccessReviews(first: $first, after: $after) {{ edges {{ cursor node {{ {_ACCESS_REVIEW} }} }} {_PAGE_INFO} }}
}}
"""
STAFF_ACCESS_ENTRIES = f"""
query ($reviewId: ID!, $first: Int! = 100, $after: String) {{
  staffAccessReviewEntries(reviewId: $reviewId, first: $first, after: $after) {{
    edges {{ cursor node {{ {_ACCESS_ENTRY} }} }} {_PAGE_INFO}
  }}
}}
"""
START_ACCESS_REVIEW = f"""
mutation {{ startStaffAccessReview(input: {{unusedAfterDays: 90}}) {{ staffAccessReview {{ {_ACCESS_REVIEW} }} }} }}
"""
DECIDE_STAFF_ACCESS = f"""
mutation ($reviewId: ID!, $userId: ID!, $access: StaffAccessDecision! = KEEP) {{
  decideStaffAccess(input: {{reviewId: $reviewId, userId: $userId, decision: $access}}) {{
    staffAccessReviewEntry {{ {_ACCESS_ENTRY} }}
  }}
}}
"""
APPROVE_ACCESS_REVIEW = f"""
mutation ($reviewId: ID!) {{
  approveStaffAccessReview(input: {{reviewId: $reviewId}}) {{ staffAccessReview {{ {_ACCESS_REVIEW} }} }}
}}
"""
REJECT_ACCESS_REVIEW = f"""
mutation ($reviewId: ID!) {{
  rejectStaffAccessReview(input: {{reviewId: $reviewId}}) {{ staffAccessReview {{ {_ACCESS_REVIEW} }} }}
}}
"""
_PROPOSAL = (
    "id kind member { id } reason status problem { code message } proposedBy { id } proposedAt decidedBy { id }"
    " decidedAt finishedAt recipient { id }"
    " reassignment { movedCount keptForConsentCount keptAsSensitiveCount }"
)
OFFICER_PROPOSALS = f"""
query ($first: Int! = 25, $after: String, $filter: OfficerProposalFilter) {{
  officerProposals(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_PROPOSAL} }} }} {_PAGE_INFO}
  }}
}}
"""
RESET_SECOND_FACTOR = f"""
mutation ($userId: ID!, $why: OfficerProposalReason! = DEVICE_LOST) {{
  resetSecondFactor(input: {{userId: $userId, reason: $why}}) {{ officerProposal {{ {_PROPOSAL} }} }}
}}
"""
REINSTATE_STAFF = f"""
mutation ($userId: ID!, $why: OfficerProposalReason! = SUSPENDED_BY_MISTAKE) {{
  reinstateStaff(input: {{userId: $userId, reason: $why}}) {{ officerProposal {{ {_PROPOSAL} }} }}
}}
"""
REASSIGN_CONSULTATIONS = f"""
mutation ($fromDoctorId: ID!, $toDoctorId: ID!, $why: OfficerProposalReason! = LEFT_PRACTICE) {{
  reassignConsultations(input: {{fromDoctorId: $fromDoctorId, toDoctorId: $toDoctorId, reason: $why}}) {{
    officerProposal {{ {_PROPOSAL} }}
  }}
}}
"""
APPROVE_PROPOSAL = f"""
mutation ($id: ID!) {{
  approveOfficerProposal(input: {{officerProposalId: $id}}) {{ officerProposal {{ {_PROPOSAL} }} }}
}}
"""
REJECT_PROPOSAL = f"""
mutation ($id: ID!) {{
  rejectOfficerProposal(input: {{officerProposalId: $id}}) {{ officerProposal {{ {_PROPOSAL} }} }}
}}
"""
SUSPEND = f"""
mutation ($userId: ID!) {{ suspendStaff(input: {{userId: $userId}}) {{ staffMember {{ {_MEMBER} }} }} }}
"""
_PRICES = (
    "prices { egressUsdPerMinute speechUsdPerMinute storageUsdPerGbMonth inputUsdPerMillion cachedUsdPerMillion"
    " outputUsdPerMillion asOf storageAsOf }"
)
COST_REPORT = f"""
query ($since: Date! = "2026-01-01", $until: Date! = "2027-01-01", $groupBy: CostGrouping! = MONTH) {{
  costReport(since: $since, until: $until, groupBy: $groupBy) {{
    groups {{
      startsOn doctor {{ id }} vendor modelName egressMinutes transcribedMinutes storedGbMonths inputTokenCount
      cachedTokenCount outputTokenCount egressUsd speechUsd storageUsd languageUsd totalUsd
    }}
    grouping isCut totalUsd {_PRICES}
  }}
}}
"""
COST_ESTIMATE = f"""
query ($minutes: Int! = 60, $sessionsPerMonth: Int! = 100) {{
  costEstimate(minutes: $minutes, sessionsPerMonth: $sessionsPerMonth) {{
    sizeBytes inputTokenCount outputTokenCount egressUsd speechUsd storageUsd languageUsd sessionUsd monthUsd {_PRICES}
  }}
}}
"""
LIFT_BUDGET = """
mutation ($userId: ID!) {
  liftLanguageBudget(input: {doctorId: $userId}) {
    languageBudget { doctor { id } liftedOn dailyTokenCount usedTokenCount }
  }
}
"""
WEBHOOK = """
mutation ($body: String!, $authorization: String!) {
  processLivekitWebhook(input: {body: $body, authorization: $authorization}) { isDuplicate }
}
"""

DELETE_RECORDING = f"""
mutation ($id: ID!, $reason: DeletionReason!) {{
  deleteRecording(input: {{recordingId: $id, reason: $reason}}) {{ deletion {{ {_DELETION} }} }}
}}
"""
UNDO_DELETION = f"""
mutation ($recordingId: ID!) {{ undoDeletion(input: {{recordingId: $recordingId}}) {{ deletion {{ {_DELETION} }} }} }}
"""
DELETIONS = f"""
query ($first: Int, $after: String, $filter: DeletionFilter) {{
  deletions(first: $first, after: $after, filter: $filter) {{ edges {{ cursor node {{ {_DELETION} }} }} {_PAGE_INFO} }}
}}
"""
SIGNED_NOTE_CERTIFICATES = """
query ($recordingId: ID!, $first: Int! = 25, $after: String) {
  signedNoteCertificates(recordingId: $recordingId, first: $first, after: $after) {
    edges { cursor node { number sha256 json pdfBase64 destroyedAt } } pageInfo { hasNextPage endCursor }
  }
}
"""
DELETION_CERTIFICATES = """
query ($recordingId: ID!, $first: Int! = 25, $after: String) {
  deletionCertificates(recordingId: $recordingId, first: $first, after: $after) {
    edges { cursor node { number sha256 json pdfBase64 } } pageInfo { hasNextPage endCursor }
  }
}
"""

_TRANSCRIPT = """
  id recording { id consultation { id externalId patient { id externalId } } } languageCode fullText wordCount
  turns {
    number startSeconds endSeconds speaker participant { id kind guestRole } text isUnintelligible isUncertain
    confidence originalText
  }
  corrections { turnNumber text speaker correctedBy { id } correctedAt }
"""
TRANSCRIPT = f"""
query ($id: ID!) {{ transcript(recordingId: $id) {{ {_TRANSCRIPT} }} }}
"""
_SIGNED_LINE = "text isWrittenByModel quotes { turnNumber startSeconds endSeconds speaker quote }"
SIGNED_NOTES = f"""
query ($filter: SignedNoteFilter, $first: Int! = 25, $after: String) {{
  signedNotes(filter: $filter, first: $first, after: $after) {{
    edges {{ node {{
      id recording {{ id consultation {{ id patient {{ id }} }} }} signedAt isDestroyed retentionEndsAt
      versions {{
        number signedAt sha256 quoteCount problem {{ code message }} json
        subjective {{ {_SIGNED_LINE} }} objective {{ {_SIGNED_LINE} }}
        assessment {{ {_SIGNED_LINE} }} plan {{ {_SIGNED_LINE} }} addendum
      }}
    }} }}
    {_PAGE_INFO}
  }}
}}
"""
SIGNED_NOTE_PDF = """
query ($filter: SignedNoteFilter) {
  signedNotes(filter: $filter) { edges { node { id pdfBase64 } } }
}
"""
TRANSCRIPT_SEARCH = """
query ($query: String!, $filter: TranscriptFilter, $first: Int! = 20) {
  transcriptSearch(query: $query, filter: $filter, first: $first) {
    hits {
      recording { id consultation { id scheduledAt patient { id externalId } } }
      turnNumber startSeconds endSeconds speaker participant { id kind guestRole } isUncertain
      snippet { text isMatch }
    }
    isCut unreadableCount
  }
}
"""
CORRECT_TRANSCRIPT = f"""
mutation ($id: ID!, $turn: Int!, $text: String!, $expectedText: String, $idempotencyKey: String) {{
  correctTranscript(input: {{
    recordingId: $id, turnNumber: $turn, text: $text, expectedText: $expectedText, idempotencyKey: $idempotencyKey
  }}) {{
    transcript {{ {_TRANSCRIPT} }}
  }}
}}
"""
ATTRIBUTE_TURN = f"""
mutation (
  $id: ID!, $turn: Int! = 0, $speaker: Speaker! = PATIENT, $onlyThisTurn: Boolean! = false, $idempotencyKey: String
) {{
  attributeTurn(input: {{
    recordingId: $id, turnNumber: $turn, speaker: $speaker, onlyThisTurn: $onlyThisTurn, idempotencyKey: $idempotencyKey
  }}) {{
    transcript {{ {_TRANSCRIPT} }}
  }}
}}
"""
_NOTE = "id recording { id } author { id } startSeconds text version writtenAt changedAt changedBy { id }"
_NOTES = f"""
  id kind consultation {{ id externalId patient {{ id externalId }} }} lines {{ {_NOTE} }} isIncomplete
"""
SESSION_NOTES = f"""
query ($id: ID!) {{ sessionNotes(consultationId: $id) {{ {_NOTES} }} }}
"""
WRITE_SESSION_NOTE = f"""
mutation ($recordingId: ID!, $text: String!, $startSeconds: Float, $idempotencyKey: String) {{
  writeSessionNote(input: {{
    recordingId: $recordingId, text: $text, startSeconds: $startSeconds, idempotencyKey: $idempotencyKey
  }}) {{
    sessionNote {{ {_NOTE} }} sessionNotes {{ {_NOTES} }}
  }}
}}
"""
EDIT_SESSION_NOTE = f"""
mutation ($id: ID!, $text: String!, $startSeconds: Float, $basedOnVersion: Int! = 1) {{
  editSessionNote(input: {{
    sessionNoteId: $id, text: $text, startSeconds: $startSeconds, basedOnVersion: $basedOnVersion
  }}) {{
    sessionNote {{ {_NOTE} }} sessionNotes {{ {_NOTES} }}
  }}
}}
"""
DELETE_SESSION_NOTE = f"""
mutation ($id: ID!, $basedOnVersion: Int! = 1) {{
  deleteSessionNote(input: {{sessionNoteId: $id, basedOnVersion: $basedOnVersion}}) {{
    isDeleted sessionNotes {{ {_NOTES} }}
  }}
}}
"""
PSYCHOTHERAPY_NOTES = f"""
query ($id: ID!) {{ psychotherapyNotes(consultationId: $id) {{ {_NOTES} }} }}
"""
WRITE_PSYCHOTHERAPY_NOTE = f"""
mutation ($recordingId: ID!, $text: String!, $startSeconds: Float, $idempotencyKey: String) {{
  writePsychotherapyNote(input: {{
    recordingId: $recordingId, text: $text, startSeconds: $startSeconds, idempotencyKey: $idempotencyKey
  }}) {{
    psychotherapyNote {{ {_NOTE} }} psychotherapyNotes {{ {_NOTES} }}
  }}
}}
"""
EDIT_PSYCHOTHERAPY_NOTE = f"""
mutation ($id: ID!, $text: String!, $startSeconds: Float, $basedOnVersion: Int! = 1) {{
  editPsychotherapyNote(input: {{
    psychotherapyNoteId: $id, text: $text, startSeconds: $startSeconds, basedOnVersion: $basedOnVersion
  }}) {{
    psychotherapyNote {{ {_NOTE} }} psychotherapyNotes {{ {_NOTES} }}
  }}
}}
"""
DELETE_PSYCHOTHERAPY_NOTE = f"""
mutation ($id: ID!, $basedOnVersion: Int! = 1) {{
  deletePsychotherapyNote(input: {{psychotherapyNoteId: $id, basedOnVersion: $basedOnVersion}}) {{
    isDeleted psychotherapyNotes {{ {_NOTES} }}
  }}
}}
"""
SESSION_NOTES_CHANGED = f"""
subscription ($consultationId: ID!) {{ sessionNotesChanged(consultationId: $consultationId) {{ {_NOTES} }} }}
"""
_CITED = "flags citations { turnNumber startSeconds endSeconds quote }"
_INSIGHTS = f"""
  id recording {{ id consultation {{ id externalId patient {{ id externalId }} }} }} languageCode generationNumber
  writtenAt isStale isRefreshed droppedCount dismissedCount writer {{ vendor model }}
  coverage {{
    coveredSeconds isTruncated isInterrupted unusedTrackCount unintelligibleCount unknownSpeakerCount
  }}
  summary {{ number text {_CITED} }} keyPoints {{ number text {_CITED} }}
  actionItems {{ number text who when {_CITED} }} topics {{ number name {_CITED} }}
  chapters {{ number title startSeconds {_CITED} }}
  highlights {{ number text reason startSeconds endSeconds {_CITED} }}
  noteLines {{ number section text {_CITED} }} uncitedTurns {{ turnNumber kinds quotes }}
"""
INSIGHTS = f"query ($id: ID!) {{ insights(recordingId: $id) {{ {_INSIGHTS} }} }}"
TOPICS = "query ($first: Int) { recordings(first: $first) { edges { node { id topics } } } }"
RETRY_INSIGHTS = f"""
mutation ($id: ID!) {{ retryInsights(input: {{recordingId: $id}}) {{ recording {{ {_RECORDING} }} }} }}
"""
REFRESH_INSIGHTS = f"""
mutation ($id: ID!) {{ refreshInsights(input: {{recordingId: $id}}) {{ recording {{ {_RECORDING} }} }} }}
"""
DISMISS_INSIGHT = f"""
mutation ($id: ID!, $line: Int!, $generation: Int! = 1) {{
  dismissInsight(input: {{ recordingId: $id, lineNumber: $line, generationNumber: $generation }}) {{
    insights {{ {_INSIGHTS} }}
  }}
}}
"""
ASK_TRANSCRIPT = """
mutation ($id: ID!, $question: String!, $key: String) {
  askTranscript(input: { recordingId: $id, question: $question, idempotencyKey: $key }) {
    answer {
      status message droppedCount writer { vendor model }
      lines { text flags citations { turnNumber startSeconds endSeconds quote } }
      coverage {
        coveredSeconds isTruncated isInterrupted unusedTrackCount unintelligibleCount unknownSpeakerCount
      }
    }
  }
}
"""
_NOTE_DRAFT = """
  id recording { id consultation { id patient { id externalId } } } version isSigned isStale hasOpenFlags
  sections {
    section isBeingWritten problem { code message }
    lines { number text author flags { flag resolution } citations { turnNumber startSeconds endSeconds quote } }
  }
  uncitedTurns { turnNumber kinds quotes }
  coverage { coveredSeconds isTruncated isInterrupted unusedTrackCount unintelligibleCount unknownSpeakerCount }
  writer { vendor model }
"""
NOTE_DRAFT = f"""
query ($id: ID!) {{ noteDraft(recordingId: $id) {{ {_NOTE_DRAFT} }} }}
"""
EDIT_NOTE = f"""
mutation ($id: ID!, $section: NoteSection! = P, $lines: [NoteLineInput!]!, $version: Int!) {{
  editNote(input: {{recordingId: $id, section: $section, lines: $lines, basedOnVersion: $version}}) {{
    noteDraft {{ {_NOTE_DRAFT} }}
  }}
}}
"""
EDIT_NOTE_OR_SHOW_NEWEST = f"""
mutation ($id: ID!, $section: NoteSection! = P, $lines: [NoteLineInput!]!, $version: Int!) {{
  editNote(input: {{recordingId: $id, section: $section, lines: $lines, basedOnVersion: $version}}) {{
    section {{ section lines {{ text }} }}
    noteDraft {{ {_NOTE_DRAFT} }}
  }}
}}
"""
KEEP_NOTE_FLAG = f"""
mutation ($id: ID!, $line: Int!, $flag: LineFlag! = NUMBER, $version: Int!) {{
  keepNoteFlag(input: {{recordingId: $id, lineNumber: $line, flag: $flag, basedOnVersion: $version}}) {{
    noteDraft {{ {_NOTE_DRAFT} }}
  }}
}}
"""
REGENERATE_SECTION = f"""
mutation ($id: ID!, $section: NoteSection! = P, $version: Int!) {{
  regenerateSection(input: {{recordingId: $id, section: $section, basedOnVersion: $version}}) {{
    noteDraft {{ {_NOTE_DRAFT} }}
  }}
}}
"""
SIGN_NOTE = f"""
mutation ($id: ID!, $version: Int!) {{
  signNote(input: {{recordingId: $id, basedOnVersion: $version}}) {{
    noteDraft {{ {_NOTE_DRAFT} }}
    signature {{ version signedAt sha256 }}
  }}
}}
"""
ADD_ADDENDUM = """
mutation ($id: ID!, $lines: [String!]!, $idempotencyKey: String) {
  addAddendum(input: {recordingId: $id, lines: $lines, idempotencyKey: $idempotencyKey}) {
    signature { version signedAt sha256 }
  }
}
"""
RETRY_TRANSCRIPTION = f"""
mutation ($id: ID!) {{ retryTranscription(input: {{recordingId: $id}}) {{ recording {{ {_RECORDING} }} }} }}
"""
SWITCH_TRANSCRIPTION = f"""
mutation ($consultationId: ID!, $isTranscribed: Boolean!) {{
  switchTranscription(input: {{consultationId: $consultationId, isTranscribed: $isTranscribed}}) {{
    consultation {{ {_CONSULTATION} }}
  }}
}}
"""
ISSUE_SUBTITLE_URLS = """
mutation ($id: ID!) {
  issueSubtitleUrls(input: {recordingId: $id}) {
    subtitleUrls { webvtt srt expiresAt expiresInSeconds redisclosureNotice }
  }
}
"""
