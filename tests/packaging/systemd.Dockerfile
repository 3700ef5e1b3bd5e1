# A Debian whose first process is systemd; what the units start is mounted.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends systemd dbus python3 >/dev/null && rm -rf /var/lib/apt/lists/*
