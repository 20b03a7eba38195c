#!/bin/bash
# image.sh [--here] TAG [-c CHANGE]... FILE[=/path/in/image]...: build an image from static files alone, for all
# nodes, or with --here for the engine that `docker` talks to.
# CHANGE is a Dockerfile line: ENTRYPOINT, CMD, ENV, EXPOSE, HEALTHCHECK, LABEL, USER, VOLUME or WORKDIR.
#   image.sh web:1 -c 'ENTRYPOINT ["/web"]' -c 'EXPOSE 8080' target/release/web=/web
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
here=; [[ ${1-} != --here ]] || { here=1; shift; }
(($# >= 2)) || die "usage: image.sh [--here] TAG [-c CHANGE]... FILE[=/path]..."
tag=$1; shift
stage=$(mktemp -d); trap 'rm -rf "$stage" "$stage.tar"' EXIT
changes=()
while (($#)); do
  case $1 in
    -c) changes+=(-c "$2"); shift 2 ;;
    *) file=${1%%=*} path=/$(basename "$file"); [[ $1 != *=* ]] || path=${1#*=}
       mkdir -p "$stage$(dirname "$path")"; cp -aL "$file" "$stage$path"; shift ;;
  esac
done
mkdir -p -m 1777 "$stage/tmp"
chmod 755 "$stage"
pack() { tar -C "$stage" --owner=0 --group=0 -c .; }
if [ -n "$here" ]; then
  pack | docker import "${changes[@]}" - "$tag" >/dev/null
else
  pack | docker_on 1 import "${changes[@]}" - "$tag" >/dev/null
  docker_on 1 save "$tag" -o "$stage.tar"
  "$HERE/load.sh" "$stage.tar"
fi
