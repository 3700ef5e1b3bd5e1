#!/usr/bin/env bash
# Makes one signed archive with everything that an installation without a network needs. docs/airgapped.md
#   bundle.sh --sign-key KEY [--output DIR] [--models DIR] [--images "NAME …" | --no-images]
#             [--wheelhouse DIR | --no-wheelhouse] [--sbom DIR] [--arch ARCH]
# KEY is what `gpg --local-user` takes; GNUPGHOME says where it is.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022

die() { printf 'bundle.sh: %s\n' "$*" >&2; exit 1; }

key='' output=dist models=models images=all wheelhouse=images/wheelhouse sbom=dist/images arch=amd64
while [ $# -gt 0 ]; do
    case $1 in
        --no-images) images='' ;;
        --no-wheelhouse) wheelhouse='' ;;
        --sign-key | --output | --models | --images | --wheelhouse | --sbom | --arch)
            if [ $# -lt 2 ] || [ -z "$2" ]; then die "$1: should be followed by a value"; fi
            case $1 in
                --sign-key) key=$2 ;;
                --output) output=$2 ;;
                --models) models=$2 ;;
                --images) images=$2 ;;
                --wheelhouse) wheelhouse=$2 ;;
                --sbom) sbom=$2 ;;
                --arch) arch=$2 ;;
            esac
            shift
            ;;
        *) die "unknown option $1" ;;
    esac
    shift
done
[ -n "$key" ] || die "--sign-key (SIGN_KEY=…) is missing: nobody can install an archive that is not signed; gpg --quick-generate-key makes one"
gpg --batch --list-secret-keys "$key" >/dev/null 2>&1 || die "--sign-key $key: gpg has no such secret key"
[ -d "$models" ] || die "--models $models: no such directory"
[ "$images" != all ] || images=$(images/build.sh --list | tr '\n' ' ')

version=$(sed -n 's/^BUILD_VERSION = "\(.*\)"$/\1/p' offloader/version.py)
name=calls-native-offloader-$version-$arch
# What does not change between two runs from the same commit has the same bytes.
moment=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
pack() { tar --sort=name --mtime="@$moment" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --exclude=__pycache__ "$@"; }

# What is neither file nor directory nor a link within the directory $1.
strays() {
    # shellcheck disable=SC2016  # that shell's own
    (cd "$1" && find . ! -type f ! -type d \( ! -type l -o ! -exec sh -c 'case $(realpath -e "$1" 2>/dev/null) in "$2"/*) ;; *) exit 1 ;; esac' sh {} "$(pwd -P)" \; \) -print)
}

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
top=$work/$name
mkdir -p "$top"/{images,models,charts,wheelhouse,systemd,sbom,docs} "$output"

if [ -n "$images" ]; then
    echo "images: $images"
    for image in $images; do
        docker image inspect "$image" >/dev/null 2>&1 || die "image $image is not on this engine: make images"
        found=$(docker image inspect --format '{{.Architecture}}' "$image")
        [ "$found" = "$arch" ] || die "image $image is for $found, not for $arch"
    done
    # One archive: what images share is in it once.
    # shellcheck disable=SC2086  # several names
    docker save $images | gzip -1 -n >"$top/images/images.tar.gz"
fi

wheel=''
if [ -n "$wheelhouse" ]; then
    [ -f "$wheelhouse/requirements.txt" ] || die "$wheelhouse: no requirements.txt in it: make wheelhouse"
    echo "wheelhouse: $wheelhouse"
    cp "$wheelhouse"/*.whl "$wheelhouse/requirements.txt" "$top/wheelhouse/"
    wheel=$(cd "$top/wheelhouse" && echo calls_native_offloader-*.whl)
    if [ ! -f "$top/wheelhouse/$wheel" ]; then
        SOURCE_DATE_EPOCH=$moment .uv/bin/uv build --quiet --wheel --out-dir "$work/wheel" . >/dev/null
        wheel=$(cd "$work/wheel" && echo calls_native_offloader-*.whl)
        cp "$work/wheel/$wheel" "$top/wheelhouse/"
        .uv/bin/uv export --quiet --frozen --no-emit-project --no-dev --all-extras --output-file "$top/wheelhouse/requirements.txt" >/dev/null
        # What only building the images takes does not travel.
        for file in "$top"/wheelhouse/*.whl; do
            package=$(basename "$file" | sed 's/-.*//; s/[_.]/-/g; s/.*/\L&/')
            grep -q "^$package==" "$top/wheelhouse/requirements.txt" || [ "$package" = calls-native-offloader ] || rm "$file"
        done
    fi
fi

cp -R --no-dereference "$models/." "$top/models/"
astray=$(strays "$top/models")
[ -z "$astray" ] || die "--models $models: links lead out of it, and would lead nowhere on the other side: $(xargs <<<"$astray"). Copy what they lead to: cp -RL"
for file in "$top"/models/*/model.bin; do
    model=${file%/*}
    # For `offloader models verify`, for as long as the model is used.
    if [ -e "$file" ] && [ ! -L "$model" ] && [ ! -e "$model/SHA256SUMS" ]; then
        (cd "$model" && find . -maxdepth 1 -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum >"$work/sums")
        mv "$work/sums" "$model/SHA256SUMS"
    fi
done
for chart in helm/*/; do
    chart=$(basename "$chart")
    pack -C helm -cf - "$chart" | gzip -n >"$top/charts/$chart-$(sed -n 's/^version: *//p' "helm/$chart/Chart.yaml").tgz"
done
cp packaging/*.service "$top/systemd/"
cp offloader.sample.toml LICENSE CHANGELOG.md README.md "$top/"
cp -R docs/. "$top/docs/"
[ ! -e deploy/compose.yaml ] || cp deploy/compose.yaml "$top/"
cp "$sbom"/*.cdx.json "$top/sbom/" 2>/dev/null || [ -z "$images" ] || die "$sbom: no *.cdx.json in it: make images writes them"
cp packaging/install.sh "$top/install.sh"
find "$top" -name __pycache__ -prune -exec rm -rf {} +
find "$top" -type d -empty -delete

sums() { (cd "$top" && find . -type f ! -path ./SHA256SUMS -print0 | LC_ALL=C sort -z | xargs -0 sha256sum); }
cat >"$top/RELEASE" <<TEXT
version=$version
arch=$arch
python=3.11
commit=$(git rev-parse HEAD 2>/dev/null || true)
images=${images% }
wheel=$wheel
models=$(cd "$models" && for one in */model.bin; do [ ! -e "$one" ] || printf '%s ' "${one%/*}"; done)
TEXT
echo "id=$version-$(sums | sha256sum | cut -c 1-8)" >>"$top/RELEASE"
sums >"$top/SHA256SUMS"

archive=$output/$name.tar
# What is asked for first comes first, so that nobody has to read all of it for that.
pack -C "$work" -cf "$archive.part" "$name/RELEASE" "$name/install.sh"
pack -C "$work" -rf "$archive.part" --exclude="$name/RELEASE" --exclude="$name/install.sh" "$name"
mv "$archive.part" "$archive"
cp "$top/install.sh" "$output/install.sh"
for file in "$archive" "$output/install.sh"; do
    rm -f "$file.sig"
    gpg --batch --yes --quiet --digest-algo SHA512 --local-user "$key" --output "$file.sig" --detach-sign "$file"
done
echo "$archive ($(du -h "$archive" | cut -f 1)), install.sh, and the signature of each"
