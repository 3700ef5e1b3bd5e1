"""A backend of another host: its worker's door, and the client that speaks to it (docs/celery.md)."""
