"""Which settings are taken over while a process runs; whatever is not named here counts at its next start."""

from __future__ import annotations

from typing import Final

LIVE: Final = frozenset(
    {
        "api.http.trusted_proxies",
        "api.security.allowed_clients",
        "api.security.allowed_networks",
        "api.security.registration_limits.per_network",
        "api.security.registration_limits.total",
        "jobs.admission_wait_s",
        "jobs.allowed_site_urls",
        "jobs.allowed_speech_urls",
        "jobs.ca_cert_file",
        "jobs.client_limits.disk",
        "jobs.client_limits.event_streams",
        "jobs.client_limits.queue",
        "jobs.client_limits.slots",
        "jobs.completed_jobs_retention_time",
        "jobs.failed_jobs_retention_time",
        "jobs.image_registry",
        "jobs.max_concurrent_jobs",
        "jobs.max_duration_s",
        "jobs.max_frame_rate",
        "jobs.max_height_px",
        "jobs.max_width_px",
        "jobs.min_free_disk",
        "jobs.outbox_max_age",
        "jobs.post_call_slots",
        "jobs.runner_images",
        "jobs.site_url_overrides",
        "logger.console_level",
        "logger.file_level",
    }
)

LIVE_OF_WORKER: Final = frozenset(
    {
        "jobs.allowed_site_urls",
        "jobs.allowed_speech_urls",
        "jobs.ca_cert_file",
        "jobs.runner_images",
        "jobs.site_url_overrides",
        "logger.console_level",
        "logger.file_level",
    }
)
"""What a worker takes over; the rest is the service's, or counts at its next start."""
