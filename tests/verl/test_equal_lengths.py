"""Rows of equal lengths keep their positions, as rows of several lengths do."""

import pytest
import torch

pytest.importorskip("verl", reason="verl has an environment of its own")
pytestmark = pytest.mark.verl


@pytest.mark.parametrize("lengths", [[49, 49], [7], [4], [8, 8], [5, 9, 5], [12, 12, 12], [1, 1]])
@pytest.mark.parametrize("components", [3, 4])
def test_positions_stay_with_their_rows(lengths: list[int], components: int) -> None:
    from tensordict import TensorDict
    from verl.utils.tensordict_utils import index_select_tensor_dict

    from difference_feedback.verl.equal_lengths import restore_positions

    rows = [torch.randint(0, 99, (components, length)) for length in lengths]
    fields = {"position_ids": rows, "input_ids": [torch.arange(length) for length in lengths]}
    nested = {name: torch.nested.as_nested_tensor(value, layout=torch.jagged) for name, value in fields.items()}
    data = TensorDict(nested, batch_size=len(lengths))
    for _ in range(2):  # verl calls it for a batch and again for its parts
        restore_positions(data)
        assert all(torch.equal(*pair) for pair in zip(data["position_ids"].unbind(), rows, strict=True))
    order = list(range(len(lengths)))[::-1]
    chosen = index_select_tensor_dict(data, order)["position_ids"].unbind()
    assert all(torch.equal(row, rows[i]) for row, i in zip(chosen, order, strict=True))
