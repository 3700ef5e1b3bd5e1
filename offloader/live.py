"""Who of a running service takes over settings that have changed.

Nothing here awaits: nobody sees half of a change.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from clientauth.registration_limits import RegistrationRoom
from clientauth.service import ClientAuth
from offloader.admission import NO_LIMIT, AdmissionPolicy
from offloader.api.proxies import TrustedProxies
from offloader.audit import Audit
from offloader.backends.base import Backend
from offloader.backends.retuned import Retuned
from offloader.entrance import Entrance
from offloader.events import JobEvents
from offloader.outbox import Outbox
from offloader.reload import Reloads
from offloader.retranscription import Retranscriber
from offloader.service import JobService
from offloader.setting_audit import settings_digest
from offloader.settings import JobsSettings, Settings
from offloader.site_rules import why_refused
from offloader.store.key_place import KeyPlace
from offloader.store.secret_key import Cipher
from offloader.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class LiveParts:
    """Those of a running service that settings can be given to."""

    service: JobService
    supervisor: Supervisor
    entrance: Entrance
    events: JobEvents
    outbox: Outbox
    retranscriber: Retranscriber
    auth: ClientAuth
    registrations: RegistrationRoom
    proxies: TrustedProxies
    backend: Backend
    audit: Audit
    cipher: Cipher
    key_place: KeyPlace
    reloads: Reloads

    def apply(self, settings: Settings) -> None:
        """Everything of `live_settings.LIVE` but certificates and the log."""
        jobs = settings.jobs
        slots = max(jobs.post_call_slots, 1)
        self.service.retune(jobs)
        self.supervisor.retune(jobs)
        self.entrance.retune(
            policy_of(jobs), client_limits=jobs.client_limits, wait_s=jobs.admission_wait_s
        )
        self.events.retune(most_each=jobs.client_limits.event_streams)
        refusal = partial(why_refused, network=jobs.network)
        self.outbox.retune(max_age=jobs.outbox_max_age, slots=slots, refusal=refusal)
        self.retranscriber.retune(slots=slots)
        self.auth.narrow(settings.api.self_registration)
        self.registrations.retune(settings.api.registration_limits)
        self.proxies.trust(settings.api.trusted_proxies)
        if isinstance(self.backend, Retuned):
            self.backend.retune(jobs)

    def trust(self, ca: bytes) -> None:
        """Jobs get this CA bundle from now on."""
        if isinstance(self.backend, Retuned):
            self.backend.trust(ca)

    def note(self, part: str, changed: tuple[str, ...], settings: Settings) -> None:
        """Into the audit: names, and the digest of what is in force now."""
        self.audit.note_event(
            "config.changed",
            part=part,
            changed=",".join(changed),
            configuration_sha256=settings_digest(settings),
        )


def policy_of(jobs: JobsSettings) -> AdmissionPolicy:
    """The limits of places that the settings set."""
    return AdmissionPolicy(
        unpublished_quota_bytes=jobs.unpublished_quota_bytes,
        max_calls=jobs.max_concurrent_jobs or NO_LIMIT,
        post_call_slots=jobs.post_call_slots,
        min_free_disk_bytes=jobs.min_free_disk_bytes,
    )
