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

export type ChangedRecording = NonNullable<RecordingChangedSubscription["recordingChanged"]>;

/**
 * One connection for all subscriptions. The server ends it when the token expires (4403, `token_expired`): graphql-ws
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
  return code === 4401 || (code === 4403 && reason !== "token_expired");
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
        if (data?.recordingChanged) onChange(data.recordingChanged);
      },
      error: onEnd,
      complete: () => onEnd(undefined),
    },
  );
}
