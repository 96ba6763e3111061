# The program is static and brings its CA roots and time zones along, so the
# image holds nothing else. Mount the configuration at /config/popferry.yaml and
# a volume with a name at /data: what has been delivered must outlive the
# container. There is no VOLUME on purpose, because it would make one without a
# name, which the next container does not get; popferry refuses to start on it.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o /image/popferry ./cmd/popferry
# A new volume gets the mode of /data, and any --user must be able to write there.
RUN mkdir -p /image/config /image/etc/ssl/certs \
    && install -d -m 1777 /image/data \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
LABEL org.opencontainers.image.title="popferry" \
      org.opencontainers.image.description="Moves mail from POP3 maildrops to IMAP folders by rules, once, without losing any" \
      org.opencontainers.image.base.name="scratch"
COPY --from=build --chown=65532:65532 /image/ /
# Large messages are spooled where there is room; a scratch image has no /tmp.
ENV POPFERRY_STATE=/data/popferry.db TMPDIR=/data
USER 65532:65532
# Of serve only: a container that runs anything else ends before it matters.
HEALTHCHECK --interval=1m --timeout=10s --start-period=1m CMD ["/popferry", "healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/popferry"]
CMD ["serve"]
