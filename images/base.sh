#!/usr/bin/env bash
# Makes a base image of Debian's own packages, for machines that reach a Debian mirror but no registry, and prints its
# name, and after it that of another one to build in. Needs root, debootstrap and the engine. It leaves out what
# debian:bookworm-slim leaves out (manuals, translations, documentation but for the licences) and has what all our images
# need, so that building on it asks no package source.
#   DEBIAN_MIRROR, DEBIAN_SECURITY   where packages come from
#   ARCH                             Debian's name of the architecture (amd64, arm64; default: this machine's)
set -euo pipefail

mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
security=${DEBIAN_SECURITY:-http://deb.debian.org/debian-security}
arch=${ARCH:-$(dpkg --print-architecture)}
packages=python3,python3-venv,ca-certificates,libfribidi0,fonts-noto-color-emoji

# Another recipe is another base; the same one is made once.
tag=bookworm-$arch-$(sha256sum "$0" | cut -c 1-8)
image=calls-native-offloader/base:$tag
build_image=calls-native-offloader/build-base:$tag
echo "$image $build_image"
! docker image inspect "$image" "$build_image" >/dev/null 2>&1 || exit 0

echo "making $image by debootstrap" >&2
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }; }

quietly debootstrap --arch="$arch" --variant=minbase --include="$packages" bookworm "$root" "$mirror"
cat >"$root/etc/apt/sources.list" <<END
deb $mirror bookworm main
deb $mirror bookworm-updates main
deb $security bookworm-security main
END
# The release as it was published, and what was mended since.
quietly chroot "$root" sh -c 'apt-get update && DEBIAN_FRONTEND=noninteractive apt-get -y upgrade'

cat >"$root/etc/dpkg/dpkg.cfg.d/docker" <<'END'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/groff/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-include /usr/share/locale/locale.alias
path-exclude /usr/share/man/*
END
cd "$root"
find usr/share/doc ! -type d ! -name copyright -delete
find usr/share/doc -type d -empty -delete
find usr/share/locale -mindepth 1 -maxdepth 1 ! -name locale.alias -exec rm -r {} +
rm -rf usr/share/groff/* usr/share/info/* usr/share/man/*
rm -rf var/lib/apt/lists/* var/cache/apt/* var/cache/debconf/*-old var/cache/ldconfig/* var/log/* tmp/* var/tmp/* etc/machine-id
import() {  # devices, names and resolvers are the engine's
    tar --sort=name --numeric-owner --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' --exclude=./etc/resolv.conf \
        --exclude=./etc/hostname -c . | docker import --platform "linux/$arch" - "$1" >/dev/null
}
import "$image"
quietly chroot . sh -c 'apt-get update && DEBIAN_FRONTEND=noninteractive apt-get -y install --no-install-recommends binutils'
rm -rf var/lib/apt/lists/* var/cache/apt/*
import "$build_image"
