import type { Api } from "./api.js";
import { graphql } from "./graphql/index.js";

const TRANSCRIPT = graphql(`
  query Transcript($recordingId: ID!) {
    transcript(recordingId: $recordingId) {
      language
      turns { number start end speaker text heardText }
    }
  }
`);

const SEARCH = graphql(`
  query SearchTranscripts($query: String!, $filter: TranscriptFilter) {
    searchTranscripts(query: $query, filter: $filter, first: 20) {
      isCut
      hits { recordingId turn start speaker text highlights { start end } }
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
  return (await api.ask(SEARCH, { query, filter: null })).searchTranscripts;
}

/** A hit's text in parts, for marking. Highlights count code points, as `Array.from` does, not UTF-16 units. */
export function markedParts(text: string, highlights: readonly { start: number; end: number }[]) {
  const characters = Array.from(text);
  const parts: { text: string; isMatch: boolean }[] = [];
  let done = 0;
  for (const { start, end } of highlights) {
    parts.push({ text: characters.slice(done, start).join(""), isMatch: false });
    parts.push({ text: characters.slice(start, end).join(""), isMatch: true });
    done = end;
  }
  parts.push({ text: characters.slice(done).join(""), isMatch: false });
  return parts.filter((part) => part.text !== "");
}

/** Addresses of the subtitles, relative to the API's. */
export async function issueSubtitleUrls(api: Api, recordingId: string) {
  return (await api.ask(SUBTITLES, { input: { recordingId } })).issueSubtitleUrls.subtitleUrls;
}
