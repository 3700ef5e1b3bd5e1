# The job service. It needs the engine's socket, or DOCKER_HOST, to run jobs; see docs/backends-docker.md.
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
RUN /build/uv/bin/uv sync --quiet --frozen --no-dev --no-install-project --extra offloader --python /usr/bin/python3
COPY foundation /app/foundation
COPY clientauth /app/clientauth
COPY offloader /app/offloader
RUN /app/venv/bin/python -m compileall -q /app/foundation /app/clientauth /app/offloader

FROM python
COPY --from=build /app /app
# A named volume at the state's place takes its owner over.
RUN mkdir -p /var/lib/calls-offloader /config && chown 10001:10001 /var/lib/calls-offloader && \
    chmod 0700 /var/lib/calls-offloader
ENV PATH=/app/venv/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8 HOME=/tmp STATE_DIRECTORY=/var/lib/calls-offloader LOGGER_ENABLEFILE=false
WORKDIR /
USER 10001:10001
VOLUME /var/lib/calls-offloader
EXPOSE 4545
STOPSIGNAL SIGTERM
LABEL org.opencontainers.image.title="calls-offloader" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["python", "-m", "offloader"]
CMD ["serve"]
