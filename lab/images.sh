#!/bin/bash
# images.sh [--here]: build Hiveway and the test replica, and make `hiveway:latest`, the tag of it that the stack's
# `sockets` has, and `replica:latest` of them, on every node of the lab, or with --here in the engine that `docker`
# talks to.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
set -euo pipefail
source "$here/static.sh"
cd "$here/.."
cargo build --release --bin hiveway
cargo build --example replica
"$here/image.sh" "$@" hiveway:latest,hiveway:sockets-1 -d /var/lib/hiveway \
  -c 'ENTRYPOINT ["/hiveway"]' -c 'USER 65534:65534' "$STATIC_DIR/release/hiveway"
"$here/image.sh" "$@" replica:latest -c 'ENTRYPOINT ["/replica"]' -c 'USER 65534:65534' \
  -c 'HEALTHCHECK --interval=1s --timeout=2s --start-period=30s --retries=3 CMD ["/replica", "healthcheck"]' \
  "$STATIC_DIR/debug/examples/replica"
