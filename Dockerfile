# dar-ref with everything that training needs.
#
#     docker build --tag dar-ref .                        # for a CPU
#     docker build --tag dar-ref --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 .
#     docker run --rm --volume "$PWD:/work" dar-ref demo --out out/demo
#
# torch's own package brings CUDA, so it is large on a CPU too; a build argument PIP_EXTRA_INDEX_URL can name an index
# with torch's CPU package. constraints.txt pins torch for both.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
ARG PIP_EXTRA_INDEX_URL
RUN command -v python3 > /dev/null || (apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/dar-ref
ENV PATH=/opt/dar-ref/bin:$PATH
COPY . /src
RUN pip install --no-cache-dir --constraint /src/constraints.txt "/src[llm]"
WORKDIR /work
ENTRYPOINT ["dar-ref"]
CMD ["--help"]
