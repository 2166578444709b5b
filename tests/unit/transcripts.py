"""Hypothesis strategies and helpers for transcripts."""

from hypothesis import strategies as st

from app.transcripts.model import Speaker, Transcript, Turn

any_text = st.text(st.characters(exclude_categories=()), max_size=300) | st.text(
    "nñ\u0303aes'\u2019-.,0159 \u00ad\"", max_size=40
)
"""Text of any code points, including single surrogates, or of characters that matter for the folding rules."""

hostile_text = any_text | st.lists(
    st.sampled_from(
        ["-->", "\n\n", "\r", "<v Doctor>", "</v>", "&lt;", "&", "<i>", "{\\an8}", "00:00:01.000 --> 00:00:02.000", "1",
         "NOTE", "STYLE", "WEBVTT", "\u2028", "\u202e", "\x00", "word", " ", "x" * 100, "\ud83d", "Doctor: ", "mañana"]
    ),
    max_size=30,
).map("".join)  # fmt: skip
"""Text with the markup that ends cues, begins cues, opens tags, or reverses the direction of text."""


def turn(number: int, text: str, **changes: object) -> Turn:
    """Return turn `number` of a transcript, spoken by the doctor. Each turn of the transcript starts six seconds
    after the previous turn.
    """
    values = {"start_ms": number * 6000, "end_ms": number * 6000 + 5000, "speaker": Speaker.DOCTOR} | changes
    return Turn(number, text=text, **values)  # type: ignore[arg-type]  # names and types are those of Turn


def transcript(*texts: str) -> Transcript:
    """Return a transcript with these texts, spoken by the doctor and the patient in alternation."""
    speakers = (Speaker.DOCTOR, Speaker.PATIENT)
    turns = (
        turn(number, text, speaker=speakers[number % 2], label=number % 2)
        for number, text in enumerate(texts)
    )
    return Transcript(tuple(turns), "en")
