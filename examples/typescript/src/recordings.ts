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
          problem { code message }
          consultation { id externalId scheduledAt patient { id externalId } }
        }
      }
      pageInfo { hasNextPage endCursor }
    }
  }
`);

const ISSUE_URL = graphql(`
  mutation IssueDownloadUrl($input: IssueDownloadUrlInput!) {
    issueDownloadUrl(input: $input) { downloadUrl { url expiresInSeconds } }
  }
`);

/** One page of the library; `after` is the `endCursor` of the page before. */
export async function listRecordings(api: Api, after: string | null = null) {
  const { recordings } = await api.ask(RECORDINGS, { first: 20, after }, "network-only");
  return { items: recordings.edges.map((edge) => edge.node), ...recordings.pageInfo };
}

/**
 * A URL that plays or downloads one recording for a few minutes, or with `file` one of its media files. Each call is in
 * the audit log and counts.
 */
export async function issueUrl(
  api: Api,
  recordingId: string,
  stepUp: () => Promise<void>,
  { file = null, purposeOfUse = "TREATMENT" }: { file?: string | null; purposeOfUse?: PurposeOfUse } = {},
) {
  const input = { recordingId, file, purposeOfUse };
  const { issueDownloadUrl } = await api.changeAtAal2(ISSUE_URL, { input }, stepUp);
  return issueDownloadUrl.downloadUrl;
}
