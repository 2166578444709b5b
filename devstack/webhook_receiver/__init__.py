"""A test receiver of outgoing webhooks. The receiver verifies each message with the library of Standard Webhooks, as
the practice's own receiver does, and stores the verified messages.

`receiver.py` is the receiver, and `python -m devstack.webhook_receiver --config FILE` runs it.
"""
