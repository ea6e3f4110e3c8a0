# One static binary and nothing else. The SQL grammar is C, so the build needs a C compiler and a libc that links
# statically: Alpine's musl.
FROM golang:1.26-alpine AS build
RUN apk add --no-cache build-base bash
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make static && mkdir -p /root-of-image/tmp /root-of-image/data && chmod 1777 /root-of-image/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /root-of-image/ /
COPY --from=build /src/bin/pgveil /pgveil
USER 65532:65532
VOLUME /data
EXPOSE 7432 7480
ENTRYPOINT ["/pgveil"]
CMD ["serve"]
