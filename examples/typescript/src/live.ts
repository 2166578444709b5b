import { type Client, createClient } from "graphql-ws";
import type { Api, Token } from "./api.js";
import { graphql } from "./graphql/index.js";
import type { RecordingsChangedSubscription } from "./graphql/graphql.js";

const RECORDINGS_CHANGED = graphql(`
  subscription RecordingsChanged {
    recordingsChanged {
      id
      status
      durationSeconds
      sizeBytes
      retentionEndsAt
      problem { code message }
      transcription { status chunksDone chunkCount problem { code message } }
      deletion { id status reason requestedAt undoUntil }
    }
  }
`);

const CONSULTATION_CHANGED = graphql(`
  subscription ConsultationChanged($consultationId: ID!) {
    consultationChanged(consultationId: $consultationId) {
      id
      participants { id kind guestRole joinedAt mustConsent hasConsented }
      recordingBlockers { reason participant { id } }
    }
  }
`);

export type ChangedRecording = NonNullable<RecordingsChangedSubscription["recordingsChanged"]>;

/**
 * One connection for all subscriptions. The server ends it when the token expires (4403, `TOKEN_EXPIRED`): graphql-ws
 * connects again then, and asks for a token anew. `onRefused` is told why the session may not go on: after 4401 it is
 * over, after any other 4403 something is missing, such as the second factor.
 */
export function connectLive(
  url: string,
  token: Token,
  onRefused: (reason: string) => void,
  webSocketImpl?: unknown,
): Client {
  return createClient({
    url,
    connectionParams: async () => ({ authorization: `Bearer ${await token()}` }),
    retryAttempts: Number.MAX_SAFE_INTEGER,
    shouldRetry: (event) => !isRefusal(event),
    ...(webSocketImpl ? { webSocketImpl } : {}),
    on: {
      closed: (event) => {
        if (isRefusal(event)) onRefused(event.reason);
      },
    },
  });
}

function isRefusal(event: unknown): event is { code: number; reason: string } {
  const { code, reason } = event as { code?: number; reason?: string };
  return code === 4401 || (code === 4403 && reason !== "TOKEN_EXPIRED");
}

/** The doctor's recordings: first their present state, then each change. After a reconnection it begins anew. */
export function followRecordings(
  api: Api,
  onChange: (recording: ChangedRecording) => void,
  onError: (error: Error) => void = () => undefined,
): () => void {
  return api.follow(RECORDINGS_CHANGED, {}, ({ recordingsChanged }) => recordingsChanged && onChange(recordingsChanged), onError);
}

/** Consents, joins and recordings of one consultation, which every view that shows them then shows. */
export function followConsultation(api: Api, consultationId: string): () => void {
  return api.follow(CONSULTATION_CHANGED, { consultationId });
}
