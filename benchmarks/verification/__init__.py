"""How far the verification of a consent can be trusted: speakers compared, splices, one-time words."""
