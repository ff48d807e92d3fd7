# The image that code_run runs Python in. Build it from any image that has python3, sh, head, wc and timeout:
#
#     docker build --build-arg BASE=python:3.11-slim -t conductor-sandbox-python -f infra/sandbox/python.Dockerfile infra/sandbox
#
# and name it in CONDUCTOR_SANDBOX_IMAGE_PYTHON. Plain python:3.11-slim works as well; this one is a little harder.
ARG BASE=python:3.11-slim
FROM ${BASE}
USER 0:0
# No program here may change its user, and nobody may read `timeout`: a program that its user cannot read cannot be
# written to through /proc either, so the code cannot rewrite the clock that ends it.
RUN find / -xdev -perm /6000 -type f -exec chmod a-s {} + \
 && chmod 0711 "$(readlink -f "$(command -v timeout)")" \
 && python3 -c "print('ready')"
USER 65534:65534
WORKDIR /tmp
