#!/bin/bash
# Compares the gateway with other caching proxies and with bare servers, side by side on this
# machine, and prints one table. Needs root on Debian to install what is missing.
#
#   benches/compare.sh            every scenario, about a quarter of an hour
#   benches/compare.sh --quick    short rounds, three scenarios and varnish left out: under two minutes once built
#   benches/compare.sh --only hot,keys-100k     some of them
#   benches/compare.sh --scale    a hit's cost as people and connections grow; draws benches/scale.svg,
#                                 in about ten minutes; --quick after it takes about three
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for pair in nginx:nginx-light haproxy:haproxy varnishd:varnish wrk:wrk h2load:nghttp2-client; do
    PATH="$PATH:/usr/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if ((${#missing[@]})); then
    if ((EUID != 0)); then
        echo "compare.sh: missing ${missing[*]}; install them, or run this as root on Debian" >&2
        exit 2
    fi
    apt-get update -qq
    # The packages would start their services; here only this script starts them.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    rm -f /usr/sbin/policy-rc.d
fi

cargo build --quiet --release --bin flameup-gateway
# With the profile of the program, so that the floor is not built with less care than what stands on it.
floor=$(cargo bench --quiet --profile release --bench floor --no-run --message-format=json |
    python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "floor":
        print(message["executable"])')
script=compare
if [[ ${1:-} == --scale ]]; then
    script=scale
    shift
fi
export PYTHONDONTWRITEBYTECODE=1
exec python3 "benches/compare/$script.py" --gateway target/release/flameup-gateway --floor "$floor" "$@"
