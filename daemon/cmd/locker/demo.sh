#!/usr/bin/env bash
# Everything once: a new locker with a folder as its remote, the sample exports, a
# sync, the same locker on a second device, and an app that sees four fields.
#   demo.sh BIN EXPORTS
set -euo pipefail
bin=$1 exports=$2
demo=$bin/demo
rm -rf "$demo"
mkdir -p "$demo/cloud"
one() { "$bin/locker" --home "$demo/laptop" "$@"; }
two() { "$bin/locker" --home "$demo/phone" "$@"; }
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p"; }

echo "1. A locker on this device, with a folder as its remote"
one init --remote "dir:$demo/cloud" --phrase-out "$demo/phrase" --name laptop | sed -n 1p
echo
echo "2. The sample exports, read by confined connectors"
one import "$exports" | tail -n 2
echo
echo "3. Sealed, and sent to the remote"
one sync
if grep -rqaE 'payee|IBAN|BEGIN:VCARD|@example' "$demo/cloud"; then echo "plain text in the remote!"; exit 1; fi
echo "   the remote holds $(find "$demo/cloud" -type f | wc -l) objects, and not a word of it can be read there"
echo
echo "4. The same locker on a second device, from the remote and the phrase alone"
two restore --remote "dir:$demo/cloud" --phrase-file "$demo/phrase" --name phone | sed -n 1p
a=$(one status --json | field state_hash) b=$(two status --json | field state_hash)
if [ "$a" != "$b" ]; then echo "the two differ: $a and $b"; exit 1; fi
echo "   both hold the same: state ${a:0:16}"
echo
echo "5. An app in a sandbox, which sees four fields of the transactions and nothing else"
one app install spend >/dev/null
one grant spend --offer permit | sed -n 2p
one app run spend >"$demo/spend.txt"
sed -n 1,6p "$demo/spend.txt"
echo "…"
grep -A4 '^Biggest' "$demo/spend.txt"
echo "   and the audit log has it:"
one audit | grep -E 'TIME|transactions'
echo
echo "What to type next:"
echo "  export PATH=$bin:\$PATH LOCKER_HOME=$demo/laptop"
echo "  locker status                                     devices, remotes, what is in"
echo "  locker query transactions --where 'amount < -50'  search what came in"
echo "  locker import ~/Downloads                         your own exports"
echo "  locker help                                       everything else"
