# syntax=docker/dockerfile:1
# The shipped image: one binary on a bare Debian, well under 150 MB.
#
#   docker build --tag whatif .
#   docker run --publish 3000:3000 --volume whatif:/data --stop-timeout 30 whatif
#
# The stop timeout is longer than `server.drain_timeout` (25 s), so that running stories are handed over.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# `quick` builds in a fraction of the time, for trying out the image itself: --build-arg PROFILE=quick
ARG PROFILE=dist

COPY . .
# Crates and compiled dependencies are kept between builds on this machine, so the binary has to be copied out. Its own
# sources are always compiled: what is kept may come from another checkout with newer files.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    touch src/main.rs src/lib.rs \
    && cargo build --locked --profile "$PROFILE" --bin whatif \
    && cp "target/$PROFILE/whatif" /usr/local/bin/whatif \
    && mkdir /data

FROM debian:bookworm-slim
WORKDIR /srv/whatif

# Root certificates, for providers over HTTPS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/whatif /usr/local/bin/whatif
COPY config.toml ./
COPY --from=build --chown=10001:10001 /data /data

# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
ENV DATA_DIR=/data \
    PORT=3000
VOLUME /data
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD whatif health "http://127.0.0.1:$PORT"
ENTRYPOINT ["whatif"]
CMD ["serve"]
