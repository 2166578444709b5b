"""The test witness as an ASGI application."""

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from devstack.witness.witness import Refusal, TestWitness

LARGEST_REQUEST_BYTES = 65_536


def create_witness_app(witness: TestWitness) -> Starlette:
    """Return the ASGI application: the submission prefix and the monitoring prefix are the same."""

    async def add_checkpoint(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_REQUEST_BYTES:
                return PlainTextResponse("too large\n", 413)
        try:
            lines = await run_in_threadpool(witness.add_checkpoint, bytes(body))
        except Refusal as refusal:
            if refusal.size is not None:
                return Response(f"{refusal.size}\n", refusal.status, media_type="text/x.tlog.size")
            return PlainTextResponse("refused\n", refusal.status)
        return PlainTextResponse(lines)

    async def checkpoint(request: Request) -> Response:
        note = witness.find_checkpoint(request.path_params["origin_hash"])
        return PlainTextResponse("not cosigned\n", 404) if note is None else PlainTextResponse(note)

    async def ready(_: Request) -> Response:
        return PlainTextResponse("\n".join(witness.vkeys) + "\n")

    return Starlette(
        routes=[
            Route("/", ready, methods=["GET"]),
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{origin_hash:str}/checkpoint", checkpoint, methods=["GET"]),
        ]
    )
