"""HTTP to a speech service: time-outs, retries, rate limits; no key, no text and no name in any message.

Engines are called in worker threads, so this blocks.
"""

from __future__ import annotations

import io
import time
import wave
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from numpy.typing import NDArray

from foundation.logs import get_logger
from foundation.retry import Backoff
from jobs.transcriber.engines.base import EngineError
from jobs.transcriber.engines.throttle import Throttle

_RATE_HZ: Final = 16_000
_RETRYABLE: Final = frozenset({408, 425, 429})
"""And every 5xx."""
_BACKOFF: Final = Backoff(attempts=5, first_wait_s=1.0, growth=2.0, max_wait_s=20.0)
_TOO_MANY: Final = 429
_MAX_REFUSALS: Final = 20
"""A service that says "too many requests" is there; waiting helps."""
_PATIENCE_S: Final = 180.0
"""No new attempt after so long, whatever the service says."""
_LONGEST_PAUSE_S: Final = 60.0
"""What is believed of a Retry-After."""
_log = get_logger(component="speech-service")


class ServiceError(EngineError):
    """The service did not do this piece. The message names service and status, never what it said."""

    def __init__(self, text: str, *, status: int | None, retryable: bool) -> None:
        super().__init__(text)
        self.status = status
        """HTTP status; None: no answer."""
        self.retryable = retryable
        """It may be different later; else the same request fails always."""


class SpeechService:
    """One service, one set of credentials. Thread-safe."""

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        headers: Mapping[str, str],
        throttle: Throttle,
        timeout_s: float,
        ca_file: Path | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """`timeout_s`: for each wait on the network. Raises OSError when `ca_file` cannot be read."""
        import ssl

        context = ssl.create_default_context()
        if ca_file is not None:
            context.load_verify_locations(cafile=ca_file)
        self._name = name
        self._throttle = throttle
        self._sleep = sleep
        self._down = False
        """The last piece found nobody in spite of all attempts: the next one makes one only."""
        self._http = httpx.Client(
            base_url=base_url,
            headers=dict(headers),
            timeout=httpx.Timeout(timeout_s, connect=min(10.0, timeout_s)),
            verify=context,
            # Pieces come seconds apart: an idle connection would mostly be dead when it is needed.
            limits=httpx.Limits(max_keepalive_connections=0),
            follow_redirects=False,  # the key goes only where it was meant for
        )

    def post(self, path: str, **request: Any) -> dict[str, Any]:
        """The JSON object that the service answers; `request` as for `httpx.Client.post`.

        Raises:
            ServiceError: no usable answer, after all attempts that made sense.
        """
        give_up_s = time.monotonic() + _PATIENCE_S
        failures = refusals = 0
        while True:
            try:
                with self._throttle.turn():
                    answer = self._once(path, request)
            except ServiceError as error:
                if not error.retryable:
                    raise
                if error.status == _TOO_MANY:
                    refusals += 1
                else:
                    failures += 1
                if refusals >= _MAX_REFUSALS or time.monotonic() > give_up_s:
                    raise
                if failures and (self._down or failures >= _BACKOFF.attempts):
                    self._down = True
                    raise
                _log.info("service.retry", service=self._name, status=error.status)
            else:
                self._down = False
                return answer
            self._sleep(_BACKOFF.wait_s(failures or refusals))

    def _once(self, path: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            response = self._http.post(path, **request)
        except httpx.HTTPError as error:
            text = f"{self._name}: no answer ({type(error).__name__})"
            # `from None`: the cause holds the address, and with it perhaps credentials.
            raise ServiceError(text, status=None, retryable=True) from None
        status = response.status_code
        if status != 200:
            if status in (429, 503):
                self._throttle.pause(_retry_after_s(response))
            raise ServiceError(
                f"{self._name}: status {status}",
                status=status,
                retryable=status in _RETRYABLE or status >= 500,
            )
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ServiceError(
                f"{self._name}: the answer is no JSON object", status=200, retryable=False
            )
        return document


def to_wav(audio: NDArray[np.float32]) -> bytes:
    """16 kHz mono float32 in ±1 as a WAV file of 16 bits, which every service takes."""
    samples = (np.clip(audio, -1.0, 1.0) * 32767).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE_HZ)
        file.writeframes(samples.tobytes())
    return out.getvalue()


def _retry_after_s(response: httpx.Response) -> float:
    """RFC 9110 section 10.2.3: seconds or a date; 0 when there is none."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(float(text), _LONGEST_PAUSE_S)
    try:
        until = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return 0.0
    return min(max(0.0, until - time.time()), _LONGEST_PAUSE_S)
