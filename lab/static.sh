# The environment in which cargo makes static binaries, for images FROM scratch. Source it; do not run it.
#
# With a target named, build scripts and procedural macros stay dynamic as they must be, and one target
# directory (STATIC_DIR) serves tests, examples and images alike. DNS works in a static glibc.
export CARGO_BUILD_TARGET; CARGO_BUILD_TARGET=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
STATIC_DIR=${CARGO_TARGET_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/target}/$CARGO_BUILD_TARGET
