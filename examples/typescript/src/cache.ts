import { type Entity, cacheExchange } from "@urql/exchange-graphcache";

/**
 * A normalised cache: each object with an `id` is kept once, by its type and id, and every view that shows the object
 * changes with it. The types below have no `id` of their own and are kept as part of the object that contains them.
 */
export const makeCache = () =>
  cacheExchange({
    updates: {
      Mutation: {
        // The payload has the deletion and not its recording: the recording shows the new deletion from now on.
        deleteRecording: (result, { input }, cache) => {
          const { recordingId } = input as { recordingId: string };
          const { deletion } = (result["deleteRecording"] ?? {}) as { deletion?: Entity };
          if (deletion) cache.link({ __typename: "Recording", id: recordingId }, "deletion", deletion);
        },
      },
    },
    keys: {
      Correction: embedded,
      DeletionProblem: embedded,
      RecordingBlocker: embedded,
      RecordingProblem: embedded,
      SnippetPart: embedded,
      StoredObject: embedded,
      Transcription: embedded,
      TranscriptionProblem: embedded,
      TranscriptHit: embedded,
      TranscriptSearch: embedded,
      Turn: embedded,
      // A connection and its edges are parts of the list that they are a page of.
      RecordingConnection: embedded,
      RecordingEdge: embedded,
      PageInfo: embedded,
      // Secrets and texts of one moment.
      ConsentText: ({ sha256 }) => String(sha256),
      DownloadUrl: embedded,
      SubtitleUrls: embedded,
      RequestHeader: embedded,
    },
  });

const embedded = () => null;
