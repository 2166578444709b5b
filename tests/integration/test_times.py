"""Tests that each turn starts when its speaker begins, even if the speech service reports wrong times
(`docs/transcripts.md`, Times). The tests transcribe a long conversation with each value of the setting
`SPEECH_API`. The tests order the stand-in of the speech service to return times that are as wrong as possible.
`make times` sets `ALL_TIMES=1`, so that the tests run with every kind of false time, every length of pause and
every kind of noise (docs/benchmarks.md).
"""

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from app.integrations.speech.client import Speech
from app.media.sound_plans import Span
from app.settings import SpeechApi
from app.transcripts.model import Transcript
from devstack.openai import Order, create_openai_app
from devstack.openai.recogniser import Said
from tests.integration.recording_harness import served
from tests.integration.talking import PAUSES, Talk, start_errors, talk, transcribed

pytestmark = pytest.mark.anyio

KEY = "sk-that-nobody-may-see"
MODELS = {
    SpeechApi.TEXT: "gpt-transcribe",
    SpeechApi.VERBOSE_JSON: "whisper-1",
    SpeechApi.DIARIZED_JSON: "gpt-4o-transcribe-diarize",
}
MEDIAN_SECONDS, MOST_SECONDS = 0.1, 0.5
_IS_ALL = os.environ.get("ALL_TIMES", "") == "1"
ORDERS = {
    "": None,
    "late_start": Order("late_start", count=99),
    "early_start": Order("early_start", count=99),
    "times_off": Order("times_off", count=99, seconds=3),
    "times_outside": Order("times_outside", count=99),
    "backwards": Order("backwards", count=99),
}


@dataclass
class Oracle:
    """A simulated speech service without errors, which returns all words of a conversation at their true times. If
    a chunk contains only a part of a turn, the simulated service returns the same share of the turn's words.
    """

    sound: Talk
    span: Span | None = None

    def before(self, span: Span) -> None:
        self.span = span

    def recognise(self, _: bytes) -> tuple[Said, ...]:
        assert self.span is not None
        begin, stop = self.span.start_ms / 1000, self.span.end_ms / 1000
        found = []
        for start, end, text in self.sound.said:
            words = text.split()
            first, last = (
                round(len(words) * min(1, max(0, (at - start) / (end - start)))) for at in (begin, stop)
            )
            if first < last:
                told = max(start, begin) - begin, min(end, stop) - begin
                found.append(Said(*told, " ".join(words[first:last])))
        return tuple(found)


@asynccontextmanager
async def _speech(api: SpeechApi, order: Order | None, oracle: Oracle) -> AsyncIterator[Speech]:
    app = create_openai_app(KEY)
    app.state.stand_in.recogniser = oracle
    if order is not None:
        app.state.stand_in.orders.add(order)
    async with served(app) as url:
        speech = Speech(api_key=KEY, model=MODELS[api], api=api, base_url=f"{url}/v1")
        try:
            yield speech
        finally:
            await speech.aclose()


async def _transcribed(sound: Talk, api: SpeechApi, order: Order | None) -> tuple[Transcript, int]:
    oracle = Oracle(sound)
    async with _speech(api, order, oracle) as speech:
        return await transcribed(sound, speech, oracle.before)


async def _holds(sound: Talk, api: SpeechApi, order: Order | None = None) -> int:
    """Require that each turn's start time differs from the true time by no more than the documentation promises.
    Return how many chunks were sent to the speech service.
    """
    transcript, sent = await _transcribed(sound, api, order)
    errors = start_errors(sound, transcript)
    told = f"median {errors.median:.2f} s, 99th percentile {errors.percentile_99:.2f} s, {sent} chunks"
    print(f"{api.value} {order.kind if order else ''}: {told}")  # noqa: T201 - the measure
    assert errors.unheard == 0
    assert (errors.median <= MEDIAN_SECONDS, errors.percentile_99 <= MOST_SECONDS) == (True, True), told
    return sent


def _cases(
    *hardest: tuple[SpeechApi, str | float], values: Iterable[str | float]
) -> list[tuple[SpeechApi, str | float]]:
    """Return the hardest test cases. If ALL_TIMES is set, return a case for every combination of a speech API and a
    value.
    """
    return [(api, value) for api in SpeechApi for value in values] if _IS_ALL else list(hardest)


@pytest.mark.parametrize(
    ("api", "order"),
    _cases(
        (SpeechApi.TEXT, "late_start"),
        (SpeechApi.VERBOSE_JSON, "late_start"),
        (SpeechApi.DIARIZED_JSON, "late_start"),
        (SpeechApi.DIARIZED_JSON, "times_outside"),
        values=ORDERS,
    ),
)
async def test_starts_are_correct_with_pauses_of_half_a_second_to_forty(api: SpeechApi, order: str) -> None:
    sound = talk(14, lambda turn: PAUSES[turn % len(PAUSES)])
    sent = await _holds(sound, api, ORDERS[order])
    assert sent <= len(sound.said)


@pytest.mark.parametrize(("api", "pause"), _cases((SpeechApi.DIARIZED_JSON, 0.5), values=(0.5, 2.0)))
async def test_starts_are_correct_with_noise_in_the_pauses(api: SpeechApi, pause: float) -> None:
    await _holds(talk(14, lambda _: pause, noise=0.3), api, ORDERS["late_start"])


@pytest.mark.parametrize("api", SpeechApi)
async def test_turn_after_two_overlapping_turns_starts_on_time(api: SpeechApi) -> None:
    sound = talk(5, lambda turn: -0.8 if turn == 1 else 1.0)
    begun = tuple(one for number, one in enumerate(sound.said) if number != 2)
    transcript, _ = await _transcribed(sound, api, ORDERS["late_start"])
    starts = [turn.start_ms / 1000 for turn in transcript.in_order]
    assert starts == sorted(starts)
    assert all(min(abs(start - one) for one in starts) <= MEDIAN_SECONDS for start, _, _ in begun)
