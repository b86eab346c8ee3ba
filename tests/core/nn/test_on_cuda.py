"""What cuDNN asks of a caller, without a GPU: tensors on `cuda` that have shapes alone."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from core.nn.recurrent import Recurrent, RecurrentConfig


class Called(Exception):
    """Stands in for the kernel; carries what it was given."""


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_a_kernel_that_gradients_go_through_is_in_training_mode(kind: str, training: bool, ragged: bool) -> None:
    """Else cuDNN refuses the backward pass ("can only be called in training mode"), in evaluation too."""

    def kernel(inputs: Any, *arguments: Any) -> None:
        assert inputs.is_cuda
        raise Called(*arguments[4:6])

    with FakeTensorMode(), torch.device("cuda"):
        config = RecurrentConfig(kind=kind, hidden_size=4, num_layers=2, dropout=0.3)
        model = Recurrent(config, input_size=3).train(training)
        inputs, lengths = torch.zeros(3, 5, 3), torch.tensor([5, 0, 2]) if ragged else None
        with mock.patch.object(torch, kind, kernel), pytest.raises(Called) as called:
            model(inputs, lengths)
    dropout, in_training_mode = called.value.args
    assert in_training_mode is True
    # Over a dense batch dropout is the kernel's, and in training alone; between blocks it is ours.
    assert dropout == (0.3 if training and not ragged else 0.0)
