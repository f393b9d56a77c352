#!/bin/bash
# Answers one request once it may: it says in the pipe `came` that there is one, and reads `go`.
set -euo pipefail
while read -r line && [ "$line" != $'\r' ]; do :; done
echo >/test/came
read -r </test/go
printf 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nheld'
