#!/usr/bin/env bash
# Makes the Debian package: relay_VERSION-REVISION_ARCH.deb, beside it one of debug symbols (.ddeb),
# both in target/debian, and prints the first one's path.
#
#     relay-bin/dist/package.sh [--no-build] [--revision N] [--fast]
#
# It builds the program, unless --no-build says that target/release/relay is the one to take; has
# it write its manual pages and completions; collects the licences of what it is built from; and
# has cargo-deb (cargo install --locked cargo-deb --version 3.8.0) put all of it together; with
# --fast it compresses less, for a test.
#
# Whoever installs a package cannot choose features. So it has PostgreSQL, without which a second
# connection point of a site that issues tokens cannot be set up; it costs a machine that does not
# use it nothing but space. Spans (otel) are not in it: a feature that is off by default.
#
# The same program makes the same package: its times are that of the last commit, or
# SOURCE_DATE_EPOCH. DEBFULLNAME and DEBEMAIL, if they are set, say who makes it.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=yes
revision=1
# Symbols apart (--dbgsym): with them the program is five times as large, and nothing in it needs
# them but the lines of a backtrace.
arguments=(--no-build --locked --quiet --package relay-bin --output target/debian/ --dbgsym)
while [ $# -gt 0 ]; do
    case "$1" in
    --no-build) build=no ;;
    --fast) arguments+=(--fast) ;;
    --revision)
        revision=${2:?--revision needs a number}
        shift
        ;;
    *)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
    esac
    shift
done

features=postgres
target=${CARGO_TARGET_DIR:-target}
parts=target/package
[ "$build" = no ] || cargo build --release --locked -p relay-bin --features "$features"
relay=$target/release/relay
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

rm -rf "$parts/man" "$parts/completions"
mkdir -p "$parts/completions"
"$relay" man --out "$parts/man" >&2
for shell in bash zsh fish; do
    "$relay" completions "$shell" >"$parts/completions/relay.$shell"
done

# What the program is built from, and each text of a licence once, with all whose it is.
licences() {
    local package version licence folder file hash
    declare -A of=() text=()
    while read -r package version licence; do
        printf '%s %s: %s\n' "$package" "${version#v}" "$licence"
        folder=("${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$package-${version#v}")
        # Libraries of C stand one folder below.
        while read -r file; do
            hash=$(sha256sum <"$file" | cut -c1-64)
            of[$hash]+=" $package-${version#v}"
            text[$hash]=$file
        done < <(find "${folder[0]}" -maxdepth 2 -type f -regextype egrep \
            -iregex '.*/(licen[cs]e|copying|copyright|notice)[^/]*' | sort)
    done < <(cargo tree --locked -p relay-bin --features "$features" --edges normal --prefix none \
        --format '{p} {l}' | grep -v ' (/' | sed 's/ (proc-macro)//; s/ (\*)$//' | sort -u)
    for hash in $(printf '%s\n' "${!of[@]}" | sort); do
        printf '\n%.80s\n' ====================================================================
        fmt -s -w 100 <<<"${of[$hash]# }"
        echo
        cat "${text[$hash]}"
    done
}
licences | gzip -9n >"$parts/third-party-licences.txt.gz"

maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' relay-bin/Cargo.toml)
if [ -n "${DEBEMAIL:-}" ]; then
    maintainer="${DEBFULLNAME:-relay} <$DEBEMAIL>"
    arguments+=(--maintainer "$maintainer")
fi
version=$("$relay" --version | cut -d' ' -f2)
cat >"$parts/changelog.Debian" <<END
relay ($version-$revision) unstable; urgency=medium

  * Version $version; /usr/share/doc/relay/changelog.gz has what is new.

 -- $maintainer  $(date -R -u -d "@$SOURCE_DATE_EPOCH")
END

cargo deb "${arguments[@]}" --deb-revision "$revision" >&2
echo "target/debian/relay_$version-${revision}_$(dpkg --print-architecture).deb"
