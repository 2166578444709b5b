"""The periodic tasks of outgoing webhooks."""

from functools import partial

from app.jobs.periodic import PeriodicTask
from app.outgoing_webhooks.sender import WebhookSender

SEND_SECONDS = 2
CLEAR_SECONDS = 3600


def define_periodic_tasks(sender: WebhookSender) -> list[PeriodicTask]:
    """Return a task for each endpoint that sends the due messages, and the task that clears the log of deliveries."""
    return [
        *(
            PeriodicTask(f"send_webhooks_{endpoint.name}", SEND_SECONDS, partial(sender.send_due, endpoint))
            for endpoint in sender.endpoints
        ),
        PeriodicTask("clear_webhooks", CLEAR_SECONDS, sender.clear_old),
    ]
