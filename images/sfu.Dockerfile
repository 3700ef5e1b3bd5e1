# The SFU. Media needs UDP and TCP 8443 to participants; see docs/sfu.md.
ARG BASE_IMAGE=debian:bookworm-slim
# The same Debian with binutils, for a build without any network.
ARG BUILD_IMAGE=${BASE_IMAGE}

# What runs it. A base that has all of this already needs no package source.
FROM ${BASE_IMAGE} AS system
RUN python3 -c 'import ensurepip, venv' 2>/dev/null || \
    { apt-get update && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates \
      && rm -rf /var/lib/apt/lists/* /var/cache/apt/*; }

FROM ${BUILD_IMAGE} AS build
RUN { python3 -c 'import ensurepip, venv' && command -v strip; } >/dev/null 2>&1 || \
    { apt-get update && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates binutils; }
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_LINK_MODE=copy
WORKDIR /build/source
COPY images/ca /build/ca
COPY images/wheelhouse /build/wheelhouse
COPY pyproject.toml uv.lock LICENSE ./
COPY images/steps /build/steps
RUN sh /build/steps/tools.sh
RUN sh /build/steps/packages.sh --extra sfu
COPY foundation /image/code/app/foundation
COPY rtc /image/code/app/rtc
COPY clientauth /image/code/app/clientauth
COPY sfu /image/code/app/sfu
COPY --from=system /var/lib/dpkg/status /build/dpkg-status
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE_DATE_EPOCH=0
RUN sh /build/steps/finish.sh sfu

FROM system
# Packages apart: a release that has the same ones shares this layer with the one before.
COPY --from=build /image/packages /
COPY --from=build /image/code /
# A named volume at the state's place takes its owner over.
RUN mkdir -p /var/lib/calls-sfu /config && chown 10001:10001 /var/lib/calls-sfu && chmod 0700 /var/lib/calls-sfu && \
    touch --date 2000-01-01T00:00Z /var/lib/calls-sfu /config /var/lib
ENV PATH=/app/venv/bin:/usr/bin:/bin PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8 HOME=/tmp RTCD_STORE_DATASOURCE=/var/lib/calls-sfu RTCD_LOGGER_ENABLEFILE=false
WORKDIR /
USER 10001:10001
VOLUME /var/lib/calls-sfu
EXPOSE 8045 8443/udp 8443/tcp
STOPSIGNAL SIGTERM
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="calls-sfu" \
      org.opencontainers.image.description="Selective forwarding unit for Mattermost Calls that speaks the protocol of rtcd" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["python", "-m", "sfu"]
