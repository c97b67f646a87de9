"""Small jobs: the recipes of the tiny world, shortened."""

from pathlib import Path

from tests.builders.paths import TINY

SMALL = {
    "max_steps": 4,
    "save_steps": 2,
    "report_to": "none",
    "dataset_size": 64,
    "track_contrasts": "cue",
    "track_pairs_count": 16,
    "track_resamples": 20,
    "track_select": "edges=9",
    "track_ig_steps": 2,
    "track_max_ig_steps": 2,
}


GRPO = {
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 12,
    "reward_funcs": "tests.builders.digits.digits",  # the task's own is beyond a random model
}


SFT = {"per_device_train_batch_size": 4}


DISTILL = {
    "per_device_train_batch_size": 4,
    "max_completion_length": 12,
    "teacher_model_name_or_path": "tiny",  # a base that is shipped, larger than the small model
}


JOBS = {"grpo": GRPO, "sft": SFT, "distill": DISTILL}


def words(model: Path, name: str, folder: Path, **keys: object) -> list[str]:
    """The command line of the small job `name`."""
    settings = {
        "config": TINY / f"{name}.yaml",
        "model_name_or_path": model,
        "output_dir": folder,
        **SMALL,
        **JOBS[name],
        **keys,
    }
    lists = {key: value if isinstance(value, list) else [value] for key, value in settings.items()}
    return [word for key, values in lists.items() for word in (f"--{key}", *map(str, values))]
