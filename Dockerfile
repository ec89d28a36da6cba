# docker build --tag qa-accel . && docker run --publish 127.0.0.1:8000:8000 --volume "$PWD/runs/mine:/model:ro" qa-accel
#
# Computes on the device that the build of torch is for. The index of PyTorch's CPU builds leaves out CUDA's libraries:
# --build-arg TORCH_INDEX=URL, as PyTorch's installation page names it. With a build for CUDA: docker run --gpus all.
FROM python:3.12-slim

ARG TORCH_INDEX=

WORKDIR /app
COPY constraints.txt ./
# torch by itself: it is large and changes seldom
RUN pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE ./
COPY qa_accel qa_accel
RUN pip install --no-cache-dir --constraint constraints.txt '.[serve,onnx]'

RUN useradd --create-home --uid 10001 server
USER server
ENV HF_HUB_OFFLINE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
# 0.0.0.0 within the container; what of it is reached from outside, --publish decides
ENTRYPOINT ["qa-accel", "serve", "--host", "0.0.0.0"]
CMD ["--model", "model=/model"]
