# A stand-in for the Temporal server: its development server, one process with SQLite. The program lies beside this file.
ARG BASE=conductor-base-python3:bookworm
FROM ${BASE}
COPY temporal /usr/local/bin/temporal
RUN install -d -o 1000 -g 1000 /var/lib/temporal
USER 1000:1000
# Without a name for the user the server does not start.
ENV HOME=/tmp USER=temporal
ENTRYPOINT ["temporal"]
