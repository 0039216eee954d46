"""The one door out: model audio becomes bytes for a user here, marked, permitted and logged, or not at all."""
