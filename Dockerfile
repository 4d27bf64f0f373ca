# The service without a training framework: inference with ONNX Runtime.
#   make image                  for the CPU, with docker, podman or buildah
#   make image TARGET=cuda      for an NVIDIA GPU: docker run --gpus all ... sayso:cuda
#   make image TARGET=campplus  for the CPU, with the stronger model CAM++ (docs/learn/models.md)
#
# The service writes to /var/lib/sayso (a volume) and /tmp only. The root may be read-only:
#   docker run --read-only --tmpfs /tmp -v voices:/var/lib/sayso -e SAYSO_INSECURE=true \
#     -p 127.0.0.1:50051:50051 sayso
# SAYSO_INSECURE allows plaintext on the container's network; docs/security/access.md sets up TLS.
#
# constraints.txt pins every package; pin the base by its digest, too:
#   make image ARGS='--build-arg PYTHON=python:3.11-slim-bookworm@sha256:...'
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PYTHON=/opt/sayso/bin/python
RUN python -m venv --without-pip /opt/sayso \
    && echo /opt/code/lib/python3.11/site-packages > /opt/sayso/lib/python3.11/site-packages/code.pth
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        e = p['optional-dependencies']; print(*(d for d in p['dependencies'] if 'sayso' not in d), *e['g722'], *e['gateway'], *e['tracing'], *e['vault'], sep='\n')" > needed.txt \
    && pip install -c constraints.txt -r needed.txt \
    && pip install -c constraints.txt --no-deps silero-vad

# ONNX Runtime's CUDA provider is half the installed size and does not load without a GPU.
FROM dependencies AS dependencies-cpu
RUN rm -f /opt/sayso/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime_providers_cuda.so \
    /opt/sayso/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime_providers_tensorrt.so

FROM dependencies AS dependencies-cuda
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        print(*p['optional-dependencies']['cuda'], sep='\n')" > needed.txt \
    && pip install -c constraints.txt -r needed.txt

# In a layer of its own, so that an upgrade pulls a few megabytes and not all dependencies.
FROM dependencies AS code
COPY README.md LICENSE ./
COPY client client
COPY models models
COPY demo/audio demo/audio
COPY service service
COPY gateway gateway
COPY protos/openapi.yaml protos/openapi.yaml
COPY training training
COPY exporters exporters
COPY evaluation evaluation
RUN pip install --no-deps --prefix /opt/code ./client .

# The base image's Python has pip, which the service's own has not.
FROM dependencies AS campplus-model
COPY --from=code /opt/code /opt/code
RUN PYTHONPATH=/opt/code/lib/python3.11/site-packages:/opt/sayso/lib/python3.11/site-packages \
    env -u PIP_PYTHON python -m service models get campplus --output /opt/model/campplus.onnx

FROM ${PYTHON} AS runtime
ENV PATH=/opt/code/bin:/opt/sayso/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    SAYSO_LISTEN=0.0.0.0:50051 \
    SAYSO_STORE=sqlite:////var/lib/sayso/sayso.db
# Group 0 may write, too: OpenShift runs images as a user id of its own choice in that group.
RUN groupadd --gid 10001 sayso \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/sayso sayso \
    && install --directory --owner sayso --group 0 --mode 0770 /var/lib/sayso
USER 10001:10001
WORKDIR /var/lib/sayso
VOLUME /var/lib/sayso
EXPOSE 50051 9464
HEALTHCHECK --interval=15s --timeout=8s --start-period=60s --retries=3 CMD ["sayso", "health"]
ENTRYPOINT ["sayso"]
CMD ["serve"]

FROM runtime AS cuda
COPY --from=dependencies-cuda /opt/sayso /opt/sayso
COPY --from=code /opt/code /opt/code

FROM runtime AS campplus
ENV SAYSO_MODEL=/opt/model/campplus.onnx
COPY --from=dependencies-cpu /opt/sayso /opt/sayso
COPY --from=campplus-model /opt/model /opt/model
COPY --from=code /opt/code /opt/code

FROM runtime AS cpu
COPY --from=dependencies-cpu /opt/sayso /opt/sayso
COPY --from=code /opt/code /opt/code
