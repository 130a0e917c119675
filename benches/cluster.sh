#!/bin/bash
# Compares three gateways without and with a Redis between them, and what a hit costs while Redis is there,
# stands still, or is gone. Prints tables. Needs root on Debian to install what is missing.
#
#   benches/cluster.sh            about six minutes once built
#   benches/cluster.sh --quick    about a minute
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for pair in redis-server:redis-server redis-cli:redis-tools wrk:wrk; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if ((${#missing[@]})); then
    if ((EUID != 0)); then
        echo "cluster.sh: missing ${missing[*]}; install them, or run this as root on Debian" >&2
        exit 2
    fi
    apt-get update -qq
    # The packages would start their services; here only this script starts them.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    rm -f /usr/sbin/policy-rc.d
fi

cargo build --quiet --release --bin flameup-gateway
export PYTHONDONTWRITEBYTECODE=1
exec python3 benches/cluster/cluster.py --gateway target/release/flameup-gateway "$@"
