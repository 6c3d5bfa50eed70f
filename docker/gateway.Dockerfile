# The gateway: HTTP in front, no torch. Build from the top of the repository:
#   docker build -f docker/gateway.Dockerfile -t contextune-gateway .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# pip reads these from the environment; the image that is kept never sees them.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/contextune
WORKDIR /src
# What the package needs comes first, in a layer that a change of the code leaves as it is.
COPY constraints/gateway.txt constraints/
RUN python -m pip --python /opt/contextune/bin/python install --require-hashes --no-deps -r constraints/gateway.txt
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY app app
RUN python -m pip wheel --no-deps --wheel-dir /wheels ./client . \
    && python -m pip --python /opt/contextune/bin/python install --no-deps /wheels/*.whl

# What the image carries, as a CycloneDX document: make sbom
FROM build AS sbom
COPY constraints/cpu.txt constraints/
RUN python -m venv /tools && /tools/bin/pip install --constraint constraints/cpu.txt cyclonedx-bom \
    && /tools/bin/cyclonedx-py environment --gather-license-texts --output-reproducible --output-file /sbom.json \
        /opt/contextune/bin/python
CMD ["cat", "/sbom.json"]

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 contextune \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin contextune \
    && install --directory --owner contextune --group contextune /data /data/artifacts
COPY --from=build /opt/contextune /opt/contextune
ENV PATH=/opt/contextune/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    CONTEXTUNE_HOST=0.0.0.0 \
    CONTEXTUNE_DATA_DIR=/data
WORKDIR /data
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "app.main"]
