# syntax=docker/dockerfile:1
# The shipped image: one binary on a bare Debian, well under 150 MB.
#
#   docker build --tag whatif .
#   docker run --publish 3000:3000 --volume whatif:/data --stop-timeout 30 whatif
#
# The stop timeout is longer than `server.drain_timeout` (25 s), so that running stories are handed over.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# Dependencies alone: this layer is built again only when the manifest changes. Benchmarks are taken out of the copy
# of the manifest, because their files are not here.
COPY Cargo.toml Cargo.lock ./
RUN awk '/^\[/ { skip = /^\[\[bench\]\]/ } !skip' Cargo.toml > Cargo.deps.toml \
    && mv Cargo.deps.toml Cargo.toml \
    && mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --locked --profile dist --bin whatif \
    && rm -r src

COPY . .
# The real sources may be older than what the layer above built from the empty ones.
RUN touch src/main.rs src/lib.rs \
    && cargo build --locked --profile dist --bin whatif \
    && mkdir /data

FROM debian:bookworm-slim
WORKDIR /srv/whatif

# Root certificates, for providers over HTTPS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/dist/whatif /usr/local/bin/whatif
COPY config.toml ./
COPY --from=build --chown=10001:10001 /data /data

# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
ENV DATA_DIR=/data \
    PORT=3000
VOLUME /data
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["whatif", "health"]
ENTRYPOINT ["whatif"]
CMD ["serve"]
