# Two images with torch and the weights of the default models. Build from the top of the repository:
#   docker build -f docker/worker.Dockerfile --target worker -t contextune-worker .      a worker
#   docker build -f docker/worker.Dockerfile --target all-in-one -t contextune .         gateway, worker and servers
#
# TORCH is what pip installs as torch, TORCH_INDEX_URL the package index it comes from, pip's own if empty. The default is
# the build for CPUs alone, from PyTorch's own index. With CUDA: TORCH=torch==2.13.0 and an empty TORCH_INDEX_URL.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# pip reads these from the environment; the images that are kept never see them.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/contextune
WORKDIR /src
# What the package needs comes first, in layers that a change of the code leaves as they are.
COPY constraints/server.txt constraints/
RUN python -m pip --python /opt/contextune/bin/python install --require-hashes --no-deps -r constraints/server.txt
# What torch needs is there by now, but for the CUDA libraries of a build that uses them.
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN python -m pip --python /opt/contextune/bin/python install \
        ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$TORCH" \
    || { echo "no $TORCH found: set TORCH_INDEX_URL to the package index that has it" >&2; exit 1; }
COPY LICENSE ./
COPY release release
RUN python -m release.weights /weights \
    && python -m pip --python /opt/contextune/bin/python install --no-deps /weights/*.whl
COPY pyproject.toml README.md ./
COPY client client
COPY app app
COPY worker worker
RUN python -m pip wheel --no-deps --wheel-dir /wheels ./client . \
    && python -m pip --python /opt/contextune/bin/python install --no-deps /wheels/*.whl

# What the image carries, as a CycloneDX document: make sbom
FROM build AS sbom
COPY constraints/cpu.txt constraints/
RUN python -m venv /tools && /tools/bin/pip install --constraint constraints/cpu.txt cyclonedx-bom \
    && /tools/bin/cyclonedx-py environment --gather-license-texts --output-reproducible --output-file /sbom.json \
        /opt/contextune/bin/python
CMD ["cat", "/sbom.json"]

FROM ${PYTHON_IMAGE} AS base
RUN groupadd --gid 10001 contextune \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin contextune \
    && install --directory --owner contextune --group contextune /data /data/artifacts /data/models
COPY --from=build /opt/contextune /opt/contextune
# HF_HOME: models of the hub are kept where the other models are. TQDM_DISABLE: a log has no place for bars.
ENV PATH=/opt/contextune/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HF_HOME=/data/models/hub \
    TQDM_DISABLE=1 \
    CONTEXTUNE_DATA_DIR=/data
WORKDIR /data
USER 10001:10001

FROM base AS worker
CMD ["python", "-m", "worker"]

# The whole service in one container: docker run -p 127.0.0.1:8000:8000 -v contextune:/data contextune
FROM base AS all-in-one
ENV CONTEXTUNE_HOST=0.0.0.0
EXPOSE 8000
VOLUME /data
CMD ["contextune", "up"]
