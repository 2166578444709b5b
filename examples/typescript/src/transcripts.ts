import type { Api } from "./api.js";
import { graphql } from "./graphql/index.js";

const SEARCH = graphql(`
  query SearchTranscripts($query: String!, $filter: TranscriptFilter) {
    transcriptSearch(query: $query, filter: $filter, first: 20) {
      isCut
      hits {
        recording { id consultation { id scheduledAt patient { id externalId } } }
        turnNumber
        startSeconds
        speaker
        participant { id kind guestRole }
        snippet { text isMatch }
      }
    }
  }
`);

const SUBTITLES = graphql(`
  mutation IssueSubtitleUrls($input: IssueSubtitleUrlsInput!) {
    issueSubtitleUrls(input: $input) { subtitleUrls { webvtt srt expiresInSeconds } }
  }
`);

/** Every word of `query` was said in each hit; a phrase is in double quotes. Mark the parts with `isMatch`. */
export async function search(api: Api, query: string) {
  const { transcriptSearch } = await api.ask(SEARCH, { query, filter: null }, "network-only");
  return transcriptSearch;
}

/** Addresses of the subtitles, relative to the API's. */
export async function issueSubtitleUrls(api: Api, recordingId: string) {
  const { issueSubtitleUrls: issued } = await api.change(SUBTITLES, { input: { recordingId } });
  return issued.subtitleUrls;
}
