"""Jobs: many texts into a folder or a bucket, stopped and continued at any time."""

from .inputs import FORMATS, JobText, read_texts
from .job import Job, JobCounts, JobOptions
from .locking import JobIsBusy
from .run import JobResult, run_job
from .shards import merge_manifests, run_free_shards, speak_shard

__all__ = [
    "FORMATS",
    "Job",
    "JobCounts",
    "JobIsBusy",
    "JobOptions",
    "JobResult",
    "JobText",
    "merge_manifests",
    "read_texts",
    "run_free_shards",
    "run_job",
    "speak_shard",
]
