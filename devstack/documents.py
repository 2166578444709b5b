"""The GraphQL operations that the demo sends."""

CONSENT_TEXT = "{ consentText { version sha256 markdown } }"

REGISTER = """
mutation ($consultation: RegisterConsultationInput!) {
  registerConsultation(input: $consultation) {
    consultation { id externalId patientExternalId roomName participants { id kind } }
  }
}
"""

RECORD_CONSENT = """
mutation ($consent: RecordConsentInput!) { recordConsent(input: $consent) { consent { id decision source } } }
"""

JOIN = """
mutation ($consultationId: ID!) {
  joinConsultation(input: { consultationId: $consultationId }) { joinToken { token } }
}
"""

ACTIVE_ROOMS = "{ activeRooms { consultation { id } participantCount } }"

START_RECORDING = """
mutation ($consultationId: ID!) {
  startRecording(input: { consultationId: $consultationId }) { recording { id status } }
}
"""

STOP_RECORDING = """
mutation ($recordingId: ID!) {
  stopRecording(input: { recordingId: $recordingId }) { recording { id status } }
}
"""

RECORDING_STATUS = """
query ($id: ID!) { recording(by: {id: $id}) { id status problem { code } sizeBytes sha256 durationSeconds } }
"""

RECORDING_MEDIA = """
query ($id: ID!) {
  recording(by: {id: $id}) {
    id status problem { code } sizeBytes sha256 durationSeconds
    mediaFiles { id kind participant { kind } status problem { code } sizeBytes sha256 durationSeconds }
  }
}
"""

TRANSCRIPTION = """
query ($id: ID!) {
  recording(by: {id: $id}) { transcription { status chunksDone chunkCount problem { code } } }
}
"""

TRANSCRIPT = """
query ($id: ID!) { transcript(recordingId: $id) { turns { number startSeconds endSeconds speaker text } } }
"""

INSIGHTS_PROGRESS = """
query ($id: ID!) { recording(by: {id: $id}) { insights { status partsDone partCount problem { code } } } }
"""

_CITATIONS = "citations { turnNumber startSeconds endSeconds quote }"

INSIGHTS = f"""
query ($id: ID!) {{
  insights(recordingId: $id) {{
    summary {{ text flags {_CITATIONS} }}
    keyPoints {{ text flags {_CITATIONS} }}
    actionItems {{ text who when flags {_CITATIONS} }}
    topics {{ name flags {_CITATIONS} }}
    chapters {{ title startSeconds flags {_CITATIONS} }}
    highlights {{ text reason startSeconds endSeconds flags {_CITATIONS} }}
    noteLines {{ section text flags {_CITATIONS} }}
    droppedCount
    coverage {{
      coveredSeconds isTruncated isInterrupted unusedTrackCount unintelligibleCount unknownSpeakerCount
    }}
    writer {{ vendor model }}
  }}
}}
"""

ASK_TRANSCRIPT = f"""
mutation ($asked: AskTranscriptInput!) {{
  askTranscript(input: $asked) {{
    answer {{ status message lines {{ text flags {_CITATIONS} }} writer {{ vendor model }} }}
  }}
}}
"""

_NOTE_DRAFT = f"""
    version isSigned
    sections {{ section lines {{ number text author flags {{ flag resolution }} {_CITATIONS} }} }}
"""

NOTE_DRAFT = f"query ($id: ID!) {{ noteDraft(recordingId: $id) {{ {_NOTE_DRAFT} }} }}"

KEEP_NOTE_FLAG = f"""
mutation ($kept: KeepNoteFlagInput!) {{ keepNoteFlag(input: $kept) {{ noteDraft {{ {_NOTE_DRAFT} }} }} }}
"""

SIGN_NOTE = """
mutation ($signed: SignNoteInput!) {
  signNote(input: $signed) { noteDraft { isSigned } signature { version signedAt sha256 } }
}
"""

_CLIP = "id status startSeconds endSeconds sizeBytes sha256 problem { code }"

CREATE_CLIP = f"""
mutation ($asked: CreateClipInput!) {{ createClip(input: $asked) {{ clip {{ {_CLIP} }} }} }}
"""

CLIPS = f"query ($id: ID!) {{ recording(by: {{id: $id}}) {{ clips {{ {_CLIP} }} }} }}"

COST_REPORT = """
query ($since: Date!, $until: Date!) {
  costReport(since: $since, until: $until, groupBy: VENDOR) {
    groups {
      vendor modelName egressMinutes transcribedMinutes storedGbMonths
      inputTokenCount cachedTokenCount outputTokenCount totalUsd
    }
    totalUsd
    prices { asOf }
  }
}
"""

SEARCH = """
query ($query: String!, $filter: TranscriptFilter) {
  transcriptSearch(query: $query, filter: $filter) {
    hits { recording { id } startSeconds speaker snippet { text isMatch } }
  }
}
"""

ISSUE_SUBTITLES = """
mutation ($id: ID!) { issueSubtitleUrls(input: { recordingId: $id }) { subtitleUrls { webvtt } } }
"""

SWITCH_TRANSCRIPTION = """
mutation ($consultationId: ID!, $isTranscribed: Boolean!) {
  switchTranscription(input: { consultationId: $consultationId, isTranscribed: $isTranscribed }) {
    consultation { isTranscribed }
  }
}
"""

CHANGES = """
subscription ($consultationId: ID!) {
  recordingChanged(consultationId: $consultationId) { id status problem { code } }
}
"""

RECORDING_STORAGE = """
query ($id: ID!) { storedObject(recordingId: $id) { exists sizeBytes contentType } }
"""

RECORDINGS = """
{ recordings(first: 50) { edges { node { id status consultation { externalId } } } } }
"""

ISSUE_URL = """
mutation ($recordingId: ID!, $file: ID) {
  issueDownloadUrl(input: { recordingId: $recordingId, file: $file, purposeOfUse: TREATMENT }) {
    downloadUrl { url expiresAt }
  }
}
"""

IMPORT = """
mutation ($wanted: ImportRecordingInput!) {
  importRecording(input: $wanted) { recordingImport { id uploadUrl uploadHeaders { name value } } }
}
"""

COMPLETE_IMPORT = """
mutation ($id: ID!) { completeImport(input: { importId: $id }) { recording { id status } } }
"""

SUSPEND = """
mutation ($userId: ID!) { suspendStaff(input: { userId: $userId }) { staffMember { status } } }
"""

AUDIT_EVENTS = """
query ($since: DateTime!, $after: String) {
  auditEvents(first: 100, after: $after, filter: { recordedDuring: { from: $since } }) {
    edges { node { action outcome actor { id } reason } }
    pageInfo { endCursor hasNextPage }
  }
}
"""

PLACE_HOLD = """
mutation ($hold: PlaceLegalHoldInput!) {
  placeLegalHold(input: $hold) { legalHold { id consultation { id } patient { id } } coveredRecordingCount }
}
"""

RELEASE_HOLD = """
mutation ($id: ID!) { releaseLegalHold(input: { legalHoldId: $id }) { legalHold { id releasedAt } } }
"""

DELETE = """
mutation ($id: ID!) {
  deleteRecording(input: { recordingId: $id, reason: RECORDED_IN_ERROR }) { deletion { id status undoUntil } }
}
"""

UNDO_DELETION = """
mutation ($id: ID!) { undoDeletion(input: { recordingId: $id }) { deletion { id status } } }
"""

CERTIFICATES = """
query ($id: ID!) { deletionCertificates(recordingId: $id) { edges { node { number sha256 json } } } }
"""

SHARE = """
mutation ($share: ShareConsultationInput!) { shareConsultation(input: $share) { share { id isActive } } }
"""

END_SHARE = "mutation ($id: ID!) { endShare(input: { shareId: $id }) { share { endReason } } }"

ACCESS_BASIS = "query ($id: ID!) { consultation(by: {id: $id}) { accessBasis } }"

ISSUE_PLAYBACK = """
mutation ($recordingId: ID!) {
  issuePlaybackUrl(input: { recordingId: $recordingId, purposeOfUse: TREATMENT }) { playbackUrl { url } }
}
"""

BREAK_GLASS = """
mutation ($patient: String!) {
  breakGlass(input: { patientExternalId: $patient, reason: MEDICAL_EMERGENCY }) { emergencyAccess { id endsAt } }
}
"""

ALERTS = """
{ alerts(filter: { statuses: [OPEN] }) { edges { node { kind entityIds message } } } }
"""

REVIEW_CASES = """
{ reviewCases(filter: { statuses: [OPEN] }) { edges { node { id rule subject { id } } } } }
"""

RECORD_DISPOSITION = """
mutation ($found: RecordDispositionInput!) {
  recordDisposition(input: $found) { reviewCase { status disposition } }
}
"""

ACCESS_ENTRIES = """
{ accessEntries(first: 100) { edges { node { when who text why isRefused refusal } } } }
"""
