"""The HTTP API. It validates, authorises, asks for work and serves what the registry holds; it makes no sound."""
