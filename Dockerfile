# Hiveway: one static binary and nothing else. `docker build -t hiveway .`
#
# `--target replica` makes the image of the example application instead.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# A target is named so that only what is linked for it becomes static; build scripts and macros stay dynamic.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$target" --bin hiveway \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --target "$target" --example replica \
 && mkdir -p -m 770 /out/lib/hiveway && cp "target/$target/release/hiveway" "target/$target/debug/examples/replica" /out

FROM scratch AS replica
COPY --from=build /out/replica /replica
USER 65534:65534
HEALTHCHECK --interval=1s --timeout=2s --start-period=30s --retries=3 CMD ["/replica", "healthcheck"]
ENTRYPOINT ["/replica"]

FROM scratch AS hiveway
COPY --from=build /out/hiveway /hiveway
# /var/lib/hiveway: a new volume that is mounted there gets its owner and its mode.
COPY --from=build --chown=65534:65534 /out/lib /var/lib
# Nobody. The stack that mounts the Docker socket says otherwise, and why.
USER 65534:65534
ENTRYPOINT ["/hiveway"]
