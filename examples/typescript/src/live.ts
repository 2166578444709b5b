import { print } from "graphql";
import { type Client, createClient } from "graphql-ws";
import type { Token } from "./api.js";
import { graphql } from "./graphql/index.js";
import type { RecordingChangedSubscription } from "./graphql/graphql.js";

const RECORDING_CHANGED = graphql(`
  subscription RecordingChanged($consultationId: ID!) {
    recordingChanged(consultationId: $consultationId) {
      id
      status
      errorText
      transcription { status piecesDone piecesTotal }
    }
  }
`);

export type ChangedRecording = RecordingChangedSubscription["recordingChanged"];

/**
 * One connection for all subscriptions. The server ends it when the token expires (4403): graphql-ws connects again
 * and asks for a token anew. After 4401 the session is over, and `onSessionOver` is called.
 */
export function connectLive(
  url: string,
  token: Token,
  onSessionOver: (reason: string) => void,
  webSocketImpl?: unknown,
): Client {
  return createClient({
    url,
    connectionParams: async () => ({ authorization: `Bearer ${await token()}` }),
    retryAttempts: Number.MAX_SAFE_INTEGER,
    shouldRetry: () => true,
    ...(webSocketImpl ? { webSocketImpl } : {}),
    on: {
      closed: (event) => {
        const { code, reason } = event as { code?: number; reason?: string };
        if (code === 4401) onSessionOver(reason ?? "");
      },
    },
  });
}

/** The consultation's newest recording at once, and each that changes. After a reconnection it begins anew. */
export function watchRecordings(
  client: Client,
  consultationId: string,
  onChange: (recording: ChangedRecording) => void,
  onEnd: (error: unknown) => void,
): () => void {
  return client.subscribe<RecordingChangedSubscription>(
    { query: print(RECORDING_CHANGED), variables: { consultationId } },
    {
      next: ({ data }) => {
        if (data) onChange(data.recordingChanged);
      },
      error: onEnd,
      complete: () => onEnd(undefined),
    },
  );
}
