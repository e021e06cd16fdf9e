#!/bin/sh
# curl that pays: pay.sh CURL-ARGUMENTS... URL. Needs curl and the command `powfast`.
#
# MAX_WORK bounds the work of one challenge, in hashes. A body is sent twice, so it comes from the
# command line or a file (-d @body.json), not from standard input. Redirects are not followed: curl
# would take the solution along.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

ask() {
  status=$(curl --silent --show-error --dump-header "$folder/head" --output "$folder/body" \
    --write-out '%{http_code}' "$@" --no-location)
}

challenge() {
  case $status in 4??)
    grep -i '^www-authenticate:' "$folder/head" |
      grep -io '\bPoW  *challenge="[A-Za-z0-9_-]*"' | head -n 1 | cut -d '"' -f 2
  esac
}

ask "$@"
for paid in 0 1; do
  asked=$(challenge)
  # without a receipt, a second challenge says that the first solution was refused
  if [ -z "$asked" ] || { [ "$paid" = 1 ] && ! grep -qi '^pow-receipt:' "$folder/head"; }; then
    break
  fi
  solution=$(echo "$asked" | powfast solve --max-work "${MAX_WORK:-4294967296}" -)
  ask "$@" --header "PoW-Solution: $solution"
done

cat "$folder/body"
if [ "$status" -ge 300 ]; then
  echo "pay.sh: HTTP $status" >&2
  exit 1
fi
