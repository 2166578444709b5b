// `npm run smoke -- REPORT`: the example against the running demo, by what `resguardo demo --json REPORT` wrote.
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";
import { Api } from "./api.js";
import { importRecording, type Upload } from "./imports.js";
import { connectLive, watchRecordings } from "./live.js";
import { issueUrl, listRecordings } from "./recordings.js";
import { accessToken, signIn, stepUp } from "./session.js";
import { issueSubtitleUrls, readTranscript, search } from "./transcripts.js";

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
const api = new Api(report.graphql_url, () => accessToken(supabase));

await signIn(supabase, doctor.email, doctor.password, askCode);
const { items } = await listRecordings(api);
expect(items.some(({ id }) => id === report.recording.id), "the library has the demo's recording");

const played = await issueUrl(api, report.recording.id, () => stepUp(supabase, askCode));
const film = await (await fetch(played.url)).blob();
expect(film.size === report.recording.size, "the URL plays the whole recording");

if (report.transcript.turns.length > 0) {
  const { turns } = await readTranscript(api, report.recording.id);
  expect(turns.length === report.transcript.turns.length, "the transcript has its turns");
  const words = turns.flatMap((turn) => turn.text.split(" ")).sort((one, other) => other.length - one.length);
  const hit = (await search(api, words[0] ?? "")).hits[0];
  expect(hit?.snippet.some((part) => part.isMatch) === true, "a word is found");
  const { webvtt } = await issueSubtitleUrls(api, report.recording.id);
  const subtitles = await (await fetch(new URL(webvtt, report.graphql_url))).text();
  expect(subtitles.startsWith("WEBVTT"), "the subtitles are WebVTT");
}

const live = connectLive(report.subscriptions_url, () => accessToken(supabase), fail, WebSocket);
let onStatus: (told: string) => void = () => undefined;
const stop = watchRecordings(
  live,
  report.consultation.id,
  ({ id, status }) => onStatus(`${id} ${status}`),
  (error) => error && fail(error),
);
await until(() => true, "the page is told the newest recording");
await supabase.auth.refreshSession();
live.terminate();
await until(() => true, "after a reconnection, with the new token, it is told again");

const upload: Upload = async (url, headers, file, onProgress) => {
  const answer = await fetch(url, { method: "PUT", headers: [...headers], body: file });
  if (!answer.ok) throw new Error(`The bucket answered ${answer.status}.`);
  onProgress(1);
};
const imported = await importRecording(api, report.consultation.id, film, () => undefined, upload);
await until((told) => told === `${imported.id} READY`, "an import is verified, and READY");

stop();
await supabase.auth.signOut({ scope: "local" });
console.log("example: ok");
process.exit(0);

function until(holds: (told: string) => boolean, what: string): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => fail(`not within 60 s: ${what}`), 60_000);
    onStatus = (told) => {
      if (!holds(told)) return;
      clearTimeout(timer);
      console.log(`✓ ${what}`);
      resolve();
    };
  });
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
