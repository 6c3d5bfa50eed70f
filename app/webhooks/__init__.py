"""Webhooks: the deliveries that the store's outbox holds, sent to the addresses that users named.

Standard Webhooks (https://www.standardwebhooks.com): headers, signature and a thin body.
"""
