"""Jobs on many hosts: Celery hands them to workers (docs/celery.md)."""
