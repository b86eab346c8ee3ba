"""What cuDNN asks of a caller, without a GPU: tensors on `cuda` that have shapes alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def autocast_to(dtype: torch.dtype) -> Iterator[None]:
    """As `torch.autocast("cuda", dtype)`, which without a GPU does nothing."""
    before = torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    yield
    torch.set_autocast_enabled("cuda", False)
    torch.set_autocast_dtype("cuda", before)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_a_kernel_computes_in_the_precision_that_autocast_was_asked_for(
    kind: str, dtype: torch.dtype, ragged: bool
) -> None:
    """PyTorch's own autocast takes cuDNN's recurrences to float16, and summed gradients overflow that."""

    def kernel(inputs: Any, state: Any, weights: Any, *arguments: Any) -> None:
        assert not torch.is_autocast_enabled("cuda")
        states = state if isinstance(state, list) else [state]
        raise Called({tensor.dtype for tensor in (inputs, *states, *weights)})

    with FakeTensorMode(), torch.device("cuda"), autocast_to(dtype):
        model = Recurrent(RecurrentConfig(kind=kind, hidden_size=4), input_size=3)
        inputs, lengths = torch.zeros(3, 5, 3), torch.tensor([5, 0, 2]) if ragged else None
        with mock.patch.object(torch, kind, kernel), pytest.raises(Called) as called:
            model(inputs, lengths)
    assert called.value.args == ({dtype},)
