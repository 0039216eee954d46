"""The worker: a Celery process that runs the model for jobs that safety allows."""
