export interface PlayUrl {
  url: string;
  expiresAt: string;
}

/** Renew a little early: the request that a seek sends must still be in time. */
const MARGIN_MS = 5_000;

/**
 * Plays `issue()` in `video`, and renews the URL when the player needs more of the file after it has expired.
 * The bucket answers 403 then, and Chromium waits for half a minute before it says so: act on `seeking` and `waiting`.
 * Returns a function that stops it.
 */
export async function play(video: HTMLVideoElement, issue: () => Promise<PlayUrl>): Promise<() => void> {
  let current = await issue();
  let renewing = false;

  const load = (url: string, at: number, wasPlaying: boolean) => {
    video.src = url;
    video.addEventListener(
      "loadedmetadata",
      () => {
        video.currentTime = at;
        if (wasPlaying) void video.play();
      },
      { once: true },
    );
  };
  const renew = async () => {
    if (renewing || Date.parse(current.expiresAt) - Date.now() > MARGIN_MS) return;
    renewing = true;
    try {
      const at = video.currentTime;
      const wasPlaying = !video.paused;
      current = await issue();
      load(current.url, at, wasPlaying);
    } finally {
      renewing = false;
    }
  };
  const onNeed = () => void renew().catch(() => video.dispatchEvent(new Event("renewalfailed")));

  for (const event of NEEDS) video.addEventListener(event, onNeed);
  video.src = current.url;
  return () => {
    for (const event of NEEDS) video.removeEventListener(event, onNeed);
    video.removeAttribute("src");
    video.load();
  };
}

const NEEDS = ["seeking", "waiting", "stalled", "error"] as const;

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
