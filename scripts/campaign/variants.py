"""The kinds of training that a campaign disturbs."""

from dataclasses import dataclass, field
from pathlib import Path

LAUNCH = Path(__file__).resolve().parents[2] / "recipes" / "launch"
ZERO2, FSDP2 = LAUNCH / "zero2.yaml", LAUNCH / "fsdp2.yaml"
ZERO3 = Path(__file__).with_name("zero3.yaml")  # no weight is too small for it

FAST = {
    "max_steps": 9,
    "save_steps": 3,
    "report_to": "none",
    "dataset_size": 64,
    "track_pairs_count": 16,
    "track_resamples": 20,
    "track_ig_steps": 3,
    "track_max_ig_steps": 6,
}
GRPO = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 36}
SFT = {"per_device_train_batch_size": 4}
DISTILL = {
    "per_device_train_batch_size": 4,
    "max_completion_length": 36,
    "teacher_model_name_or_path": "tiny",
}
JOBS = {"grpo": GRPO, "sft": SFT, "distill": DISTILL}
LORA = {"use_peft": "true", "lora_r": 4, "lora_target_modules": "all-linear"}
WATCHED = {"track_mode": "watch", "save_total_limit": 1}


@dataclass(frozen=True)
class Variant:
    """A kind of training."""

    name: str
    job: str
    keys: dict[str, object] = field(default_factory=dict)
    ranks: int = 1
    launch: Path | None = None  # how the processes share the training, where it is not DDP


VARIANTS = (
    Variant("sft", "sft"),
    Variant("grpo", "grpo"),
    Variant("grpo, LoRA", "grpo", LORA),
    Variant("distill", "distill"),
    Variant("sft, accumulation", "sft", {"gradient_accumulation_steps": 2}),
    Variant("grpo, accumulation", "grpo", {"gradient_accumulation_steps": 2}),
    Variant("grpo, batch kept 3 steps", "grpo", {"num_iterations": 3}),
)
SHARED = {"track_batch_size": 6}  # several batches of pairs, for several processes
LAYOUTS = {"2 processes": None, "ZeRO-2": ZERO2, "ZeRO-3": ZERO3, "FSDP2": FSDP2}
LAUNCHED = tuple(  # by each way to share a training
    Variant(
        f"{job}{', LoRA' if lora else ''}, {name}",
        job,
        {**SHARED, **(LORA if lora else {})},
        2,
        launch,
    )
    for name, launch in LAYOUTS.items()
    for job in ("sft", "grpo")
    for lora in (False, True)
)
