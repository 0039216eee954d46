"""The engine against an eager baseline: speed, latency, memory, and how near the memory's bandwidth it comes."""
