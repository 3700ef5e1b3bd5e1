#!/usr/bin/env bash
# Installs, upgrades and rolls back the job service for Mattermost Calls from a bundle, without a network.
# Nothing of the bundle is unpacked, loaded or run before its signature has been verified (gpgv). docs/airgapped.md
set -euo pipefail
# A value that could not be found out ends the step that asked for it: no backup of nothing.
shopt -s inherit_errexit
umask 022
# Only what is in the archive is run: nothing of where somebody stands, or of their own environment.
unset PYTHONPATH PYTHONHOME

me=$(basename "$0")
here=$(cd "$(dirname "$0")" && pwd)
step=arguments
dry=no
bundle='' signature='' keyring=${CALLS_KEYRING:-} mode='' registry='' arch='' prefix=/opt/calls-offloader
state=/var/lib/calls-offloader config='' user=calls-offloader listen='' network='' python=python3
units=no start=yes drain=no force=no action=install restore_database=no wait_s=60 kept=3 told=no unpacked='' stopped='' drained=''

usage() {
    cat <<'TEXT'
usage: install.sh --keyring FILE [options]         install or upgrade
       install.sh --keyring FILE --verify          only verify the archive
       install.sh --rollback [options]             back to the release before

The archive and who may have signed it
  --bundle FILE         the archive; also --binary FILE. Default: the one beside this script
  --signature FILE      its detached signature. Default: the archive's name and .sig
  --keyring FILE        public keys that are trusted, as `gpg --export` writes them; also CALLS_KEYRING
  --arch ARCH           amd64 or arm64. Default: this machine's

What is installed
  --mode MODE           process (default): service and jobs are processes in a virtual environment
                        docker: service and jobs are containers of the Docker Engine of this machine
                        images: load or push the images, and nothing else (Kubernetes)
  --image-registry REG  the registry that both jobs.image_registry here and MM_CALLS_JOB_SERVICE_IMAGE_REGISTRY
                        of the Mattermost server name. Default: mattermost, or what the configuration says.
                        With a host in it (registry.example.com/calls) images are pushed there, too
  --prefix DIR          default /opt/calls-offloader
  --state-dir DIR       default /var/lib/calls-offloader
  --config FILE         default PREFIX/config.toml; yours is never changed
  --user NAME           whose processes they are (process). Default: calls-offloader, made when missing
  --listen ADDRESS      host:port of a new configuration. Default :4545
  --docker-network NAME network of the containers, such as host (docker)
  --python PROGRAM      the Python that the virtual environment is made with. Default: python3
  --units               install and enable the systemd units (process)
  --no-start            install, but start nothing

Upgrade and rollback
  --drain               take no new jobs, and wait for those that run
  --force               go on though a recording would end
  --restore-database    with --rollback: put back the database, too, as it was before the upgrade
  --wait SECONDS        how long the service may take until it is ready. Default 60
  --dry-run             change nothing; print every step
TEXT
}

say() { printf '%s\n' "$*"; }
begin() { step=$1; say "== $step: $2"; }
die() { told=yes; printf '%s: step %s: %s\n' "$me" "$step" "$*" >&2; exit 1; }
misused() { told=yes; printf '%s: %s\n' "$me" "$*" >&2; exit 2; }
at_exit() {
    local code=$?
    if [ -n "$unpacked" ] && [ "$dry" = no ]; then rm -rf --one-file-system "$unpacked"; fi
    if [ "$code" -ne 0 ] && [ "$told" = no ]; then printf '%s: step %s: failed, see above\n' "$me" "$step" >&2; fi
    # Nobody records until somebody looks, else.
    if [ -n "$drained" ] && [ "$dry" = no ]; then offloader "$drained" undrain || true; fi
    if [ -n "$stopped" ] && [ "$dry" = no ]; then start_service "$stopped"; fi
}
trap at_exit EXIT

# Does what its arguments say, or with --dry-run only says it.
run() {
    if [ "$dry" = yes ]; then
        printf '  would:'
        printf ' %q' "$@"
        printf '\n'
    else
        "$@"
    fi
}

need() { command -v "$1" >/dev/null 2>&1 || die "$1 is not installed: $2"; }

read_arguments() {
    local name value
    while [ $# -gt 0 ]; do
        name=$1
        shift
        case $name in
            --*=*) set -- "${name#*=}" "$@"; name=${name%%=*} ;;
        esac
        case $name in
            --units) units=yes; continue ;;
            --no-start) start=no; continue ;;
            --drain) drain=yes; continue ;;
            --force) force=yes; continue ;;
            --dry-run) dry=yes; continue ;;
            --rollback) action=rollback; continue ;;
            --verify) action=verify; continue ;;
            --restore-database) restore_database=yes; continue ;;
            -h | --help) usage; exit 0 ;;
        esac
        case $name in
            --bundle | --binary | --signature | --keyring | --mode | --image-registry | --arch | --prefix | --state-dir | \
                --config | --user | --listen | --docker-network | --python | --wait) ;;
            *) misused "unknown option $name: see --help" ;;
        esac
        if [ $# -eq 0 ] || [ -z "$1" ]; then misused "$name: should be followed by a value"; fi
        value=$1
        shift
        case $name in
            --bundle | --binary) bundle=$value ;;
            --signature) signature=$value ;;
            --keyring) keyring=$value ;;
            --mode) mode=$value ;;
            --image-registry) registry=${value%/} ;;
            --arch) arch=$value ;;
            --prefix) prefix=${value%/} ;;
            --state-dir) state=${value%/} ;;
            --config) config=$value ;;
            --user) user=$value ;;
            --listen) listen=$value ;;
            --docker-network) network=$value ;;
            --python) python=$value ;;
            --wait) wait_s=$value ;;
        esac
    done
    config=${config:-$prefix/config.toml}
    case $mode in '' | process | docker | images) ;; *) misused "--mode $mode: should be process, docker or images" ;; esac
    case $arch in '' | amd64 | arm64) ;; *) misused "--arch $arch: should be amd64 or arm64" ;; esac
    case $prefix$state$config in *[!A-Za-z0-9/._-]*) misused "paths: should have letters, digits and / . _ - only" ;; esac
    for value in "$prefix" "$state" "$config"; do
        case $value in /*) ;; *) misused "$value: should be an absolute path" ;; esac
    done
    case $registry in *[!A-Za-z0-9/._:-]*) misused "--image-registry $registry: should be like registry.example.com/calls" ;; esac
    case $wait_s in *[!0-9]*) misused "--wait $wait_s: should be a whole number" ;; esac
    case $listen in *[!A-Za-z0-9.:\[\]-]* | *[!0-9]) misused "--listen $listen: should be host:port or :port" ;; esac
}

# --- the archive -------------------------------------------------------------------------------------------

this_arch() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) uname -m ;;
    esac
}

find_bundle() {
    local found
    arch=${arch:-$(this_arch)}
    if [ -z "$bundle" ]; then
        found=("$here"/calls-native-offloader-*-"$arch".tar)
        [ -f "${found[0]}" ] || die "no calls-native-offloader-*-$arch.tar beside $me: name it with --bundle"
        [ "${#found[@]}" -eq 1 ] || die "${#found[@]} archives beside $me: name one with --bundle"
        bundle=${found[0]}
    fi
    [ -f "$bundle" ] || die "$bundle: no such file"
    signature=${signature:-$bundle.sig}
}

verify_signature() {
    local status
    begin signature "is $(basename "$bundle") what a trusted key has signed"
    need gpgv "Debian and Ubuntu: apt-get install gpgv; Red Hat: dnf install gnupg2"
    [ -n "$keyring" ] || die "--keyring is missing: the public key of whoever made the archive, got by another way than the archive"
    [ -f "$keyring" ] || die "$keyring: no such file"
    [ -f "$signature" ] || die "$signature: no such file; an archive without its signature is not installed"
    if head -c 10 "$keyring" | grep -q -e '-----BEGIN'; then
        die "$keyring is armoured: gpg --dearmor < $keyring > trusted.gpg, and name that file"
    fi
    keyring=$(cd "$(dirname "$keyring")" && pwd)/$(basename "$keyring")
    status=$(gpgv --homedir /nonexistent --weak-digest SHA1 --keyring "$keyring" --status-fd 1 "$signature" "$bundle" 2>&1) ||
        die "$bundle: not signed by a key of $keyring, or changed since. Nothing of it was used. gpgv says: $(
            grep -v '^\[GNUPG:\]' <<<"$status" | tail -n 1
        )"
    # gpgv alone takes every key of the file for a good one.
    if grep -q -e '^\[GNUPG:\] REVKEYSIG ' <<<"$status"; then die "$bundle: the key that signed it is revoked. Nothing of it was used."; fi
    status=$(sed -n 's/^\[GNUPG:\] VALIDSIG \([0-9A-F]*\) .*/\1/p' <<<"$status")
    [ -n "$status" ] || die "$bundle: gpgv found no valid signature. Nothing of it was used."
    say "  signed by $status"
}

fact() { sed -n "s/^$1=//p" <<<"$facts"; }

# What the archive says of itself; only after its signature.
read_facts() {
    begin archive "what is in it"
    top=$(basename "$bundle" .tar)
    facts=$(tar --occurrence=1 -xOf "$bundle" "$top/RELEASE" 2>/dev/null) || {
        top=$(tar -tf "$bundle" 2>/dev/null | sed -n '1s|/.*||p')
        facts=$(tar --occurrence=1 -xOf "$bundle" "$top/RELEASE" 2>/dev/null) || die "$bundle: no RELEASE in it: no archive of this product"
    }
    version=$(fact version)
    id=$(fact id)
    say "  $version for $(fact arch), $id"
    [ "$(fact arch)" = "$arch" ] || die "the archive is for $(fact arch), wanted is $arch"
    if [ "$mode" != images ] && [ "$arch" != "$(this_arch)" ]; then
        die "--arch $arch: this machine is $(this_arch); only --mode images may be for another one"
    fi
    if tar --occurrence=1 -xOf "$bundle" "$top/install.sh" 2>/dev/null | cmp -s - "$here/$me"; then :; else
        die "this $me is not the one in the archive: tar -xf $bundle $top/install.sh, and use that one"
    fi
}

# What is neither file nor directory nor a link within the directory $1.
strays() {
    # shellcheck disable=SC2016  # that shell's own
    (cd "$1" && find . ! -type f ! -type d \( ! -type l -o ! -exec sh -c 'case $(realpath -e "$1" 2>/dev/null) in "$2"/*) ;; *) exit 1 ;; esac' sh {} "$(pwd -P)" \; \) -print)
}

unpack() {
    local strange
    begin unpack "into $prefix/releases/$id"
    release=$prefix/releases/$id
    if [ "$dry" = yes ]; then
        say "  would: unpack $(tar -tf "$bundle" | grep -vc '/$') files and compare each with SHA256SUMS"
        return
    fi
    mkdir -p "$prefix/releases"
    unpacked=$(mktemp -d "$prefix/releases/.unpacking.XXXXXX")
    tar -C "$unpacked" --no-same-owner --no-same-permissions --strip-components=1 -xf "$bundle" || die "$bundle cannot be unpacked: is there room in $prefix?"
    begin checksums "every file that was unpacked"
    (cd "$unpacked" && sha256sum --check --strict --quiet SHA256SUMS) || die "$prefix: files are not as they were packed: is the disk in order?"
    [ "$(cd "$unpacked" && find . -type f ! -path ./SHA256SUMS | LC_ALL=C sort)" = "$(sed 's/^[0-9a-f]*  //' "$unpacked/SHA256SUMS" | LC_ALL=C sort)" ] ||
        die "the archive holds files that SHA256SUMS does not name"
    strange=$(strays "$unpacked")
    [ -z "$strange" ] || die "the archive holds something else than files and links within it: $strange"
    chmod -R u=rwX,go=rX "$unpacked"
}

# --- images ------------------------------------------------------------------------------------------------

pushes() { case ${registry%%/*} in *.* | *:* | localhost) return 0 ;; *) return 1 ;; esac; }

check_engine() {
    begin engine "does it answer"
    [ -n "$(fact images)" ] || die "the archive was made without images"
    need docker "the engine's command; or use --mode process"
    docker info >/dev/null 2>&1 || die "the Docker Engine does not answer: is it started, and may $(id -un) use it?"
}

load_images() {
    local image name
    begin images "into the engine$(pushes && printf ' and to %s' "$registry")"
    run docker load --quiet --input "$unpacked/images/images.tar.gz"
    pushes || return 0
    for image in $(fact images); do
        name=$registry/${image##*/}
        run docker tag "$image" "$name"
        run docker push --quiet "$name" || die "$name cannot be pushed: docker login ${registry%%/*}? insecure-registries in /etc/docker/daemon.json?"
    done
}

# --- program -----------------------------------------------------------------------------------------------

check_python() {
    # -I wherever it is called: not the modules of the directory that somebody stands in, which may be the medium.
    begin python "the one that the packages are for"
    need "$python" "apt-get install python3 python3-venv"
    "$python" -I -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$(fact python)')" ||
        die "$python is $("$python" -I -c 'import platform; print(platform.python_version())'), the packages are for $(fact python): --python, or --mode docker"
    "$python" -I -c 'import ensurepip, venv' 2>/dev/null || die "$python has no venv: apt-get install python3-venv"
    [ -n "$(fact wheel)" ] || die "the archive was made without a wheelhouse"
}

install_program() {
    local wheels pip=$release/venv/bin/pip
    begin program "a virtual environment from the wheelhouse, by hashes"
    run rm -rf --one-file-system "$release"
    run mv "$unpacked" "$release"
    keep_unpacked
    wheels=$release/wheelhouse
    run "$python" -I -m venv "$release/venv"
    run env PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
        "$pip" install --quiet --no-compile --find-links "$wheels" --require-hashes -r "$wheels/requirements.txt"
    run env PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
        "$pip" install --quiet --no-compile --no-deps "$wheels/$(fact wheel)"
    run "$release/venv/bin/python" -I -m compileall -q -j 0 "$release/venv/lib"
    run rm -rf --one-file-system "$wheels"
}

keep_unpacked() { if [ "$dry" = no ]; then unpacked=''; fi; }

place_release() {
    begin program "charts, units, documents, SBOMs"
    run rm -rf --one-file-system "$unpacked/images" "$unpacked/wheelhouse"
    run rm -rf --one-file-system "$release"
    run mv "$unpacked" "$release"
    keep_unpacked
}

place_models() {
    local model name
    [ -n "$(fact models)" ] || return 0
    begin models "into $prefix/models; what is there already stays as it is"
    run mkdir -p "$prefix/models"
    for name in $(fact models); do
        model=$release/models/$name
        if [ -e "$prefix/models/$name" ]; then
            say "  $name is there already"
        else
            run cp -R --no-dereference "$model" "$prefix/models/$name"
        fi
    done
}

# --- configuration -----------------------------------------------------------------------------------------

# A command with the variables that the service of a release has; those of its unit are read by systemd, as for the service.
with_variables() { # release, then the command
    (
        variables=(STATE_DIRECTORY="$state")
        if by_units "$1"; then
            mapfile -d '' -t variables < <(systemd-run --quiet --wait --pipe --collect \
                --property=EnvironmentFile=-/etc/default/calls-offloader --setenv="STATE_DIRECTORY=$state" /usr/bin/env -0 </dev/null)
            [ "${#variables[@]}" -gt 0 ] || die "systemd-run does not tell what /etc/default/calls-offloader says"
        fi
        export "${variables[@]}"
        shift
        exec "$@"
    )
}

# The service's own command of a release: $1, then arguments.
offloader() {
    local from=$1
    shift
    if [ "$mode" = docker ]; then
        docker run --rm --interactive --network none --volume "$config:/config/config.toml:ro" "$(sed -n 's/^image=//p' "$from/INSTALLED")" "$@"
    else
        with_variables "$from" "$from/venv/bin/calls-offloader" "$@" --config "$config"
    fi
}

# The Python of a release: $1, then arguments.
python_of() {
    local from=$1
    shift
    if [ "$mode" = docker ]; then
        docker run --rm --interactive --network none --entrypoint python "$(sed -n 's/^image=//p' "$from/INSTALLED")" -P "$@"
    else
        "$from/venv/bin/python" -P "$@"
    fi
}

# A value that is in force: release, key.
setting() {
    offloader "$1" config show --json | python_of "$1" -c 'import json, sys; print(json.load(sys.stdin)["values"][sys.argv[1]]["value"])' "$2" ||
        die "$config cannot be used: see above"
}

render_configuration() {
    local models="$prefix/models"
    cat <<TEXT
# Made by install.sh $version. Every key and its default: offloader.sample.toml of the release.
[api]
http.listen_address = "${listen:-:4545}"

[jobs]
api_type = "$mode"
# Has to be what MM_CALLS_JOB_SERVICE_IMAGE_REGISTRY of the Mattermost server says ("mattermost" where it is not set).
image_registry = "${registry:-mattermost}"
TEXT
    if [ "$mode" = docker ]; then
        printf '\n[jobs.docker]\nmodels_dir = "%s"\n' "$models"
        pushes || printf '# The images were loaded here; nothing is looked for in a registry.\npull_policy = "never"\n'
        if pushes; then
            printf '\n[jobs.runner_images]\n'
            printf '"*/calls-%s:*" = "%s"\n' recorder "$registry/calls-recorder:$version" transcriber "$registry/calls-transcriber:$version"
        fi
    else
        printf '\n[jobs.process]\nmodels_dir = "%s"\n' "$models"
    fi
    printf '\n[logger]\nenable_file = false\n'
}

configure() { # the release before, where there is one
    local asked=$registry reader=$1
    begin configuration "$config"
    if [ -e "$config" ]; then
        [ -n "$reader" ] || [ "$dry" = yes ] || reader=$release
        if [ -n "$reader" ]; then
            registry=${registry:-$(setting "$reader" jobs.image_registry)}
            listen=${listen:-$(setting "$reader" api.http.listen_address)}
        fi
        show_difference
    elif [ "$dry" = yes ]; then
        say "  would: write $config:"
        render_configuration | sed 's/^/    /'
    else
        mkdir -p "$(dirname "$config")"
        render_configuration >"$config.part"
        protect "$config.part"
        mv "$config.part" "$config"
        say "  written"
    fi
    [ "$dry" = no ] || return 0
    offloader "$release" config check || die "$config does not suit $version: correct it and start again; nothing was changed in what runs"
    agree "$release" "$asked"
    registry=$(setting "$release" jobs.image_registry)
    listen=$(setting "$release" api.http.listen_address)
}

agree() { # release, what --image-registry says
    local agreed
    [ -n "$2" ] || return 0
    agreed=$(setting "$1" jobs.image_registry)
    [ "$agreed" = "$2" ] ||
        die "$config has jobs.image_registry = \"$agreed\", and --image-registry says $2: change one of them; nothing was changed in what runs"
}

show_difference() {
    if render_configuration | diff -u --label "$config (yours, it stays)" --label "what a new one would be" "$config" - | without_secrets; then
        say "  $config is what a new one would be"
        return
    fi
    say "  $config stays as it is; what a new one would be is in $config.new"
    if [ "$dry" = no ]; then
        render_configuration >"$config.new"
        protect "$config.new"
    fi
}

# What is printed ends up in logs of whatever runs this.
without_secrets() {
    sed -E -e '/secret|key|password|token|url|source|hook|headers/I s/=.*/= …/' -e 's|://[^/"[:space:]]*@|://…@|' -e 's/^/  /'
}

# It may hold the admin's key: for root and for who runs the service.
protect() {
    chmod 640 "$1"
    if [ "$(id -u)" -ne 0 ]; then return 0; fi
    if [ "$mode" = docker ]; then chown 0:10001 "$1"; else chgrp "$(id -g "$user")" "$1"; fi
}

prepare_host() {
    begin host "user and directories"
    if [ "$mode" = process ] && ! id "$user" >/dev/null 2>&1; then
        run useradd --system --home-dir "$prefix" --no-create-home --shell /usr/sbin/nologin "$user"
    fi
    run mkdir -p "$state" "$prefix/backups"
    run chmod 700 "$state" "$prefix/backups"
    if [ "$(id -u)" -ne 0 ]; then return 0; fi
    if [ "$mode" = docker ]; then run chown 10001:10001 "$state"; else run chown "$user": "$state"; fi
}

# --- the service -------------------------------------------------------------------------------------------

by_units() { [ -e "$1/BY_UNITS" ]; }

# Only once the new release is well: those that served last stay, and in any case what --rollback goes back to.
remove_old_releases() {
    local one all
    mapfile -t all < <(find "$prefix/releases" -mindepth 2 -maxdepth 2 -name INSTALLED -printf '%h\n' 2>/dev/null |
        xargs -r -d '\n' stat --format '%Y %n' | sort -rn | sed 's/^[0-9]* //')
    for one in "${all[@]:$kept}"; do
        case $one in "$(current current)" | "$(current previous)") continue ;; esac
        # A worker or an SFU that was not restarted since would miss what it has not loaded yet.
        if grep -qsF "$one/" /proc/[0-9]*/maps; then continue; fi
        begin releases "${one##*/} is older than the $kept newest"
        run rm -rf --one-file-system "$one"
    done
}

is_running() { # of a release
    if [ "$mode" = docker ]; then
        [ "$(docker inspect --format '{{.State.Running}}' calls-offloader 2>/dev/null)" = true ]
    elif by_units "$1"; then
        systemctl is-active --quiet calls-offloader
    else
        [ -s "$state/service.pid" ] && tr '\0' ' ' 2>/dev/null <"/proc/$(cat "$state/service.pid")/cmdline" | grep -q calls-offloader
    fi
}

check_jobs() { # of the release that runs
    begin jobs "would a restart end a recording"
    is_running "$1" || { say "  the service does not run"; return 0; }
    [ "$mode" = process ] || { say "  containers run on and are adopted"; return 0; }
    if [ "$drain" = yes ]; then
        drained=$1
        run offloader "$1" drain --wait
    elif ! offloader "$1" status --safe; then
        [ "$force" = yes ] || die "jobs run: --drain waits for them, --force ends their recordings; nothing was changed in what runs"
    fi
}

stop_service() {
    local pid
    begin stop "the release that runs"
    is_running "$1" || { say "  it does not run"; return 0; }
    if [ "$mode" = docker ]; then
        run docker stop -t 60 calls-offloader
    elif by_units "$1"; then
        run systemctl stop calls-offloader
    else
        pid=$(cat "$state/service.pid")
        run kill -TERM "$pid"
        if [ "$dry" = no ]; then
            while is_running "$1"; do sleep 0.2; done
            rm -f "$state/service.pid"
        fi
    fi
    drained=''
    if [ "$start" = yes ]; then stopped=$1; fi
}

back_up() {
    local source backup name
    backup=$prefix/backups/$(date -u +%Y%m%dT%H%M%SZ)-$(basename "$1")
    begin backup "configuration and database, to $backup"
    if [ "$dry" = yes ]; then
        say "  would: copy them there"
        return
    fi
    mkdir -p "$backup"
    [ ! -e "$config" ] || cp -p "$config" "$backup/config.toml"
    source=$(database_of "$1")
    case $source in
        *://*) say "  the database is at ${source%%://*}: back it up by its own tools" ;;
        *)
            [ -f "$source" ] || say "  no database at $source"
            for name in "$source" "$source-wal" "$source-shm" "$source.key"; do
                [ ! -f "$name" ] || cp -p "$name" "$backup/"
            done
            ;;
    esac
    say "$backup" >"$release/BACKUP"
    say "  $(find "$backup" -type f | wc -l) files"
}

database_of() {
    local source
    source=$(setting "$1" store.data_source)
    case $mode:$source in docker:/var/lib/calls-offloader | docker:/var/lib/calls-offloader/*) source=$state${source#/var/lib/calls-offloader} ;; esac
    [ ! -d "$source" ] || source=$source/offloader.db
    printf '%s' "$source"
}

switch_to() { # release, what is previous from now on
    begin switch "$(basename "$1") is the current release"
    run ln -sfn "$1" "$prefix/current"
    stopped=''
    [ -z "$2" ] || run ln -sfn "$2" "$prefix/previous"
    [ "$mode" = process ] || return 0
    if [ -d "$prefix/venv" ] && [ ! -L "$prefix/venv" ]; then
        run mv "$prefix/venv" "$prefix/venv.before"
    fi
    run ln -sfn current/venv "$prefix/venv"
}

install_units() {
    local unit
    by_units "$1" || return 0
    begin units "systemd"
    for unit in calls-offloader calls-offloader-worker calls-sfu; do
        run install -m 644 "$1/systemd/$unit.service" "/etc/systemd/system/$unit.service"
    done
    run systemctl daemon-reload
    run systemctl enable --quiet calls-offloader
}

as_user() {
    if [ "$(id -u)" -eq 0 ] && [ "$user" != root ]; then
        exec setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups -- "$@"
    fi
    exec "$@"
}

start_service() {
    local image arguments port
    begin start "$(basename "$1")"
    if [ "$mode" = docker ]; then
        image=$(sed -n 's/^image=//p' "$1/INSTALLED" 2>/dev/null || true)
        arguments=(--detach --name calls-offloader --restart unless-stopped --read-only --tmpfs /tmp --cap-drop ALL
            --security-opt no-new-privileges --group-add "$(stat -c %g /var/run/docker.sock)"
            --volume "$state:/var/lib/calls-offloader" --volume "$config:/config/config.toml:ro"
            --volume /var/run/docker.sock:/var/run/docker.sock)
        network=${network:-$(sed -n 's/^network=//p' "$1/INSTALLED" 2>/dev/null || true)}
        [ -z "$network" ] || arguments+=(--env "DOCKER_NETWORK=$network")
        port=${listen##*:}
        if [ "$network" = host ]; then arguments+=(--network host); else arguments+=(--publish "${port:-4545}:${port:-4545}"); fi
        if docker inspect calls-offloader >/dev/null 2>&1; then run docker rm --force calls-offloader; fi
        run docker run "${arguments[@]}" "${image:-calls-native-offloader/calls-offloader:$version}"
    elif by_units "$1"; then
        run systemctl restart calls-offloader
    elif [ "$dry" = yes ]; then
        say "  would: start $1/venv/bin/calls-offloader as $user"
    else
        (
            cd "$state"
            umask 077
            export STATE_DIRECTORY=$state
            # The directory is the user's: root opens nothing in it, it might be a link.
            # shellcheck disable=SC2016  # that shell's own
            as_user setsid sh -c 'echo $$ >service.pid; exec "$@" >>service.log 2>&1' sh "$1/venv/bin/calls-offloader" --config "$config"
        ) </dev/null >/dev/null 2>&1 &
        while kill -0 $! 2>/dev/null && [ "$(cat "$state/service.pid" 2>/dev/null)" != $! ]; do sleep 0.05; done
    fi
}

# Standard input of the Python of the release that runs.
probe() {
    cat <<'PYTHON'
import json, os, ssl, sys, time, urllib.error, urllib.request
from pathlib import Path
from offloader.settings import read_settings
path, version, wait_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
api = read_settings(path, os.environ).settings.api
host, _, port = api.listen_address.rpartition(":")
base = f"http{'s' if api.tls.enable else ''}://{host if host not in ('', '0.0.0.0', '[::]') else '127.0.0.1'}:{port}"
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
)
def get(route):
    try:
        with opener.open(base + route, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
until = time.monotonic() + wait_s
for route in ("/healthz", "/readyz", "/version"):
    while True:
        try:
            status, document = get(route)
        except OSError as error:
            status, document = 0, {"error": str(error)}
        if status == 200:
            break
        if time.monotonic() > until:
            sys.exit(f"{base}{route}: {status or 'no answer'}: {document.get('error', '')}")
        time.sleep(0.2)
    if route == "/version" and document["buildVersion"] != version:
        sys.exit(f"{base}/version says {document['buildVersion']}: another service answers there")
    print(f"  {base}{route}: {document.get('status') or document['buildVersion']}")
PYTHON
}

check_service() {
    local of
    begin check "/healthz, /readyz, /version"
    if [ "$dry" = yes ]; then
        say "  would: ask each of them for at most $wait_s s"
        return
    fi
    of=$(sed -n 's/^version=//p' "$1/RELEASE")
    if [ "$mode" = docker ]; then
        probe | docker exec --interactive calls-offloader python -P - /config/config.toml "$of" "$wait_s"
    else
        probe | with_variables "$1" "$1/venv/bin/python" -P - "$config" "$of" "$wait_s"
    fi || die "the service is not well. Its log: $(log_of "$1"). Back to the release before: $me --rollback"
}

log_of() {
    if [ "$mode" = docker ]; then echo "docker logs calls-offloader"; elif by_units "$1"; then echo "journalctl -u calls-offloader"; else echo "$state/service.log"; fi
}

print_settings() {
    say ""
    say "Both have to name the same registry:"
    say "  the job service, $config:"
    say "    jobs.image_registry = \"${registry:-mattermost}\""
    say "  the environment of the Mattermost server:"
    say "    MM_CALLS_JOB_SERVICE_IMAGE_REGISTRY=${registry:-mattermost}"
    listen=${listen:-:4545}
    [ "$mode" = images ] || say "System Console > Plugins > Calls > Job service URL: http://HOST:${listen##*:}; then restart the plugin."
}

# --- what is asked for -------------------------------------------------------------------------------------

current() { readlink "$prefix/$1" 2>/dev/null || true; }

mode_of() { sed -n 's/^mode=//p' "$1/INSTALLED" 2>/dev/null || true; }

remember() {
    if [ "$dry" = yes ]; then return 0; fi
    printf 'mode=%s\nimage=%s\nnetwork=%s\n' "$mode" "calls-native-offloader/calls-offloader:$version" "$network" >"$release/INSTALLED"
    if [ "$units" = yes ]; then touch "$release/BY_UNITS"; fi
}

install_release() {
    local before
    verify_signature
    read_facts
    before=$(current current)
    if [ "$mode" = images ]; then before=''; fi
    mode=${mode:-$(mode_of "${before:-/nonexistent}")}
    mode=${mode:-process}
    if [ -n "$before" ] && [ "$mode" != "$(mode_of "$before")" ]; then
        die "--mode $mode: the release that is installed here is of mode $(mode_of "$before"), and would run on: another --prefix and --state-dir, or stop it and remove $prefix/current"
    fi
    if [ -n "$before" ] && by_units "$before"; then units=yes; fi
    if [ "$units" = yes ]; then
        [ "$mode" = process ] || misused "--units: only with --mode process; containers are restarted by the engine"
        [ "$prefix $state $config $user" = "/opt/calls-offloader /var/lib/calls-offloader /opt/calls-offloader/config.toml calls-offloader" ] ||
            misused "--units: the units have the default --prefix, --state-dir, --config and --user; own ones belong into systemctl edit"
        need systemctl "this machine has no systemd"
    fi
    if [ "$mode" = process ]; then check_python; else check_engine; fi
    if [ "$before" = "$prefix/releases/$id" ]; then
        say "  this release is installed already"
        release=$before
        if [ "$units" = yes ] && ! by_units "$release"; then
            ! is_running "$release" || die "--units: it runs as a plain process: kill $(cat "$state/service.pid"), when no call is recorded, and start again"
            run touch "$release/BY_UNITS"
        fi
        # What the last run may not have come to.
        install_units "$release"
        if [ "$start" = yes ] && ! is_running "$release"; then start_service "$release"; fi
        [ "$start" = no ] || check_service "$release"
        print_settings
        return
    fi
    if [ -n "$before" ]; then
        # Long before it is needed: an installation takes a minute, and shall not be for nothing.
        agree "$before" "$registry"
        [ "$drain$force" != nono ] || check_jobs "$before"
    fi
    unpacked=$prefix/releases/.unpacking
    unpack
    [ "$mode" = process ] || load_images
    if [ "$mode" = images ]; then
        if [ -e "$release/INSTALLED" ]; then say "  $release is there already, for a service here: it stays"; else place_release; fi
        print_settings
        say "Charts: $release/charts (helm install); their values: image.registry or as docs/helm.md says."
        return
    fi
    prepare_host
    if [ "$mode" = process ]; then install_program; else place_release; fi
    remember
    place_models
    configure "$before"
    if [ -n "$before" ]; then
        check_jobs "$before"
        stop_service "$before"
        back_up "$before"
    fi
    switch_to "$release" "$before"
    install_units "$release"
    if [ "$start" = yes ]; then
        start_service "$release"
        check_service "$release"
    fi
    remove_old_releases
    print_settings
}

roll_back() {
    local from backup source
    begin rollback "which release was before"
    from=$(current current)
    release=$(current previous)
    if [ -z "$from" ] || [ ! -d "$release" ]; then die "$prefix: there is no release before the present one"; fi
    mode=$(mode_of "$release")
    version=$(sed -n 's/^version=//p' "$release/RELEASE")
    say "  from $(basename "$from") to $(basename "$release")"
    offloader "$release" config check || die "$config does not suit $version: the one it had is in $(cat "$from/BACKUP" 2>/dev/null || echo "$prefix/backups")"
    registry=$(setting "$release" jobs.image_registry)
    listen=$(setting "$release" api.http.listen_address)
    backup=$(cat "$from/BACKUP" 2>/dev/null || true)
    if [ "$restore_database" = yes ]; then
        source=$(database_of "$release")
        if [ -z "$backup" ] || [ ! -f "$backup/$(basename "$source")" ]; then
            die "there is no copy of the database in ${backup:-$prefix/backups}; nothing was changed in what runs"
        fi
    fi
    check_jobs "$from"
    stop_service "$from"
    back_up "$from"
    if [ "$restore_database" = yes ]; then restore_database "$backup" "$source"; fi
    switch_to "$release" "$from"
    install_units "$release"
    if [ "$start" = yes ]; then
        start_service "$release"
        check_service "$release"
    fi
    print_settings
}

restore_database() { # directory of the backup, place of the database
    local name
    begin database "as it was before the upgrade, from $1"
    # From here on the release that was stopped may find a database that is not its own.
    stopped=''
    run rm -f "$2-wal" "$2-shm"
    for name in "$1/$(basename "$2")"*; do
        run cp -p --remove-destination "$name" "$(dirname "$2")/"
    done
}

read_arguments "$@"
if [ "$action" != verify ] && [ "$dry" = no ] && [ "$prefix" = /opt/calls-offloader ] && [ "$(id -u)" -ne 0 ]; then
    die "$prefix belongs to root: run it as root, or name a --prefix and a --state-dir of your own"
fi
case $action in
    rollback) roll_back ;;
    verify)
        find_bundle
        verify_signature
        read_facts
        ;;
    install)
        find_bundle
        install_release
        ;;
esac
step=end
[ "$dry" = no ] || say "Nothing was changed."
