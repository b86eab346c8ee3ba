"""What a decoder's output layer reads."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.nn.decoders.decoder_config import DecoderConfig
from core.nn.decoders.loop_products import Products, plain_products

Read = Callable[[Tensor | None, Tensor, Tensor], Tensor]
"""(context, top layer's output, decoder input) -> what the output layer reads."""


class Readout(nn.Module):
    """state: h.  attentional: tanh(W [c; h] + b).  deep: max over pairs of W [c; h; x] + b.

    Sources: Luong et al., EMNLP 2015, eq. 5; Bahdanau et al., ICLR 2015, appendix A.2.2, with the state of the present
    step, which the probability that it stands in is a function of.
    """

    def __init__(self, config: DecoderConfig, *, context_size: int, input_size: int) -> None:
        super().__init__()
        self.kind = config.readout
        size = context_size + config.recurrent.hidden_size
        if config.readout == "attentional":
            self.linear = nn.Linear(size, config.output_size)
        elif config.readout == "deep":
            self.linear = nn.Linear(size + input_size, 2 * config.output_size)

    def forward(self, context: Tensor | None, hidden: Tensor, inputs: Tensor) -> Tensor:
        """All with the same leading axes; `inputs` is read by `deep` alone."""
        return self.bind(plain_products)(context, hidden, inputs)

    def bind(self, products: Products) -> Read:
        """The readout as a function, its product done as `products` does it (in a loop)."""
        if self.kind == "state":
            return lambda context, hidden, inputs: hidden
        project = products([self.linear.weight], bias=self.linear.bias)

        def read(context: Tensor | None, hidden: Tensor, inputs: Tensor) -> Tensor:
            parts = [hidden] if context is None else [context, hidden]
            if self.kind == "attentional":
                return torch.tanh(project(torch.cat(parts, dim=-1)))
            projected = project(torch.cat([*parts, inputs], dim=-1))
            return projected.reshape(*projected.shape[:-1], -1, 2).amax(-1)

        return read
