"""The keyed mark: spread spectrum in the magnitudes of the short-time spectrum, laid out by the operator's secret.

The principle is the patchwork of Bender et al. (1996) as multiplicative spread spectrum that knows its host (Malvar and
Florencio 2003, "improved spread spectrum"): tiles of 40 ms by one band are made a little louder or softer after a
secret pattern of signs, and the embedder, which knows the sound, spends its decibels where they change a sign that the
sound itself gets wrong. No phase is used, so polarity, filters, echoes and vocoders that keep the spectral envelope do
little harm.
"""
