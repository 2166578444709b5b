"""The three answer formats, in the shapes of openai 3.52's `types/audio/transcription*.py` (checked 2026-11-21)."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
from starlette.responses import HTMLResponse, Response

from devstack.openai.asked import SUCCESSOR, Asked
from devstack.openai.orders import Order
from devstack.openai.recogniser import Said
from devstack.openai.refusals import Refusal

_HOUR = 3600
_INVENTED = "Thank you so much for watching, and do not forget to subscribe."
_SURE, _UNSURE = -0.3, -1.2
"""The `avg_logprob` of recognised speech, and of sentences that whisper tiny.en invents."""


def answer(request: Asked, said: Sequence[Said], seconds: float, order: Order | None) -> Response:
    """Return the recognised speech in the requested format, with the fault that the order demands, if there is an
    order.
    """
    kind = order.kind if order else ""
    if kind == "nonsense":
        return HTMLResponse("<!doctype html><title>Welcome</title><p>It works!")
    if kind == "times_off" and order is not None:
        said = [_later(one, order.seconds, seconds) for one in said]
    body = json.dumps(_body(request, _spoilt(said, kind), seconds, kind))
    return Response(body[: len(body) // 2] if kind == "half_json" else body, media_type="application/json")


async def refuse(order: Order) -> None:
    """If the order demands a refusal, wait for the order's delay and raise Refusal."""
    if order.kind == "hang":
        await anyio.sleep(order.seconds)
    if order.kind == "rate_limit":
        wait = {"retry-after": str(round(order.seconds))}
        raise Refusal(429, "Rate limit reached", kind="requests", code="rate_limit_exceeded", headers=wait)
    if order.kind in ("fail", "hang"):
        raise Refusal(500, "The server had an error while processing your request.", kind="server_error")
    if order.kind == "refuse":
        raise Refusal(400, "The audio file could not be processed.", param="file", code="invalid_value")


def _spoilt(said: Sequence[Said], kind: str) -> Sequence[Said]:
    if kind == "times_outside":
        return [replace(one, start=one.start + _HOUR, end=one.end + _HOUR) for one in said]
    if kind == "backwards":
        return [replace(one, start=one.end, end=one.start) for one in said]
    if kind == "flood":
        return [replace(one, text=" ".join([one.text] * 1000)) for one in said]
    if kind == "invented":
        return [replace(one, text=_INVENTED) for one in said]
    if kind == "loop":
        return [replace(one, text=" ".join(["no,"] * 111)) for one in said]
    if kind == "late_start":
        return [replace(one, start=(one.start + one.end) / 2) for one in said]
    if kind == "early_start":
        ends = [0.0, *(one.end for one in said)]
        return [replace(one, start=end) for one, end in zip(said, ends, strict=False)]
    return said


def _later(said: Said, by: float, until: float) -> Said:
    return replace(said, start=min(said.start + by, until), end=min(said.end + by, until))


def _body(request: Asked, said: Sequence[Said], seconds: float, kind: str) -> dict[str, Any]:
    text = " ".join(one.text for one in said)
    if request.response_format == "json":
        usage = {"type": "tokens", "input_tokens": round(seconds * 10), "output_tokens": len(text) // 4}
        usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]  # type: ignore[operator]
        languages = {"languages": [{"code": "en"}] if said else []} if request.model == SUCCESSOR else {}
        logprobs = {"logprobs": _tokens(said, kind)} if request.with_logprobs else {}
        return {"text": "" if kind == "empty_segments" else text, **languages, **logprobs, "usage": usage}
    listed = [] if kind == "empty_segments" else list(enumerate(said))
    whole = {
        "task": "transcribe",
        "duration": seconds,
        "text": text,
        "usage": {"type": "duration", "seconds": seconds},
    }
    if request.response_format == "verbose_json":
        return {
            **whole,
            "language": "english",
            "segments": [_segment(number, one, kind) for number, one in listed],
        }
    speakers = "AB" if kind == "two_speakers" else "A"
    return {**whole, "segments": [_turn(number, one, speakers) for number, one in listed]}


def _tokens(said: Sequence[Said], kind: str) -> list[dict[str, Any]]:
    return [_token(token, _logprob(one), kind) for one in said for token in one.text.split()]


def _logprob(said: Said) -> float:
    return _SURE if said.avg_logprob is None else said.avg_logprob


def _token(token: str, logprob: float, kind: str) -> dict[str, Any]:
    return {
        "token": token,
        "bytes": list(token.encode()),
        "logprob": _UNSURE if kind == "invented" else logprob,
    }


def _segment(number: int, said: Said, kind: str) -> dict[str, Any]:
    return {
        "id": number,
        "seek": 0,
        "start": said.start,
        "end": said.end,
        "text": f" {said.text}",
        "tokens": [50364, 50414],
        "temperature": 0.0,
        "avg_logprob": _UNSURE if kind == "invented" else _logprob(said),
        "compression_ratio": 18.6 if kind == "loop" else said.compression_ratio or 1.2,
        "no_speech_prob": 0.01 if said.no_speech_prob is None else said.no_speech_prob,
    }


def _turn(number: int, said: Said, speakers: str) -> dict[str, Any]:
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{number:03}",
        "start": said.start,
        "end": said.end,
        "text": f" {said.text}",
        "speaker": speakers[number % len(speakers)],
    }
