"""The routes, one file a resource. Each says which scope it needs."""
