#!/bin/bash
# client.sh COMMAND...: run a command with the `lan`'s network and nothing else of it. A test program that is run
# so is a client outside the Swarm, and can still drive the lab by these scripts, which `on.sh lan` cannot.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($# >= 1)) || die "usage: client.sh COMMAND..."
pid=$(holder lan) || die "no lab is up under $LAB_ROOT: up.sh first"
exec nsenter --net="/proc/$pid/ns/net" -- "$@"
