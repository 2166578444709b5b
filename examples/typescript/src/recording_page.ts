import type { Answer, Api } from "./api.js";
import { graphql } from "./graphql/index.js";
import type { DeletionReason, RecordingPageQuery } from "./graphql/graphql.js";

/**
 * The page of one recording as one operation. Each root field is a part of its own: if the API refuses one, for example
 * the transcript of a recording without speech, the others are answered all the same. Later parts, such as insights, are
 * further root fields.
 */
const PAGE = graphql(`
  query RecordingPage($recordingId: ID!) {
    recording(by: { id: $recordingId }) {
      ...RecordingParts
      consultation { id externalId scheduledAt patient { id externalId } }
      mediaFiles {
        id
        kind
        participant { id kind guestRole }
        status
        startedAt
        durationSeconds
        problem { code message }
      }
    }
    transcript(recordingId: $recordingId) { ...TranscriptParts }
    storedObject(recordingId: $recordingId) { exists sizeBytes }
  }

  fragment RecordingParts on Recording {
    id
    status
    startedAt
    durationSeconds
    isTruncated
    isInterrupted
    isHeld
    retentionEndsAt
    problem { code message }
    transcription { status chunksDone chunkCount problem { code message } }
    deletion { ...DeletionParts }
  }

  fragment DeletionParts on Deletion {
    id
    status
    reason
    requestedAt
    undoUntil
    problem { code message }
  }

  fragment TranscriptParts on Transcript {
    id
    languageCode
    turns {
      number
      startSeconds
      endSeconds
      speaker
      participant { id kind guestRole }
      text
      originalText
      isUncertain
      isUnintelligible
    }
  }
`);

const CORRECT = graphql(`
  mutation CorrectTranscript($input: CorrectTranscriptInput!) {
    correctTranscript(input: $input) { transcript { ...TranscriptParts } }
  }
`);

const DELETE = graphql(`
  mutation DeleteRecording($input: DeleteRecordingInput!) {
    deleteRecording(input: $input) { deletion { ...DeletionParts } recording { ...RecordingParts } }
  }
`);

const UNDO = graphql(`
  mutation UndoDeletion($input: UndoDeletionInput!) {
    undoDeletion(input: $input) { deletion { ...DeletionParts } recording { ...RecordingParts } }
  }
`);

export type RecordingPage = Answer<RecordingPageQuery>;

/** Shows the page now, and again after each correction, deletion or live change of its objects. */
export function watchRecordingPage(api: Api, recordingId: string, onPage: (page: RecordingPage) => void): () => void {
  return api.watch(PAGE, { recordingId }, onPage);
}

/** Corrects one turn. A CONFLICT means that somebody else corrected `expectedText` first. Repeat it with the same key. */
export async function correctTurn(
  api: Api,
  turn: { recordingId: string; turnNumber: number; expectedText: string; text: string },
  idempotencyKey: string = crypto.randomUUID(),
) {
  const { correctTranscript } = await api.change(CORRECT, { input: { ...turn, idempotencyKey } });
  return correctTranscript.transcript;
}

export async function deleteRecording(api: Api, recordingId: string, reason: DeletionReason) {
  return (await api.change(DELETE, { input: { recordingId, reason } })).deleteRecording.deletion;
}

export async function undoDeletion(api: Api, recordingId: string) {
  return (await api.change(UNDO, { input: { recordingId } })).undoDeletion.deletion;
}
