"""Speech made by a teacher for training: many voices, many texts, parallel pairs, and the time of every phone.

The teacher (Kokoro-82M, Apache-2.0) is a tool of development: nothing that serves or ships needs it.
"""
