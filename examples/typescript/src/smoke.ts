// `npm run smoke -- REPORT`: the example against the running demo, by what `resguardo demo --json REPORT` wrote.
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";
import { Api } from "./api.js";
import { type BeforeRecording, readConsentText, recordConsent, registerConsultation, watchConsents } from "./consents.js";
import { importRecording, type Upload } from "./imports.js";
import { type ChangedRecording, connectLive, followRecordings } from "./live.js";
import {
  type RecordingPage,
  correctTurn,
  deleteRecording,
  undoDeletion,
  watchRecordingPage,
} from "./recording_page.js";
import { issueUrl, listRecordings } from "./recordings.js";
import { accessToken, signIn, stepUp } from "./session.js";
import { Shown } from "./shown.js";
import { issueSubtitleUrls, search } from "./transcripts.js";

interface Report {
  graphql_url: string;
  subscriptions_url: string;
  supabase_url: string;
  publishable_key: string;
  logins: { doctor: { email: string; password: string; otpauth: string } };
  consultation: { id: string };
  recording: { id: string; size: number };
  transcript: { turns: unknown[] };
}

const path = process.argv[2];
if (!path) throw new Error("usage: npm run smoke -- REPORT");
const report = JSON.parse(readFileSync(path, "utf-8")) as Report;
const { doctor } = report.logins;

const supabase = createClient(report.supabase_url, report.publishable_key, {
  auth: { persistSession: false },
  realtime: { transport: WebSocket as never }, // Node 20 has none; a browser needs no such option
});
const askCode = async () => totp(doctor.otpauth);
const token = () => accessToken(supabase);
const live = connectLive(report.subscriptions_url, token, fail, WebSocket);
const queries: string[] = [];
const counted: typeof fetch = async (to, init) => {
  const { query, operationName } = JSON.parse(String(init?.body)) as { query: string; operationName: string };
  if (query.startsWith("query")) queries.push(operationName);
  return fetch(to, init);
};
const api = new Api({ url: report.graphql_url, token, connection: live, fetch: counted });

await signIn(supabase, doctor.email, doctor.password, askCode);
const { items } = await listRecordings(api);
expect(items.some(({ id }) => id === report.recording.id), "the library has the demo's recording");

const played = await issueUrl(api, report.recording.id, () => stepUp(supabase, askCode));
const film = await (await fetch(played.url)).blob();
expect(film.size === report.recording.size, "the URL plays the whole recording");

const page = new Shown<RecordingPage>();
const leavePage = watchRecordingPage(api, report.recording.id, page.show);
await page.until(({ data }) => data?.recording?.id === report.recording.id, "one operation fills the recording's page");
if (report.transcript.turns.length > 0) await checkTranscript(report.recording.id);
await withoutQuery("a deletion is shown on the page, and no query is sent", async () => {
  await deleteRecording(api, report.recording.id, "RECORDED_IN_ERROR");
  await page.until(({ data }) => data?.recording?.deletion?.status === "REQUESTED", "the page shows the deletion");
  await undoDeletion(api, report.recording.id);
  await page.until(({ data }) => data?.recording?.deletion?.status !== "REQUESTED", "and that it is undone");
});
leavePage();

const registered = await registerConsultation(api, `example ${Date.now()}`, "EXAMPLE-1");
const consents = new Shown<BeforeRecording>();
const leaveConsents = watchConsents(api, registered.id, consents.show);
const before = await consents.until(({ participants }) => participants.length === 2, "nobody has consented yet");
expect(before.participants.every((one) => one.mustConsent && !one.hasConsented), "both must consent");
const [first] = before.participants;
if (!first) fail("the consultation has no participant");
await readConsentText(api, "EN");
await withoutQuery("a consent is shown at once, and no query is sent", async () => {
  await recordConsent(api, first.id, "EN");
  await consents.until(
    ({ participants, recordingBlockers }) =>
      participants.some((one) => one.id === first.id && one.hasConsented) &&
      !recordingBlockers.some(({ participant }) => participant?.id === first.id),
    "the page shows the consent, and that it is no longer missing",
  );
});
leaveConsents();

const told = new Shown<ChangedRecording>();
const stop = followRecordings(api, told.show, fail);
await told.until(() => true, "the page is told the present state");
await supabase.auth.refreshSession();
told.forget();
live.terminate();
await told.until(() => true, "after a reconnection, with the new token, it is told again");

const upload: Upload = async (url, headers, file, onProgress) => {
  const answer = await fetch(url, { method: "PUT", headers: [...headers], body: file });
  if (!answer.ok) throw new Error(`The bucket answered ${answer.status}.`);
  onProgress(1);
};
const imported = await importRecording(api, report.consultation.id, film, () => undefined, upload);
const importedPage = new Shown<RecordingPage>();
const leaveImported = watchRecordingPage(api, imported.id, importedPage.show);
await importedPage.until(
  ({ data, refused }) => data?.recording?.id === imported.id && refused.get("transcript")?.code === "NOT_FOUND",
  "a page without a transcript shows its recording, and why the transcript is missing",
);
await told.until(({ id, status }) => id === imported.id && status === "READY", "an import is verified, and READY");
await importedPage.until(({ data }) => data?.recording?.status === "READY", "and its page shows that");
leaveImported();

stop();
await supabase.auth.signOut({ scope: "local" });
console.log("example: ok");
process.exit(0);

async function checkTranscript(recordingId: string): Promise<void> {
  const { data } = await page.until(() => true, "the page has a transcript");
  const turns = data?.transcript?.turns ?? [];
  expect(turns.length === report.transcript.turns.length, "the transcript has its turns");
  const words = turns.flatMap((turn) => turn.text.split(" ")).sort((one, other) => other.length - one.length);
  const hit = (await search(api, words[0] ?? "")).hits[0];
  expect(hit?.snippet.some((part) => part.isMatch) === true, "a word is found");
  const { webvtt } = await issueSubtitleUrls(api, recordingId);
  const subtitles = await (await fetch(new URL(webvtt, report.graphql_url))).text();
  expect(subtitles.startsWith("WEBVTT"), "the subtitles are WebVTT");
  const turn = turns.find(({ text }) => text !== "");
  if (!turn) fail("no turn has a text");
  const corrected = `${turn.text} (corrected)`;
  await withoutQuery("a correction is shown on the page, and no query is sent", async () => {
    for (const [expectedText, text] of [[turn.text, corrected], [corrected, turn.text]] as const) {
      await correctTurn(api, { recordingId, turnNumber: turn.number, expectedText, text });
      await page.until(
        (shown) => shown.data?.transcript?.turns.find(({ number }) => number === turn.number)?.text === text,
        "the page shows the corrected turn",
      );
    }
  });
}

/** Runs `act`, and fails if a query was sent meanwhile: what changed must come from the answer of the mutation. */
async function withoutQuery(what: string, act: () => Promise<void>): Promise<void> {
  const before = queries.length;
  await act();
  expect(queries.length === before, what);
}

function expect(holds: boolean, what: string): void {
  if (!holds) fail(what);
  console.log(`✓ ${what}`);
}

function fail(why: unknown): never {
  console.error("✗", why);
  process.exit(1);
}

/** RFC 6238: what an authenticator app shows for the URI. */
function totp(otpauth: string): string {
  const secret = new URL(otpauth).searchParams.get("secret") ?? "";
  const bits = Array.from(secret, (letter) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0"));
  const key = Buffer.from(bits.join("").match(/.{8}/g)?.map((byte) => parseInt(byte, 2)) ?? []);
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const digest = createHmac("sha1", key).update(counter).digest();
  const offset = digest.readUInt8(19) & 15;
  return String((digest.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}
