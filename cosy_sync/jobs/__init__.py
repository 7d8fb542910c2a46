"""Jobs: many texts into a folder or a bucket, stopped and continued at any time."""

from .inputs import FORMATS, JobText, read_texts
from .job import Job, JobCounts, JobOptions
from .run import JobResult, run_job

__all__ = [
    "FORMATS",
    "Job",
    "JobCounts",
    "JobOptions",
    "JobResult",
    "JobText",
    "read_texts",
    "run_job",
]
