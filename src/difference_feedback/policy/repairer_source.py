"""The repair model that a recipe of `repair check` names, and its repairs of one round's wrong answers."""

from collections.abc import Sequence
from typing import Any

from difference_feedback.judges.served_model import ServedModel
from difference_feedback.method.alignment import align, edit_cost
from difference_feedback.method.repairs import Repair, Repairer, RepairRequest
from difference_feedback.models.processor import load_processor
from difference_feedback.models.scoring import other_token
from difference_feedback.policy.draft_sources import Draft
from difference_feedback.repair.embedded import ReferenceRepairer, embedded_repairer
from difference_feedback.repair.endpoint import served_repairer
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.repair.prompts import other_system, template_for
from difference_feedback.runs.repair_check import SIBLING, RepairCheckRecipe
from difference_feedback.runs.terminal import Terminal
from difference_feedback.world import Problem
from difference_feedback.world.oracle import Flaws


class RepairerSource:
    """`repairer` is the repair model; None where each round has its own, which knows the round's answers."""

    def __init__(self, recipe: RepairCheckRecipe, policy: Any, processor: Any) -> None:
        self.recipe, self.processor = recipe, processor
        self.repairer: Repairer | None = self._made(policy)
        self._warned = False

    @property
    def reads_images(self) -> bool:
        """Whether it is a model."""
        return self.repairer is not None and not isinstance(self.repairer, ReferenceRepairer)

    def repair(self, number: int, drafts: Sequence[Draft], num_samples: int) -> list[list[Repair]]:
        """The candidates for each wrong answer of round `number`."""
        if self.recipe.repair_model == SIBLING:
            return [[_closest(draft)] if draft.siblings else [] for draft in drafts]
        requests = [draft.request for draft in drafts]
        if self.repairer is None:
            problems = [draft.question for draft in drafts if isinstance(draft.question, Problem)]
            source = self.recipe.repairs
            flaws = Flaws(source.oracle_right, source.oracle_clean, self.recipe.seed)
            named = embedded_repairer(str(self.recipe.repair_model), self.processor.tokenizer, problems, flaws)
            return named.repair(requests, num_samples)
        self._warn(drafts)
        return self.ask(2 * number, requests, num_samples)

    def ask(self, call: int, requests: Sequence[RepairRequest], num_samples: int) -> list[list[Repair]]:
        """Its repairs. The number of the call is a part of the seed, so that a resumed run draws the same ones."""
        assert self.repairer is not None
        if hasattr(self.repairer, "calls"):
            self.repairer.calls = call
        return self.repairer.repair(requests, num_samples) if requests else []

    def _made(self, policy: Any) -> Repairer | None:
        recipe, source, name = self.recipe, self.recipe.repairs, self.recipe.repair_model
        shared: dict[str, Any] = {"temperature": source.temperature, "seed": recipe.seed}
        if source.via != "local":
            assert source.endpoint is not None
            return served_repairer(source.via, source.endpoint, self.processor.tokenizer, source.style, **shared)
        if name == "reference":
            return ReferenceRepairer(self.processor.tokenizer)
        if name in ("oracle", "blind_rewriter", SIBLING):
            return None
        assert name is not None
        model = recipe.policy if name == "policy" else name
        shared |= {
            "batch_size": source.batch_size,
            "speculate": source.speculate,
            "style": source.style or template_for(model),
            "max_new_tokens": recipe.longest,
        }
        if policy is not None and model == recipe.policy and not isinstance(policy, ServedModel):
            return LocalRepairer(policy, self.processor, **shared)
        tokenizer, own = self.processor.tokenizer, load_processor(model).tokenizer
        if other_token(tokenizer, own) is not None or other_token(own, tokenizer) is not None:
            shared["policy_tokenizer"] = tokenizer
        return LocalRepairer.from_pretrained(model, attention=recipe.attention, **shared)

    def _warn(self, drafts: Sequence[Draft]) -> None:
        """Say once where the repair model was trained with another system message."""
        if self._warned or not drafts or not isinstance(self.repairer, LocalRepairer):
            return
        self._warned = True
        if warning := other_system(self.recipe.repair_model or "", drafts[0].question.prompt):
            Terminal(stderr=True, soft_wrap=True).print(warning, markup=False)


def _closest(draft: Draft) -> Repair:
    """The right answer of the group with the fewest edits."""
    costs = [edit_cost(align(draft.token_ids, sibling.token_ids)) for sibling in draft.siblings]
    sibling = draft.siblings[costs.index(min(costs))]
    return Repair(sibling.token_ids, sibling.text)
