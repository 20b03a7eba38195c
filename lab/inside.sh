#!/bin/bash
# inside.sh N SERVICE COMMAND...: run a program of this machine in the network of a service's task on node N.
#   inside.sh 1 hiveway_edge curl -s localhost:9400/readyz        inside.sh 2 shop_web dig @127.0.0.11 tasks.shop_web
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($# >= 3)) || die "usage: inside.sh N SERVICE COMMAND..."
n=$1 service=$2; shift 2
unset DOCKER_HOST
id=$(docker_on "$n" ps -q --filter "label=com.docker.swarm.service.name=$service" | head -n 1)
[ -n "$id" ] || die "no task of $service runs on node $n"
enter "$n" nsenter -n -t "$(docker_on "$n" inspect -f '{{.State.Pid}}' "$id")" "$@"
