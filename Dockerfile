# syntax=docker/dockerfile:1
# One image for every process of Meterline; the command says which: docker run meterline services.rating

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_CONSTRAINT=/src/requirements.lock \
    PIP_BUILD_CONSTRAINT=/src/requirements.lock
WORKDIR /src
RUN python -m venv --without-pip /opt/meterline

# The dependencies are a layer of their own: it stays while only the code changes.
COPY requirements.lock pyproject.toml ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > /tmp/dependencies \
    && python -m pip --python /opt/meterline/bin/python install --requirement /tmp/dependencies

# Building the wheel generates the contracts' modules; the compilers stay in pip's build environment.
COPY . .
RUN python -m pip --python /opt/meterline/bin/python install --no-deps . \
    && /opt/meterline/bin/python -m compileall -q /opt/meterline/lib


FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 10001 meterline \
    && useradd --system --uid 10001 --gid meterline --no-create-home --home-dir /nonexistent meterline
COPY --from=build /opt/meterline /opt/meterline
ENV PATH=/opt/meterline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001
# Every process drains on SIGTERM, within ten seconds.
STOPSIGNAL SIGTERM
# -P: modules come from the installation, never from the working directory.
ENTRYPOINT ["python", "-P", "-m"]
CMD ["gateway"]
