# The service alone: ONNX Runtime, no training framework.
#   docker build -t sayso .                         runs on the CPU
#   docker build -t sayso:cuda --target cuda .      for an NVIDIA GPU: docker run --gpus all ...

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/sayso
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY protos protos
COPY models models
COPY service service
COPY training training
COPY exporters exporters
COPY evaluation evaluation
RUN /opt/sayso/bin/pip install -c constraints.txt . \
    && /opt/sayso/bin/pip install -c constraints.txt --no-deps silero-vad

FROM build AS build-cuda
RUN /opt/sayso/bin/pip install -c constraints.txt '.[cuda]'

FROM python:3.11-slim-bookworm AS runtime
ENV PATH=/opt/sayso/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SAYSO_LISTEN=0.0.0.0:50051 \
    SAYSO_STORE=sqlite:////var/lib/sayso/sayso.db
RUN useradd --uid 10001 --user-group --create-home --home-dir /var/lib/sayso sayso
USER 10001:10001
WORKDIR /var/lib/sayso
VOLUME /var/lib/sayso
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["sayso", "health"]
ENTRYPOINT ["sayso"]
CMD ["serve"]

FROM runtime AS cuda
COPY --from=build-cuda /opt/sayso /opt/sayso

FROM runtime AS cpu
COPY --from=build /opt/sayso /opt/sayso
