import { cacheExchange } from "@urql/exchange-graphcache";

/**
 * A normalised cache: each object with an `id` is kept once, by its type and id, and every view that shows the object
 * changes with it. The types below have no `id` of their own and are kept as part of the object that contains them.
 */
export const makeCache = () =>
  cacheExchange({
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
      ThumbnailUrl: embedded,
      RequestHeader: embedded,
    },
  });

const embedded = () => null;
