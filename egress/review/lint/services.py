"""What is known of services on the Internet: under which names anyone gets a host, and which hosts ignore case."""

from __future__ import annotations

import re
from typing import Final

from egress.review.lint.places import parents

# Names under which one host a customer lies: who may reach all of them may reach anybody's, an attacker's included.
# Those that are refused as targets (github.io and others) are not repeated here.
_SHARED: Final = frozenset(
    """
    amazonaws.com s3.amazonaws.com execute-api.amazonaws.com elb.amazonaws.com on.aws awsapprunner.com amplifyapp.com
    windows.net core.windows.net blob.core.windows.net file.core.windows.net queue.core.windows.net
    table.core.windows.net web.core.windows.net dfs.core.windows.net servicebus.windows.net database.windows.net
    cloudapp.net cloudapp.azure.com azure.com azurefd.net trafficmanager.net azure-api.net azurecontainerapps.io
    azurecontainer.io azurestaticapps.net azurecr.io vault.azure.net openai.azure.com documents.azure.com
    googleapis.com storage.googleapis.com googleusercontent.com run.app a.run.app cloudfunctions.net web.app
    firebaseapp.com firebaseio.com firebasedatabase.app
    cloudflarestorage.com r2.cloudflarestorage.com trycloudflare.com fastly.net fastly-edge.com akamaihd.net
    akamaized.net edgekey.net edgesuite.net b-cdn.net
    digitaloceanspaces.com ondigitalocean.app linodeobjects.com backblazeb2.com wasabisys.com oraclecloud.com
    aliyuncs.com myqcloud.com
    github.dev app.github.dev gitpod.io stackblitz.io webcontainer.io codesandbox.io csb.app replit.app replit.dev
    repl.co glitch.me onrender.com railway.app up.railway.app render.com surge.sh deno.net val.run modal.run hf.space
    streamlit.app supabase.co neon.tech upstash.io ngrok.io ngrok.app ngrok.dev ngrok-free.app ngrok-free.dev
    ngrok.pizza loca.lt localhost.run serveo.net tailscale.net ts.net
    wordpress.com blogspot.com myshopify.com wixsite.com weebly.com webflow.io notion.site atlassian.net sharepoint.com
    slack.com zendesk.com dyndns.org duckdns.org nip.io sslip.io
    """.split()  # noqa: SIM905 -- a table to read
)
_AWS_REGION: Final = re.compile(r"[a-z]{2}(?:-[a-z]+){1,2}-\d")

# Hosts whose paths, or the owner and project in them, are the same in any case.
_IGNORING_CASE: Final = frozenset(
    """
    github.com api.github.com codeload.github.com raw.githubusercontent.com uploads.github.com gitlab.com bitbucket.org
    api.bitbucket.org dev.azure.com vssps.dev.azure.com feeds.dev.azure.com pkgs.dev.azure.com management.azure.com
    login.microsoftonline.com graph.microsoft.com api.nuget.org www.nuget.org huggingface.co www.powershellgallery.com
    """.split()  # noqa: SIM905 -- a table to read
)
_IGNORING_CASE_BELOW: Final = frozenset({"visualstudio.com", "sharepoint.com", "azurewebsites.net", "vault.azure.net"})


def is_shared(name: str) -> bool:
    """Whether hosts of many customers lie below the name."""
    if name in _SHARED:
        return True
    first, _, rest = name.partition(".")
    # A region of a shared service (`s3.eu-west-1.amazonaws.com`) is as shared as the service.
    return any(parent == "amazonaws.com" for parent in parents(name)) and (
        _AWS_REGION.fullmatch(first) is not None or _AWS_REGION.fullmatch(rest.partition(".")[0]) is not None
    )


def ignores_case(name: str) -> bool:
    """Whether the host is known to read paths without regard to upper and lower case."""
    return name in _IGNORING_CASE or any(parent in _IGNORING_CASE_BELOW for parent in parents(name))


def some_ignore_case(name: str) -> bool:
    """Whether a host below the name is known to ignore case."""
    return name in _IGNORING_CASE_BELOW or any(name in parents(host) for host in _IGNORING_CASE)
