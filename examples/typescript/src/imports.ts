import type { Api } from "./api.js";
import { graphql } from "./graphql/index.js";

const IMPORT = graphql(`
  mutation ImportRecording($input: ImportRecordingInput!) {
    importRecording(input: $input) { recordingImport { id uploadUrl uploadHeaders { name value } } }
  }
`);

const COMPLETE = graphql(`
  mutation CompleteImport($input: CompleteImportInput!) {
    completeImport(input: $input) { recordingImport { id status } recording { id status } }
  }
`);

/** Sends the file; `onProgress` is told the share that is uploaded, from 0 to 1. */
export type Upload = (
  url: string,
  headers: readonly [string, string][],
  file: Blob,
  onProgress: (share: number) => void,
) => Promise<void>;

/** Imports an MP4 that was recorded elsewhere; the recording is VERIFYING then, and READY a little later. */
export async function importRecording(
  api: Api,
  consultationId: string,
  file: Blob,
  onProgress: (share: number) => void,
  upload: Upload = uploadFromPage,
) {
  const input = { consultationId, contentType: "video/mp4", sizeBytes: file.size };
  const { importRecording: begun } = await api.change(IMPORT, { input });
  const { id: importId, uploadUrl, uploadHeaders } = begun.recordingImport;
  if (!uploadUrl) throw new Error("The import is completed already.");
  // A page may not set Content-Length: its browser does. The others are signed, and sent as they are.
  const headers = uploadHeaders
    .filter(({ name }) => name.toLowerCase() !== "content-length")
    .map(({ name, value }): [string, string] => [name, value]);
  await upload(uploadUrl, headers, file, onProgress);
  const { completeImport } = await api.change(COMPLETE, { input: { importId } });
  return completeImport.recording;
}

/** By XMLHttpRequest, since fetch tells no progress. 412: it was uploaded before, so complete the import. */
export const uploadFromPage: Upload = (url, headers, file, onProgress) =>
  new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    for (const [name, value] of headers) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => onProgress(loaded / total);
    request.onload = () =>
      request.status === 200 || request.status === 412
        ? resolve()
        : reject(new Error(`The bucket answered ${request.status}.`));
    request.onerror = () => reject(new Error("The bucket cannot be reached, or does not know this origin."));
    request.send(file);
  });
