# docker build --tag qa-accel . && docker run --publish 127.0.0.1:8000:8000 --volume "$PWD/runs/mine:/model:ro" qa-accel
#
# Computes on the CPU. For GPUs: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130, and docker run --gpus all.
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /app
COPY constraints.txt ./
# torch by itself: it is large and changes seldom
RUN pip install --no-cache-dir --constraint constraints.txt --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple torch
COPY pyproject.toml README.md LICENSE ./
COPY qa_accel qa_accel
RUN pip install --no-cache-dir --constraint constraints.txt '.[serve]'

RUN useradd --create-home --uid 10001 server
USER server
ENV HF_HUB_OFFLINE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
# 0.0.0.0 within the container; what of it is reached from outside, --publish decides
ENTRYPOINT ["qa-accel", "serve", "--host", "0.0.0.0"]
CMD ["--model", "model=/model"]
