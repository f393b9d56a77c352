#!/bin/bash
# What the package does where systemd is the first process. Each part says what it has seen; the
# first that is not as it should be ends all of it, with what was logged.
set -Eeuo pipefail
export LC_ALL=C.UTF-8 HOME=/root TERM=dumb DEBIAN_FRONTEND=noninteractive
cd /test
exec </dev/null

roles="relay-gateway.service relay-connection-point.service"
gateway=/var/lib/relay-gateway
point=/var/lib/relay-connection-point

failed() {
    echo "FAILED in line $1, called in ${BASH_LINENO[*]:1}: $2"
    systemctl --no-pager --full status relay-gateway.socket $roles || true
    journalctl --no-pager -b -n 200
}
trap 'failed "$LINENO" "$BASH_COMMAND"' ERR

seen() {
    echo "seen: $*"
}

property() {
    systemctl show --property="$2" --value "$1"
}

is() {
    [ "$1" = "$2" ] || { echo "is \`$1\` and should be \`$2\`"; return 1; }
}

# Errexit looks at nothing behind `!`.
not() {
    if "$@"; then
        echo "should have failed: $*"
        return 1
    fi
}

# Waits for the N-th line with a text that a unit has written since its last start.
logged() {
    # With its output thrown away grep 3.8 does not end at the N-th line.
    timeout 60 grep -m "${3:-1}" -e "$2" >/test/lines < <(
        exec journalctl "_SYSTEMD_INVOCATION_ID=$(property "$1" InvocationID)" \
            --follow --lines=all --output=cat
    )
}

# Waits for a line with a text about a unit.
told() {
    timeout 60 grep -m 1 -e "$2" >/dev/null < <(
        exec journalctl --unit="$1" --follow --lines=all --output=cat
    )
}

# The status line of the admin listener's answer.
asked() {
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
    head -n 1 <&3 | tr -d '\r'
    exec 3>&-
}

as_relay() {
    runuser -u relay -- "$@"
}

# What must be as it was, whatever happens to the package.
kept() {
    find $gateway $point /etc/systemd/system -xdev \( -type f -o -type l \) ! -name '*.wants' \
        -printf '%p %l %u %m ' \( -type f -exec sha256sum {} \; -o -printf '\n' \) | sort
}

install_it() {
    dpkg --install 1.deb
    is "$(dpkg-query -W -f '${Status}' relay)" "install ok installed"
    [[ "$(relay --version)" = "relay "* ]]
    is "$(command -v relay)" /usr/bin/relay
    is "$(dpkg-query -W -f '${Conffiles}' relay)" ""
    dpkg --verify relay
    seen "installed: $(relay --version)"
}

pages() {
    is "$(man -w relay-token-new)" /usr/share/man/man1/relay-token-new.1.gz
    MANPAGER=cat man relay-token-new 2>/test/man.said >/test/man.page
    grep -q -e --lifetime /test/man.page
    is "$(cat /test/man.said)" ""
    [ "$(ls /usr/share/man/man1/relay*.1.gz | wc -l)" -gt 30 ]
    seen "man relay-token-new"
}

completions() {
    # shellcheck disable=SC2016
    is "$(bash --noprofile --norc -c '
        source /usr/share/bash-completion/bash_completion
        if declare -F _comp_load >/dev/null; then _comp_load relay
        else _completion_loader relay || [ $? -eq 124 ]; fi
        function=$(complete -p relay); function=${function##*-F }; function=${function%% *}
        COMP_WORDS=(relay gate) COMP_CWORD=1
        "$function" relay gate relay
        echo "${COMPREPLY[*]}"')" gateway
    is "$(zsh -fc 'autoload -Uz compinit; compinit -d /test/comps; print $_comps[relay]')" _relay
    is "$(fish -c 'complete -C "relay gate"' | cut -f1)" gateway
    seen "completions of bash, zsh and fish"
}

account() {
    local entry
    entry=$(getent passwd relay)
    [[ "$entry" = relay:*:/usr/sbin/nologin ]]
    is "$(id -gn relay)" relay
    seen "the account $entry"
}

units() {
    local said unit
    for unit in relay-gateway.socket $roles; do
        is "$(systemctl is-enabled $unit || true)" disabled
        is "$(systemctl is-active $unit || true)" inactive
    done
    said=$(systemd-analyze verify --man=no relay-gateway.socket $roles 2>&1 || true)
    # The type of later releases, which the units name after the one that all know.
    [ "$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')" -ge 253 ] ||
        said=$(grep -v 'Failed to parse service type, ignoring: notify-reload' <<<"$said" || true)
    is "$said" ""
    # Nothing is there to run with: it is told by the first start, and not tried again and again.
    not systemctl start relay-gateway.service
    is "$(property relay-gateway.service ExecMainStatus)" 78
    is "$(property relay-gateway.service NRestarts)" 0
    systemctl reset-failed relay-gateway.service
    seen "the units: neither enabled nor started, and nothing wrong with them"
}

site() {
    local folder
    as_relay relay init /tmp/site --service relay.test --client-port 443 \
        --backend http://127.0.0.1:8080 --unsafe-allow-anonymous >/dev/null
    # The first start has made it: StateDirectory= of the unit.
    is "$(stat -c '%U %a' $gateway)" "relay 750"
    cp -a /tmp/site/gateway-1/. $gateway
    cp -a /tmp/site/connection-point $point
    for folder in $gateway $point; do
        is "$(find $folder ! -user relay)" ""
    done
    # A change of the administrator's, which must outlast everything.
    mkdir /etc/systemd/system/relay-gateway.service.d
    printf '[Service]\nWatchdogSec=2\n' >/etc/systemd/system/relay-gateway.service.d/own.conf
    systemctl daemon-reload
    as_relay relay gateway --config $gateway/gateway.toml --check >/dev/null
    as_relay relay connection-point --config $point/connection-point.toml --check >/dev/null
    seen "a site, made by the account"
}

started() {
    local unit pid
    systemctl start relay-test-backend.socket
    systemctl --quiet enable --now relay-gateway.socket
    systemctl --quiet enable --now $roles
    for unit in $roles; do
        is "$(systemctl is-active $unit)" active
        pid=$(property $unit MainPID)
        is "$(stat -c %U "/proc/$pid")" relay
        grep -Eq '^NoNewPrivs:\s1$' "/proc/$pid/status"
        grep -Eq '^Seccomp:\s2$' "/proc/$pid/status"
        # Root itself cannot write there: what the unit says of the file system holds.
        not nsenter --target "$pid" --mount touch /usr/written
        not nsenter --target "$pid" --mount touch /etc/written
        nsenter --target "$pid" --mount sh -c "cd /var/lib/${unit%.service} && touch a && rm a"
    done
    pid=$(property relay-gateway.service MainPID)
    tr '\0' '\n' <"/proc/$pid/environ" | grep -qx LISTEN_FDNAMES=clients
    is "$(asked 10181 /livez)" "HTTP/1.1 200 OK"
    is "$(asked 10180 /livez)" "HTTP/1.1 200 OK"
    logged relay-connection-point.service "link up" 2
    logged relay-gateway.service "settings applied"
    is "$(asked 10181 /readyz)" "HTTP/1.1 200 OK"
    as_relay relay status --config $gateway/gateway.toml
    seen "both roles, of type $(property relay-gateway.service Type), as relay, in the sandbox"
}

reloaded() {
    local before
    before=$(property relay-gateway.service MainPID)
    systemctl reload $roles
    cp -a $gateway/gateway.toml /tmp/gateway.toml
    echo 'of nobody = ' >>$gateway/gateway.toml
    not systemctl reload relay-gateway.service
    cp -a /tmp/gateway.toml $gateway/gateway.toml
    systemctl reload relay-gateway.service
    is "$(systemctl is-active relay-gateway.service)" active
    is "$(property relay-gateway.service MainPID)" "$before"
    seen "reloaded; a file that cannot be used fails it, and changes nothing"
}

hung() {
    kill -STOP "$(property relay-gateway.service MainPID)"
    told relay-gateway.service "Watchdog timeout"
    told relay-gateway.service "Scheduled restart job"
    systemctl start relay-gateway.service
    is "$(property relay-gateway.service NRestarts)" 1
    is "$(asked 10181 /livez)" "HTTP/1.1 200 OK"
    seen "one that hangs is started anew"
}

upgraded() {
    local before pids socket now unit
    before=$(kept)
    socket=$(property relay-gateway.socket InvocationID)
    pids=$(for unit in $roles; do property $unit MainPID; done)
    systemctl stop relay-connection-point.service
    dpkg --install 2.deb
    is "$(dpkg-query -W -f '${Version}' relay | sed 's/.*-//')" 2
    is "$(systemctl is-active relay-connection-point.service || true)" inactive
    is "$(systemctl is-active relay-gateway.service)" active
    # It was not closed meanwhile: clients wait in it.
    is "$(property relay-gateway.socket InvocationID)" "$socket"
    now=$(property relay-gateway.service MainPID)
    not grep -qx "$now" <<<"$pids"
    is "$(readlink "/proc/$now/exe")" /usr/bin/relay
    is "$(property relay-gateway.service WatchdogUSec)" 2s
    for unit in relay-gateway.socket $roles; do
        is "$(systemctl is-enabled $unit)" enabled
    done
    is "$(kept)" "$before"
    systemctl start relay-connection-point.service
    seen "upgraded: what ran is started anew, what did not is not, and all files are as they were"
}

drained() {
    local client unit
    mkfifo came go
    logged relay-gateway.service "link up" 2
    logged relay-gateway.service "settings applied"
    as_relay relay client request GET --ca /tmp/site/site-ca/site-ca.pem --output /tmp/held \
        https://relay.test/CCM_Proxy_MutualAuth/72057594037927937/SMS_MP/held >/dev/null &
    client=$!
    timeout 60 cat came >/dev/null
    systemctl stop --no-block relay-gateway.socket
    systemctl stop --no-block $roles
    logged relay-gateway.service "draining"
    is "$(systemctl is-active relay-gateway.service || true)" deactivating
    echo >go
    wait "$client"
    is "$(cat /tmp/held)" held
    systemctl stop $roles
    for unit in $roles; do
        is "$(property $unit Result)" success
        is "$(property $unit ExecMainStatus)" 0
        is "$(systemctl is-active $unit || true)" inactive
    done
    seen "stopped: a request in flight was answered first, and both ended with 0"
}

removed() {
    local before unit said
    systemctl start relay-gateway.socket $roles
    before=$(kept)
    dpkg --remove relay
    for unit in relay-gateway.socket $roles; do
        is "$(systemctl is-active $unit || true)" inactive
    done
    is "$(kept)" "$before"
    not command -v relay
    said=$(dpkg --purge relay 2>&1)
    grep -q "$gateway stays, with certificates and keys" <<<"$said"
    grep -q "$point stays, with certificates and keys" <<<"$said"
    is "$(find /etc/systemd/system -lname '*relay-gateway*' -o -lname '*relay-connection*')" ""
    [ -f $gateway/gateway.toml ]
    [ -f $point/link-key.pem ]
    getent passwd relay >/dev/null
    is "$(find /usr /etc /var/lib/systemd -xdev -iname '*relay*' ! -name 'relay-test*' \
        ! -path '/etc/systemd/system/relay-gateway.service.d*')" ""
    seen "removed and purged: the roles' folders stay"
}

# None of them in a condition: there a step that fails would be passed over.
install_it
pages
completions
account
units
site
started
reloaded
hung
upgraded
drained
removed
echo done
