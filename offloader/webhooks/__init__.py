"""Tells other programs of the admin's what becomes of jobs (docs/webhooks.md)."""
