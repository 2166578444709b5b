import type { Api } from "./api.js";
import { graphql } from "./graphql/index.js";

const TRANSCRIPT = graphql(`
  query Transcript($recordingId: ID!) {
    transcript(recordingId: $recordingId) {
      languageCode
      turns { number startSeconds endSeconds speaker text originalText }
    }
  }
`);

const SEARCH = graphql(`
  query TranscriptSearch($query: String!, $filter: TranscriptFilter) {
    transcriptSearch(query: $query, filter: $filter, first: 20) {
      isCut
      hits { recordingId turnNumber startSeconds speaker snippet { text isMatch } }
    }
  }
`);

const SUBTITLES = graphql(`
  mutation IssueSubtitleUrls($input: IssueSubtitleUrlsInput!) {
    issueSubtitleUrls(input: $input) { subtitleUrls { webvtt srt expiresAt } }
  }
`);

/** What was said, turn by turn. Throws NOT_FOUND before the transcription is READY. */
export async function readTranscript(api: Api, recordingId: string) {
  return (await api.ask(TRANSCRIPT, { recordingId })).transcript;
}

/** Every word of `query` was said in each hit; a phrase is in double quotes. */
export async function search(api: Api, query: string) {
  return (await api.ask(SEARCH, { query, filter: null })).transcriptSearch;
}

/** Addresses of the subtitles, relative to the API's. */
export async function issueSubtitleUrls(api: Api, recordingId: string) {
  return (await api.ask(SUBTITLES, { input: { recordingId } })).issueSubtitleUrls.subtitleUrls;
}
