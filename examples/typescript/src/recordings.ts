import type { Api } from "./api.js";
import { graphql } from "./graphql/index.js";
import type { PurposeOfUse } from "./graphql/graphql.js";

const RECORDINGS = graphql(`
  query Recordings($first: Int!, $after: String) {
    recordings(first: $first, after: $after) {
      edges {
        node {
          id
          status
          createdAt
          durationSeconds
          sizeBytes
          errorText
          consultation { id externalId scheduledAt }
        }
      }
      pageInfo { hasNextPage endCursor }
    }
  }
`);

const ISSUE_URL = graphql(`
  mutation IssueDownloadUrl($input: IssueDownloadUrlInput!) {
    issueDownloadUrl(input: $input) { downloadUrl { url expiresAt } }
  }
`);

const SOUNDS = graphql(`
  query Sounds($id: ID!) {
    recording(by: { id: $id }) {
      speakers {
        id
        medium
        participant { id kind guestRole }
        status
        startedAt
        durationSeconds
        errorText
      }
    }
  }
`);

/** One page of the library; `after` is the `endCursor` of the page before. */
export async function listRecordings(api: Api, after: string | null = null) {
  const { recordings } = await api.ask(RECORDINGS, { first: 20, after });
  return { items: recordings.edges.map((edge) => edge.node), ...recordings.pageInfo };
}

/** The sounds recorded beside a video, oldest first. `issueUrl` takes the id of each that is READY. */
export async function listSounds(api: Api, recordingId: string) {
  return (await api.ask(SOUNDS, { id: recordingId })).recording.speakers;
}

/** A URL that plays or downloads one recording for a few minutes. Each call is in the audit log and counts. */
export async function issueUrl(
  api: Api,
  recordingId: string,
  stepUp: () => Promise<void>,
  purposeOfUse: PurposeOfUse = "TREATMENT",
) {
  const issued = await api.askAtAal2(ISSUE_URL, { input: { recordingId, purposeOfUse } }, stepUp);
  return issued.issueDownloadUrl.downloadUrl;
}
