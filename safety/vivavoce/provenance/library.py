"""How the C2PA library is set up: it never asks the network, and believes only the authorities that it is given."""

from __future__ import annotations

from functools import lru_cache

import c2pa


@lru_cache(maxsize=16)
def context(roots: str) -> c2pa.Context:
    """Set the library up. May be used by several threads.

    Args:
        roots: PEM of the authorities that are trusted; empty for none.
    """
    switched_off = {"enabled": False}
    return c2pa.Context.from_dict(
        {
            "version": 1,
            "trust": {"trust_anchors": roots} if roots else {},
            # Twice over: nothing is fetched, and no host could be.
            "core": {"allowed_network_hosts": []},
            "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
            "builder": {
                "thumbnail": switched_off,
                # `manifest` says itself what was done.
                "actions": {
                    "auto_created_action": switched_off,
                    "auto_opened_action": switched_off,
                    "auto_placed_action": switched_off,
                },
            },
        }
    )
