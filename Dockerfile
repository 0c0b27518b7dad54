# Two stages: the first makes a virtual environment from the hash-locked set, the second holds nothing but it.
# docker build -t egress . && docker run --rm -p 127.0.0.1:3128:3128 -v egress-state:/var/lib/egress egress

FROM python:3.13-slim-bookworm AS build
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

FROM python:3.13-slim-bookworm
# A fixed uid, so that a volume's owner is known and the sandbox can run as another user.
RUN groupadd --system --gid 3128 egress \
    && useradd --system --uid 3128 --gid egress --home-dir /var/lib/egress --shell /usr/sbin/nologin egress \
    && install --directory --owner egress --group egress --mode 0700 /var/lib/egress
COPY --from=build /opt/egress /opt/egress
ENV PATH=/opt/egress/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    EGRESS_STATE_DIR=/var/lib/egress
USER egress
WORKDIR /var/lib/egress
VOLUME /var/lib/egress
EXPOSE 3128
# Exit 0 where a policy is in force, all processes serve and the audit can be written; wherever the proxy listens.
HEALTHCHECK --interval=10s --timeout=8s --start-period=10s --retries=3 \
    CMD ["/opt/egress/bin/egress", "status"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["egress", "run"]
# Other containers must reach the listener, so it is bound to all addresses of the container; publish it with care.
CMD ["--policy", "starter", "--listen", "0.0.0.0:3128"]
