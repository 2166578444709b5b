export interface PlayUrl {
  url: string;
  expiresAt: string;
}

/** Renew a little early: the request that a seek sends must still be in time. */
const MARGIN_MS = 5_000;
const NEEDS = ["seeking", "waiting", "stalled", "error"] as const;

/**
 * Plays `issue()` in `video`, and renews the URL when the player needs more of the file after it has expired.
 * The bucket answers 403 then, and Chromium waits for half a minute before it says so: act on `seeking` and `waiting`.
 * A URL younger than `freshMs` is never renewed, or a device whose clock is wrong would ask for one with each seek.
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
    const isOver = why === "error" || Date.parse(current.expiresAt) - Date.now() <= MARGIN_MS;
    if (isRenewing || !isOver || performance.now() - issuedAt < freshMs) return;
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
