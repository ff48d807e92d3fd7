# The image that code_run runs JavaScript in. Build it from any image that has node, sh, head, wc and timeout:
#
#     docker build --build-arg BASE=node:20-slim -t conductor-sandbox-node -f infra/sandbox/node.Dockerfile infra/sandbox
#
# and name it in CONDUCTOR_SANDBOX_IMAGE_NODE. Plain node:20-slim works as well; this one is a little harder.
ARG BASE=node:20-slim
FROM ${BASE}
USER 0:0
# No program here may change its user, and nobody may read `timeout`: a program that its user cannot read cannot be
# written to through /proc either, so the code cannot rewrite the clock that ends it.
RUN find / -xdev -perm /6000 -type f -exec chmod a-s {} + \
 && chmod 0711 "$(readlink -f "$(command -v timeout)")" \
 && node -e "console.log('ready')"
USER 65534:65534
WORKDIR /tmp
