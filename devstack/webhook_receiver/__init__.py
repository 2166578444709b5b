"""A test receiver of outgoing webhooks. It verifies each message with the library of Standard Webhooks, as a receiver
of the practice does, and keeps the verified messages.

`receiver.py` is the receiver, and `python -m devstack.webhook_receiver --config FILE` runs it.
"""
