"""Difference Feedback on verl: verl's own Hydra configuration, and a block `difference_feedback`.

    python -m difference_feedback.verl.main_df <verl's settings> \\
        algorithm.adv_estimator=grpo +difference_feedback.repair_model=path/to/repair_model

Without the block, or with `+difference_feedback.enabled=false`, it is `python -m verl.trainer.main_ppo`, with a critic
for Qwen2.5-VL (`value_model.py`) and two of verl's faults mended (`equal_lengths.py`, `blank_pictures.py`).
"""

import os
import sys
from typing import Any

import hydra
import ray
from omegaconf import OmegaConf, open_dict
from ray.exceptions import RayTaskError
from ray.job_config import JobConfig
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl.utils.device import auto_set_device

from difference_feedback.errors import DifferenceFeedbackError
from difference_feedback.runs.model_folder import check_model
from difference_feedback.runs.servers import check_server
from difference_feedback.verl.settings import VerlSettings, by_critic, settings_of

_TaskRunner: Any = TaskRunnerV1.__ray_metadata__.modified_class


@ray.remote
class DFTaskRunner(_TaskRunner):
    """verl's task runner with our trainer registered under the name of the one that it extends."""

    def run(self, config: Any) -> None:
        from difference_feedback.verl.placement import check_cluster

        settings = settings_of(config)
        assert settings is not None
        check_cluster(config, settings)

        from verl.trainer.ppo.v1 import trainer_base

        from difference_feedback.verl.trainer import DFTrainer

        # verl compares the name "sync" in several places, so the name has to stay.
        trainer_base.TRAINER_REGISTRY["sync"] = DFTrainer
        super().run(config)


@hydra.main(config_path="pkg://verl.trainer.config", config_name="ppo_trainer", version_base=None)
def main(config: Any) -> None:
    """Check the configuration, then train."""
    try:
        settings = settings_of(config)
        _check_repairer(settings)
    except DifferenceFeedbackError as error:
        sys.exit(f"Error: {error}")
    auto_set_device(config)
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    _keep_out_the_working_folder()
    modules = ["equal_lengths", "blank_pictures", *(["value_model"] if by_critic(config) else [])]
    _import_in_workers(config, [f"difference_feedback.verl.{module}" for module in modules])
    if settings is None:
        run_ppo(config, task_runner_class=TaskRunnerV1)
        return
    with open_dict(config):
        manager = "difference_feedback.verl.agent_loop.DFAgentLoopManager"
        config.actor_rollout_ref.rollout.agent.agent_loop_manager_class = manager
    try:
        run_ppo(config, task_runner_class=DFTaskRunner)
    except RayTaskError as error:
        if isinstance(error.cause, DifferenceFeedbackError):
            sys.exit(f"Error: {error.cause}")
        raise


def _check_repairer(settings: VerlSettings | None) -> None:
    """Raise `ConfigError` for a repair model that does not exist, or a server that nobody has started."""
    if settings is None or not settings.needs_repairer:
        return
    if settings.via == "local":
        check_model(str(settings.repair_model), "difference_feedback.repair_model")
    else:
        check_server(settings.server, "difference_feedback.endpoint")


def _keep_out_the_working_folder() -> None:
    """Ray puts the driver's working folder first on its workers' path, so a `json.py` there would be executed."""
    serialize = JobConfig._serialize

    def without_folders(job: JobConfig) -> Any:
        job._py_driver_sys_path = []
        return serialize(job)

    JobConfig._serialize = without_folders


def _import_in_workers(config: Any, added: list[str]) -> None:
    """Have `import verl` import more modules, in this process and in all of Ray's."""
    modules = [*filter(None, os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(",")), *added]
    os.environ["VERL_USE_EXTERNAL_MODULES"] = ",".join(modules)
    with open_dict(config):
        path = "ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES"
        OmegaConf.update(config, path, ",".join(modules), force_add=True)


if __name__ == "__main__":
    main()
