# Marks what students hand in, where it can do no harm. Build it from the repository's root:
#     docker build -f tools/course/marking.Dockerfile -t whatwhere-marking .
# and mark with: .venv/bin/python -m tools.course.container submissions
FROM python:3.11-slim

WORKDIR /book
# packages first: they change less often than chapters do
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY lib lib
COPY tools/torch_build.py tools/torch_build.py
RUN python tools/torch_build.py cpu \
 && pip install --no-cache-dir -c constraints.txt -e '.[book]'
COPY tools tools
COPY data data
COPY book book
COPY notebooks notebooks
COPY _config.yml _toc.yml ./

# nobody, and no place to write but /tmp and /grades: the rest is mounted read-only
ENV HOME=/tmp IPYTHONDIR=/tmp/ipython JUPYTER_RUNTIME_DIR=/tmp/jupyter MPLCONFIGDIR=/tmp/mpl \
    HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TQDM_DISABLE=1 OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
USER 65534:65534
ENTRYPOINT ["python", "-m", "tools.course.grade", "/submissions", "--out", "/grades/grades.csv", "--workers", "1"]
