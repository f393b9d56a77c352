#!/usr/bin/env bash
# The Debian package, installed: a root of Debian's is made, systemd is booted in it as the first
# process of a container, and inside.sh installs, runs, upgrades and removes the package there. Then
# lintian judges the package.
#
#     tests/package/run.sh
#
# It packs target/release/relay as it is: `cargo build --release -p relay-bin` first. It needs
# cargo-deb, dpkg-dev, lintian, mmdebstrap and systemd-nspawn (systemd-container); without those it
# says so and is skipped, or fails if RELAY_REQUIRE_TOOLS is 1. The account must be root, and be
# able to make namespaces. The roots are kept in target/package: that of the release of Debian that
# this machine has, the oldest which a program that was built here runs on, and those of
# RELAY_PACKAGE_RELEASES besides.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin

missing=()
for tool in cargo-deb dpkg-shlibdeps lintian mmdebstrap systemd-nspawn; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ "${#missing[@]}" -gt 0 ]; then
    echo "${missing[*]} cannot be started; install them to run this test"
    [ "${RELAY_REQUIRE_TOOLS:-}" != 1 ] || exit 1
    echo skipped
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! unshare --mount --net --pid --cgroup --fork true 2>/dev/null; then
    echo "skipped: this account may not start a container"
    exit 0
fi

parts=target/package
mkdir -p "$parts"
work=$(mktemp -d "$PWD/$parts/work.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
# The second is the same program at a later time: an upgrade. cargo-deb keeps one of them alone.
for revision in 1 2; do
    mv "$(relay-bin/dist/package.sh --no-build --fast --revision $revision)" "$work/$revision.deb"
done
cmp "$work/2.deb" "$(relay-bin/dist/package.sh --no-build --fast --revision 2)"

# What the package is looked at with, beside what it depends on.
programs=systemd,systemd-sysv,dbus,man-db,bash-completion,zsh,fish

installed() {
    local release=$1 root=$work/$1 status=0
    if [ ! -f "$parts/$release.tar" ]; then
        mmdebstrap --quiet --variant=minbase --include="$programs" \
            --aptopt='Acquire::Languages "none"' "$release" "$work/$release.tar"
        mv "$work/$release.tar" "$parts/$release.tar"
    fi
    mkdir "$root"
    tar -xpf "$parts/$release.tar" -C "$root"
    mkdir "$root/test"
    cp "$work/1.deb" "$work/2.deb" "$root/test/"
    cp tests/package/inside.sh tests/package/backend.sh "$root/test/"
    cp tests/package/*.service tests/package/*.socket "$root/etc/systemd/system/"
    echo "127.0.0.1 localhost relay.test" >"$root/etc/hosts"
    systemctl --root="$root" --quiet enable relay-test.service
    # Its own cgroups are of version 2, whatever this machine has.
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout --kill-after=30 900 \
        systemd-nspawn --quiet --register=no --keep-unit --private-network --link-journal=no \
        --directory="$root" --boot </dev/null >"$work/$release.console" 2>&1 || status=$?
    cat "$root/test/said" || cat "$work/$release.console"
    if [ "$status" -ne 0 ]; then
        tail -n 40 "$work/$release.console"
        echo "in Debian's $release: ended with $status" >&2
        return 1
    fi
    grep -q "^done$" "$root/test/said"
}

. /etc/os-release
for release in $(printf '%s\n' "$VERSION_CODENAME" ${RELAY_PACKAGE_RELEASES:-} | sort -u); do
    echo "installed in Debian's $release"
    installed "$release"
done

lintian --allow-root --fail-on error,warning "$work/1.deb"
