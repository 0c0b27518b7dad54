"""Policies of other tools to ours, and ours to theirs. Pure: texts and loaded policies in, texts and losses out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.review.convert.azure_export import to_azure_policy
from egress.review.convert.azure_import import from_azure_policy
from egress.review.convert.cilium_export import to_cilium
from egress.review.convert.kubernetes_export import to_network_policy
from egress.review.convert.loss import ConversionError, Converted, Effect, Loss
from egress.review.convert.settings_export import to_claude_code, to_sandbox_runtime
from egress.review.convert.settings_import import from_claude_code, from_sandbox_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from egress.config import LoadedPolicy

    class Export(Protocol):
        """Turns a policy into a format's text. `keep_wider`: also what the format cannot say as narrowly."""

        def __call__(self, loaded: LoadedPolicy, *, keep_wider: bool = ...) -> Converted: ...


IMPORTS: Final[Mapping[str, Callable[[str, str], Converted]]] = {
    "azure-container-apps": from_azure_policy,
    "claude-code": from_claude_code,
    "sandbox-runtime": from_sandbox_runtime,
}
EXPORTS: Final[Mapping[str, Export]] = {
    "azure-container-apps": to_azure_policy,
    "claude-code": to_claude_code,
    "sandbox-runtime": to_sandbox_runtime,
    "kubernetes": to_network_policy,
    "cilium": to_cilium,
}

__all__ = ["EXPORTS", "IMPORTS", "ConversionError", "Converted", "Effect", "Loss"]
