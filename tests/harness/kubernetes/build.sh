#!/usr/bin/env bash
# Builds programs of Kubernetes for the tests: build.sh [--into FOLDER] [PROGRAM ...]
#
# PROGRAM is a folder of Kubernetes' cmd/, kube-apiserver unless said otherwise. etcd is put beside it. What is there
# already is kept, so that a later call can add kubelet and others. The folder's name has a hash of this file: when it
# changes, everything is built again, into another folder.
#
# No package index and no Debian package has these programs, but Debian 12's source package has everything that they are
# built from. All of it comes signed from Debian's own mirror and is unpacked in a folder of its own: nothing is installed,
# root is not needed, and the folder is gone afterwards. It takes about 2 GB and, on two idle cores, 5 minutes.
set -euo pipefail

version=1.20.2
source_sha256=b83c0780efb182d928dc63d46488a847f161f04e40a94b96bf5247dd671ecdfc
built_by=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-8)
into=${JOBAPI_TEST_KUBERNETES:-${XDG_CACHE_HOME:-$HOME/.cache}/airflow-provider-jobapi/kubernetes-$version-$built_by}
if [ "${1:-}" = --into ]; then
    into=$2
    shift 2
fi
programs=("$@")
[ $# -gt 0 ] || programs=(kube-apiserver)

mkdir -p "$into"
# The tests wait for this lock while the programs are built.
exec 9>"$into/.lock"
flock 9

missing=()
for program in "${programs[@]}"; do
    [ -x "$into/$program" ] || missing+=("$program")
done
[ ${#missing[@]} -gt 0 ] || [ ! -x "$into/etcd" ] || exit 0

for needed in apt-get dpkg-deb sha256sum tar; do
    command -v "$needed" >/dev/null || { echo "build.sh needs $needed, so Debian or a relative of it" >&2; exit 1; }
done

work=$(mktemp -d "$into/.building-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

say() {
    echo "$(printf '%4d s  ' $SECONDS)$*"
}

# An apt of its own: it reads nothing of this machine's but proxy settings, and writes into the folder alone.
mkdir -p apt/{state/lists/partial,cache/archives/partial,packages} debian
# The mirror that this machine uses, if it is Debian 12 itself.
mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 | tr -d ' ' || true)
mirror=${mirror:-http://deb.debian.org/debian}
for kind in deb deb-src; do
    echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main"
done >apt/sources.list
apt() {
    apt-get -q -o Dir::State="$work/apt/state" -o Dir::State::status=/dev/null -o Dir::Cache="$work/apt/cache" \
        -o Dir::Etc::SourceList="$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=root \
        -o APT::Architecture=amd64 -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
apt update
(
    cd apt/packages
    apt download golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev etcd-server
    apt source --download-only kubernetes
)
for package in apt/packages/*.deb; do
    dpkg-deb --extract "$package" debian
done
install -m 755 debian/usr/bin/etcd "$into/etcd"
say "fetched"

if [ ${#missing[@]} -gt 0 ]; then
    echo "$source_sha256  $(echo apt/packages/kubernetes_*.orig.tar.gz)" | sha256sum --check --quiet
    tree=$work/go/src/k8s.io/kubernetes
    mkdir -p "$tree"
    tar xzf apt/packages/kubernetes_*.orig.tar.gz -C "$tree" --strip-components 1
    rm -rf apt
    # The copy in there crashes when built by Go 1.18 and later.
    reflect2=$tree/vendor/github.com/modern-go/reflect2
    rm "$reflect2"/*.go "$reflect2"/*.s
    cp debian/usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} "$reflect2/"
    # Built by a Go of today, the check of types would take an empty string for null, and refuse it.
    wrong='if data == nil || reflect.DeepEqual(reflect.Zero(reflect.TypeOf(data)), reflect.ValueOf(data)) {'
    for checker in k8s.io/kube-openapi/pkg/validation/validate github.com/go-openapi/validate; do
        grep -qF "$wrong" "$tree/vendor/$checker/type.go"
        sed -i "s/$wrong/if data == nil {/" "$tree/vendor/$checker/type.go"
    done

    unset GOROOT GOFLAGS GOBIN GOTOOLDIR
    export GOROOT=$work/debian/usr/lib/go-1.19 GOPATH=$work/go GOCACHE=$work/compiled GO111MODULE=off GOPROXY=off
    export CGO_ENABLED=0 PATH=$work/debian/usr/lib/go-1.19/bin:$PATH
    cd "$tree"

    # The one generated file that the source package lacks.
    go build -o "$work/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
    described=$(grep -rl --include='*.go' -e '^\s*// *+k8s:openapi-gen=' staging/src/k8s.io pkg cmd plugin vendor/k8s.io/kube-openapi |
        grep -v _test.go | xargs -n1 dirname | sed 's#^staging/src/#vendor/#; s#^#k8s.io/kubernetes/#' |
        grep -vE '/(testdata|_examples|test|sample-apiserver)(/|$)' | sort -u | paste -sd,)
    "$work/openapi-gen" -O zz_generated.openapi -p k8s.io/kubernetes/pkg/generated/openapi -i "$described" \
        -h hack/boilerplate/boilerplate.generatego.txt --report-filename "$work/violations" --output-base "$work/go/src"
    say "generated"

    flags="-s -w -buildid="
    for place in component-base/version client-go/pkg/version; do
        for value in gitVersion=v$version gitMajor=1 gitMinor=20 gitTreeState=clean; do
            flags+=" -X k8s.io/kubernetes/vendor/k8s.io/$place.$value"
        done
    done
    for program in "${missing[@]}"; do
        go build -trimpath -ldflags "$flags" -tags "selinux,notest,providerless,dockerless" \
            -o "$work/built" "k8s.io/kubernetes/cmd/$program"
        mv "$work/built" "$into/$program"
        say "built $into/$program"
    done
fi
