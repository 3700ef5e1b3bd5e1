"""`offloader worker`: runs the jobs that Celery hands to this host (docs/celery.md)."""
