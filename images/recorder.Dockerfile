# The recorder: joins one call, records it and publishes the file.
ARG BASE_IMAGE=debian:bookworm-slim
# The same Debian with binutils, for a build without any network.
ARG BUILD_IMAGE=${BASE_IMAGE}

# What runs it. A base that has all of this already needs no package source.
FROM ${BASE_IMAGE} AS system
RUN python3 -c 'import ensurepip, venv' 2>/dev/null || \
    { apt-get update && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates \
      && rm -rf /var/lib/apt/lists/* /var/cache/apt/*; }
# What pictures take from the system (docs/adr/0009-fonts.md): Pillow's bidirectional text, colour emoji.
RUN { [ -e /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ] && ldconfig -p | grep -q libfribidi; } || \
    { apt-get update && apt-get install -y --no-install-recommends libfribidi0 fonts-noto-color-emoji \
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
RUN sh /build/steps/packages.sh --extra recorder
COPY foundation /image/code/app/foundation
COPY rtc /image/code/app/rtc
COPY callclient /image/code/app/callclient
COPY jobs /image/code/app/jobs
RUN rm -rf /image/code/app/jobs/transcriber
COPY --from=system /var/lib/dpkg/status /build/dpkg-status
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE_DATE_EPOCH=0
RUN sh /build/steps/finish.sh recorder

FROM system
# Packages apart: a release that has the same ones shares this layer with the one before.
COPY --from=build /image/packages /
COPY --from=build /image/code /
# The user that the job service runs jobs as; a named volume at /data takes its owner over.
RUN mkdir -p /data /models && chown 10001:10001 /data && chmod 0700 /data && \
    touch --date 2000-01-01T00:00Z /data /models
ENV PATH=/app/venv/bin:/usr/bin:/bin PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8 HOME=/tmp DATA_DIR=/data OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 \
    MALLOC_ARENA_MAX=1
WORKDIR /tmp
USER 10001:10001
VOLUME /data
STOPSIGNAL SIGTERM
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL calls-native-offloader.job-contract="1" \
      org.opencontainers.image.title="calls-recorder" \
      org.opencontainers.image.description="Records one call of Mattermost Calls and publishes the file" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-3.0-or-later" \
      calls-native-offloader.notice="Our code is under Apache-2.0. The PyAV wheel contains FFmpeg with libx264 and libx265, which are under the GPL: this image as a whole is distributed under the terms of the GPLv3. See /app/NOTICES.txt."
ENTRYPOINT ["python", "-m", "jobs.container", "recorder"]
