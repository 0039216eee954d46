"""The audit log: what was asked, decided and done, in a tree that cannot be changed unnoticed."""
