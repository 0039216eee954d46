"""A simulated room: the image sources of a shoebox (Allen and Berkley, 1979).

No package that installs here carries measured room responses, so these are simulated: all images that arrive within the
reverberation time, walls that reflect alike at all frequencies, 0.5 s until the sound has fallen by 60 dB. Reflected
images come with random signs: with equal ones the many that arrive in one sample would add up to a hum that is in no
room.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from vivavoce.sound import Samples

RT60 = 0.5  # seconds
ROOM = np.array([5.2, 4.1, 2.7])  # metres
DISTANCE = (0.5, 1.5)  # metres between mouth and microphone
SPEED_OF_SOUND = 343.0  # metres per second
DIRECT_SECONDS = 2.5e-3  # what arrives within this of the first sound is direct


def room_response(rate: int, rng: np.random.Generator) -> Samples:
    """float32[RT60 * rate]: the response between a mouth and a microphone at random places, direct sound first."""
    mouth, microphone = _places(rng)
    volume, surface = ROOM.prod(), 2 * (ROOM[0] * ROOM[1] + ROOM[1] * ROOM[2] + ROOM[0] * ROOM[2])
    absorption = 24 * np.log(10) * volume / (SPEED_OF_SOUND * surface * RT60)  # Sabine
    reflection = np.sqrt(1 - absorption)
    reach = np.ceil(RT60 * SPEED_OF_SOUND / (2 * ROOM)).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    times, gains = [], []
    for mirrored in product((0, 1), repeat=3):
        flip = np.array(mirrored)
        distance = np.linalg.norm((1 - 2 * flip) * mouth + 2 * grid * ROOM - microphone, axis=1)
        bounces = np.abs(grid - flip).sum(axis=1) + np.abs(grid).sum(axis=1)
        times.append(distance / SPEED_OF_SOUND)
        gains.append(reflection**bounces / distance)
    time, gain = np.concatenate(times), np.concatenate(gains)
    place = np.round((time - time.min()) * rate).astype(int)
    gain = np.where(time > time.min(), gain * rng.choice([-1.0, 1.0], len(gain)), gain)
    inside = place < int(RT60 * rate)
    response = np.bincount(place[inside], weights=gain[inside], minlength=int(RT60 * rate))
    return np.asarray(response / np.abs(response).max(), dtype=np.float32)


def direct_to_reverberant_db(response: Samples, rate: int) -> float:
    """Energy of the direct sound over that of everything after it, in dB."""
    edge = int(DIRECT_SECONDS * rate)
    return float(10 * np.log10(np.sum(response[:edge] ** 2) / np.sum(response[edge:] ** 2)))


def in_room(samples: Samples, response: Samples) -> Samples:
    """The sound as the microphone hears it, as loud as it was."""
    size = len(samples) + len(response) - 1
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    return np.asarray(wet * (samples.std() / max(float(wet.std()), 1e-9)), dtype=np.float32)


def _places(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    while True:
        mouth, microphone = (rng.uniform(0.5, ROOM - 0.5) for _ in range(2))
        if DISTANCE[0] <= np.linalg.norm(mouth - microphone) <= DISTANCE[1]:
            return mouth, microphone
