# The program is static and brings its CA roots and time zones along, so the
# image holds nothing else. Mount the configuration at /config/popferry.yaml and
# a volume at /data: what has been delivered must outlive the container.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o /image/popferry ./cmd/popferry \
    && mkdir -p /image/config /image/data /image/etc/ssl/certs \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
LABEL org.opencontainers.image.title="popferry" \
      org.opencontainers.image.description="Fetches mail from POP3 maildrops and hands it to IMAP folders by rules, once, without losing any"
COPY --from=build --chown=65532:65532 /image/ /
# Large messages are spooled where there is room; a scratch image has no /tmp.
ENV POPFERRY_STATE=/data/popferry.db TMPDIR=/data
USER 65532:65532
VOLUME ["/config", "/data"]
ENTRYPOINT ["/popferry"]
CMD ["run"]
