# syntax=docker/dockerfile:1
# Stages: `build` makes a virtual environment from the hash-locked set; `proxy`, the default, holds nothing but it;
# `gateway` is that with nftables, for the container that puts firewall rules up and ends.
# docker build -t egress . && docker run --rm -p 127.0.0.1:3128:3128 -v egress-state:/var/lib/egress egress
# docker build -t egress-gateway --target gateway .

# Pin it by digest where builds must be the same: --build-arg BASE=python:3.13-slim-bookworm@sha256:...
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
# Wheels only: a source distribution would fetch build tools that no hash of ours covers.
RUN python -m venv /opt/egress \
    && /opt/egress/bin/python -m pip install --no-deps --require-hashes --only-binary :all: -r requirements.lock \
    && python -m venv /opt/backend \
    && /opt/backend/bin/python -m pip install --no-deps --require-hashes --only-binary :all: -r requirements-dev.lock
COPY pyproject.toml README.md LICENSE ./
COPY policies policies
COPY egress egress
RUN /opt/backend/bin/python -m pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
    && /opt/egress/bin/python -m pip install --no-deps --no-index /wheels/egress-*.whl \
    && /opt/egress/bin/python -c "import egress.cli.main"

FROM ${BASE} AS base
# A fixed uid, so that a volume's owner is known and the sandbox can run as another user. A volume on /trust hands the
# CA's certificate to the sandbox.
RUN groupadd --system --gid 3128 egress \
    && useradd --system --uid 3128 --gid egress --home-dir /var/lib/egress --shell /usr/sbin/nologin egress \
    && install --directory --owner egress --group egress --mode 0700 /var/lib/egress \
    && install --directory --owner egress --group egress --mode 0755 /trust
COPY --from=build /opt/egress /opt/egress
# Nothing is written beside the code, so the image runs with a root file system that is read-only. HOME: also for a user
# that an orchestrator makes up, and that no file of the image knows.
ENV PATH=/opt/egress/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/egress \
    EGRESS_STATE_DIR=/var/lib/egress
WORKDIR /var/lib/egress

FROM base AS gateway
# The version is the base image's distribution's to say: a pinned one would be gone from its mirrors in weeks.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nftables \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/egress/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Root without capabilities but CAP_NET_ADMIN, which whoever starts it gives; it ends as soon as the rules are up.
# hadolint ignore=DL3002
USER 0:0
ENTRYPOINT ["egress", "gateway"]
CMD ["status"]

FROM base AS proxy
# As a number: an orchestrator that demands a user other than root must be able to see that it is one.
USER 3128:3128
VOLUME /var/lib/egress
EXPOSE 3128
# Exit 0 where a policy is in force, all processes serve and the audit can be written; wherever the proxy listens.
HEALTHCHECK --interval=10s --timeout=8s --start-period=10s --retries=3 \
    CMD ["/opt/egress/bin/egress", "status", "--ready"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["egress", "run"]
# Other containers must reach the listener, so it is bound to all addresses of the container; publish it with care.
CMD ["--policy", "starter", "--listen", "0.0.0.0:3128"]
