# A larger image for Python, with numpy and pandas. Build it from any image that has python3, sh, head, wc and timeout:
#
#     docker build --build-arg BASE=python:3.11-slim -t conductor-sandbox-python-data -f infra/sandbox/python-data.Dockerfile infra/sandbox
#
# and name it in CONDUCTOR_SANDBOX_IMAGE_PYTHON. A base that has both packages already is taken as it is, without a network.
ARG BASE=python:3.11-slim
FROM ${BASE}
USER 0:0
RUN python3 -c "import numpy, pandas" 2>/dev/null \
 || python3 -m pip install --quiet --no-cache-dir --root-user-action=ignore "numpy>=2,<3" "pandas>=2,<3"
# One thread for each library: they start one for every processor of the machine, and the sandbox allows 64 in all.
ENV OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# No program here may change its user, and nobody may read `timeout`: a program that its user cannot read cannot be
# written to through /proc either, so the code cannot rewrite the clock that ends it.
RUN find / -xdev -perm /6000 -type f -exec chmod a-s {} + \
 && chmod 0711 "$(readlink -f "$(command -v timeout)")" \
 && python3 -c "import numpy, pandas; print('ready')"
USER 65534:65534
WORKDIR /tmp
