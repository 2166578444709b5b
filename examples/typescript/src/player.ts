export interface PlayUrl {
  url: string;
  expiresInSeconds: number;
}

/** Renew a little early: the request that a seek sends must still be in time. */
const MARGIN_MS = 5_000;
const NEEDS = ["seeking", "waiting", "stalled", "error"] as const;

/**
 * Plays `issue()` in `video`, and renews the URL when the player needs more of the file after it has expired.
 * The bucket answers 403 then, and Chromium waits for half a minute before it says so: act on `seeking` and `waiting`.
 * The age of the URL is measured here, since the device's clock and the API's may differ. A URL younger than `freshMs`
 * is never renewed, or a file that cannot be played would ask for one URL after another.
 * Returns a function that stops it.
 */
export async function play(
  video: HTMLVideoElement,
  issue: () => Promise<PlayUrl>,
  { freshMs = 30_000 } = {},
): Promise<() => void> {
  let current = await issue();
  let issuedAt = performance.now();
  let isRenewing = false;

  const renew = async (why: string) => {
    const ageMs = performance.now() - issuedAt;
    const isOver = why === "error" || ageMs >= current.expiresInSeconds * 1000 - MARGIN_MS;
    if (isRenewing || !isOver || ageMs < freshMs) return;
    isRenewing = true;
    try {
      const at = video.currentTime;
      const wasPlaying = !video.paused;
      current = await issue();
      issuedAt = performance.now();
      video.addEventListener(
        "loadedmetadata",
        () => {
          video.currentTime = at;
          if (wasPlaying) void video.play();
        },
        { once: true },
      );
      video.src = current.url;
    } finally {
      isRenewing = false;
    }
  };
  const onNeed = ({ type }: Event) =>
    void renew(type).catch(() => video.dispatchEvent(new Event("renewalfailed")));

  for (const event of NEEDS) video.addEventListener(event, onNeed);
  video.crossOrigin = "anonymous"; // as fetch does: a cached answer to a request without an origin would fail it
  video.src = current.url;
  return () => {
    for (const event of NEEDS) video.removeEventListener(event, onNeed);
    video.removeAttribute("src");
    video.load();
  };
}

/** Subtitles as a `<track>`: fetched once and kept as a blob, since the address expires before the player may ask. */
export async function addSubtitles(
  video: HTMLVideoElement,
  apiUrl: string,
  webvttPath: string,
  label: string,
): Promise<HTMLTrackElement> {
  const answer = await fetch(new URL(webvttPath, apiUrl));
  if (!answer.ok) throw new Error(`The subtitles were answered ${answer.status}.`);
  const track = document.createElement("track");
  track.kind = "captions";
  track.label = label;
  track.src = URL.createObjectURL(await answer.blob());
  track.default = true;
  video.append(track);
  return track;
}
