"""A line in the admins' channel when something is wrong, and when all is well (docs/notifications.md)."""
