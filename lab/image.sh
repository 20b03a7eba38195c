#!/bin/bash
# image.sh [--here] TAG[,TAG]... [-c CHANGE]... [-d DIRECTORY]... FILE[=/path/in/image]...: build an image from static files
# alone, for all nodes, or with --here for the engine that `docker` talks to. A DIRECTORY is empty and belongs to
# nobody (65534); so does a new volume that is mounted there.
# CHANGE is a Dockerfile line: ENTRYPOINT, CMD, ENV, EXPOSE, HEALTHCHECK, LABEL, USER, VOLUME or WORKDIR.
#   image.sh web:1 -c 'ENTRYPOINT ["/web"]' -c 'EXPOSE 8080' target/release/web=/web
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
here=; [[ ${1-} != --here ]] || { here=1; shift; }
(($# >= 2)) || die "usage: image.sh [--here] TAG[,TAG]... [-c CHANGE]... [-d DIRECTORY]... FILE[=/path]..."
IFS=, read -ra tags <<<"$1"; shift
stage=$(mktemp -d); trap 'rm -rf "$stage" "$stage.tar"' EXIT
changes=() directories=()
while (($#)); do
  case $1 in
    -c) changes+=(-c "$2"); shift 2 ;;
    -d) directories+=(".$2"); mkdir -p "$stage$2"; shift 2 ;;
    *) file=${1%%=*} path=/$(basename "$file"); [[ $1 != *=* ]] || path=${1#*=}
       mkdir -p "$stage$(dirname "$path")"; cp -aL "$file" "$stage$path"; shift ;;
  esac
done
mkdir -p -m 1777 "$stage/tmp"
chmod 755 "$stage"
tar -C "$stage" --owner=0 --group=0 "${directories[@]/#/--exclude=}" -cf "$stage.tar" .
((${#directories[@]} == 0)) ||
  tar -C "$stage" --owner=65534 --group=65534 --mode=770 --no-recursion -rf "$stage.tar" "${directories[@]}"
on_first() { if [ -n "$here" ]; then docker "$@"; else docker_on 1 "$@"; fi; }
on_first import "${changes[@]}" "$stage.tar" "${tags[0]}" >/dev/null
for tag in "${tags[@]:1}"; do on_first tag "${tags[0]}" "$tag"; done
if [ -z "$here" ]; then
  docker_on 1 save "${tags[@]}" -o "$stage.tar"
  "$HERE/load.sh" "$stage.tar"
fi
