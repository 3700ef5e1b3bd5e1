# The recorder: joins one call, records it and publishes the file.
# Debian 12 or anything with apt; a base that has Python 3.11 with venv already needs no package source.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
RUN python3 -c 'import ensurepip, venv' 2>/dev/null || \
    { apt-get update && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates \
      && rm -rf /var/lib/apt/lists/*; }

FROM python AS build
ARG UV_VERSION=0.13.8
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 UV_PROJECT_ENVIRONMENT=/app/venv UV_LINK_MODE=copy UV_NO_CACHE=1
COPY images/ca /build/ca
RUN for file in /build/ca/*.pem; do [ ! -f "$file" ] || cat "$file" >> "$SSL_CERT_FILE"; done
RUN python3 -m venv /build/uv && /build/uv/bin/pip install --quiet "uv==${UV_VERSION}"
WORKDIR /build/source
COPY pyproject.toml uv.lock README.md LICENSE ./
# Exactly what uv.lock names, hashes included; the code itself is copied, not installed.
RUN /build/uv/bin/uv sync --quiet --frozen --no-dev --no-install-project --extra recorder --python /usr/bin/python3
COPY foundation /app/foundation
COPY rtc /app/rtc
COPY callclient /app/callclient
COPY jobs /app/jobs
RUN rm -rf /app/jobs/transcriber && /app/venv/bin/python -m compileall -q /app/foundation /app/rtc /app/callclient /app/jobs

FROM python
COPY --from=build /app /app
# The user that the job service runs jobs as; a named volume at /data takes its owner over.
RUN mkdir -p /data /models && chown 10001:10001 /data && chmod 0700 /data
ENV PATH=/app/venv/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8 HOME=/tmp DATA_DIR=/data OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
WORKDIR /tmp
USER 10001:10001
VOLUME /data
STOPSIGNAL SIGTERM
LABEL calls-native-offloader.job-contract="1" \
      org.opencontainers.image.title="calls-recorder" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-3.0-or-later" \
      calls-native-offloader.notice="Our code is under Apache-2.0. The PyAV wheel contains FFmpeg with libx264 and libx265, which are under the GPL: this image as a whole is distributed under the terms of the GPLv3."
ENTRYPOINT ["python", "-m", "jobs.container", "recorder"]
