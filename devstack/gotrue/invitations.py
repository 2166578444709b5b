"""`/invite`: creates a login without a password, which the recipient of the mail takes over (`verification.py`).

Source: internal/api/invite.go and mail.go of supabase/auth at bc32168e (checked 2026-11-29). The stand-in stores
the mail in its outbox, which callers with the secret API key read at `/stand-in/outbox`. `POST /stand-in/mailboxes`
simulates a mail server that refuses mails or is slow.
"""

from starlette.responses import JSONResponse, Response

from devstack.gotrue.admin import EMAIL_TAKEN, find_user, insert_user
from devstack.gotrue.audit_entries import write_entry
from devstack.gotrue.calls import Body, Call, email_of
from devstack.gotrue.grants import find_by_email
from devstack.gotrue.outbox import Order
from devstack.gotrue.refusals import Refusal, invalid
from devstack.gotrue.rows import user_json
from devstack.gotrue.users import reload, set_columns
from devstack.gotrue.verification import new_code, send


async def invite(call: Call) -> Response:
    """`POST /invite`: create a login. If the login exists and is unconfirmed, keep its metadata and only send a new
    link.
    """
    await call.require_service_role()
    body = await call.body()
    email, data = email_of(body), body.document("data")
    async with call.transaction() as connection:
        user = await find_by_email(connection, email)
        if user is not None and user.email_confirmed_at is not None:
            raise Refusal(422, "email_exists", EMAIL_TAKEN)
        call.service.outbox.check()
        if user is None:
            new = Body({"data": data})
            user = await find_user(connection, await insert_user(call, connection, new, email, password=""))
        traits = {"user_id": user.id, "user_email": email}
        await write_entry(call, connection, "user_invited", None, traits)
        code, token_hash = new_code(email)
        await send(call, email, "invite", code, token_hash)
        await set_columns(
            connection,
            user,
            {"invited_at": call.now, "confirmation_sent_at": call.now, "confirmation_token": token_hash},
        )
        return JSONResponse(await user_json(connection, await reload(connection, user)))


async def read_outbox(call: Call) -> Response:
    """`GET /stand-in/outbox`, which GoTrue does not have: return the stored mails to callers with the secret API
    key.
    """
    await call.require_service_role()
    return JSONResponse({"mails": call.service.outbox.mails()})


async def order_mailbox(call: Call) -> Response:
    """`POST /stand-in/mailboxes`, which GoTrue does not have: add the order `{"order", "address", "count",
    "seconds"}` for the simulated mail server (outbox.py).
    """
    await call.require_service_role()
    body = await call.body()
    values = body.values
    try:
        order = Order(
            body.text("order"),
            body.text("address"),
            int(values.get("count", 1)),
            float(values.get("seconds", 0)),
        )
    except (TypeError, ValueError):
        raise invalid("no such order") from None
    call.service.outbox.order(order)
    return Response(status_code=204)
