"""Attention decoders against the loop that tutorials write.

Float32, teacher forcing. The rival is the usual loop: `nn.LSTMCell` over the input concatenated with the last attentional
vector (or the context), and an attention that projects the source with `nn.Linear` where it uses it, at every step.
"""

import torch
from torch import Tensor, nn

from benchmarks.case import Case, Sizes, compare, training_step
from core.nn.attention import Additive, General
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder import Decoder
from core.nn.decoders.decoder_config import AttentionAfter, AttentionBefore, ContextConfig, DecoderConfig
from core.nn.recurrent import RecurrentConfig


class LoopDecoder(nn.Module):
    """The rival: everything in the loop. Luong's general score with input feeding, or Bahdanau's additive one."""

    def __init__(self, sizes: Sizes, *, additive: bool) -> None:
        super().__init__()
        self.additive = additive
        hidden = sizes.hidden
        self.cell = nn.LSTMCell(hidden // 2 + hidden, hidden)
        self.key = nn.Linear(hidden, hidden, bias=additive)
        if additive:
            self.query = nn.Linear(hidden, hidden, bias=False)
            self.score = nn.Linear(hidden, 1, bias=False)
        self.readout = nn.Linear(2 * hidden, hidden)

    def attend(self, query: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """The context of a query (batch, hidden)."""
        keys = self.key(source)
        if self.additive:
            scores = self.score(torch.tanh(self.query(query).unsqueeze(1) + keys)).squeeze(-1)
        else:
            scores = torch.bmm(keys, query.unsqueeze(-1)).squeeze(-1)
        weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)
        return torch.bmm(weights.unsqueeze(1), source).squeeze(1)

    def forward(self, inputs: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """Attentional vectors of all steps."""
        hidden = cell = fed = inputs.new_zeros(len(inputs), self.cell.hidden_size)
        outputs = []
        for step in range(inputs.shape[1]):
            if self.additive:
                context = self.attend(hidden, source, mask)
                hidden, cell = self.cell(torch.cat([inputs[:, step], context], dim=-1), (hidden, cell))
            else:
                hidden, cell = self.cell(torch.cat([inputs[:, step], fed], dim=-1), (hidden, cell))
                context = self.attend(hidden, source, mask)
            fed = torch.tanh(self.readout(torch.cat([context, hidden], dim=-1)))
            outputs.append(fed)
        return torch.stack(outputs, dim=1)


def attention_decoder(sizes: Sizes, *, additive: bool) -> Case:
    """Luong's general score with input feeding, or Bahdanau's additive one; inputs half as wide as the layers."""
    torch.manual_seed(0)
    size = sizes.hidden
    context: ContextConfig = AttentionAfter(attention=General())
    if additive:
        context = AttentionBefore(attention=Additive(num_hidden=size))
    model = Decoder(
        DecoderConfig(recurrent=RecurrentConfig(kind="lstm", hidden_size=size), context=context, bridge="zero"),
        input_size=size // 2,
        source=SourceShape(output_size=size, summary_size=size),
    ).to(sizes.device)
    rival = LoopDecoder(sizes, additive=additive).to(sizes.device)
    rival.load_state_dict({_rival_name(name): tensor for name, tensor in model.state_dict().items()})
    shape = (sizes.sentences, sizes.words)
    tensors = {
        "weight": torch.randn(*shape, size, device=sizes.device),
        "inputs": torch.randn(*shape, size // 2, device=sizes.device),
        "source": torch.randn(*shape, size, device=sizes.device),
    }
    spread = torch.linspace(sizes.words // 2, sizes.words, sizes.sentences).round().long()
    lengths = spread[torch.randperm(sizes.sentences)].to(sizes.device)
    mask = torch.arange(sizes.words, device=sizes.device) < lengths.unsqueeze(1)
    summary = torch.zeros(sizes.sentences, size, device=sizes.device)

    def run_ours(inputs: Tensor, source: Tensor) -> Tensor:
        features: Tensor = model(inputs, None, model.start(Source(source, lengths, summary))).features
        return features

    def run_rival(inputs: Tensor, source: Tensor) -> Tensor:
        features: Tensor = rival(inputs, source, mask)
        return features

    ours = training_step(model, run_ours, **tensors)
    theirs = training_step(rival, run_rival, **tensors)
    name = "LSTMCell loop, additive" if additive else "LSTMCell loop, input feeding"
    return Case(ours, theirs, name, compare(ours, theirs, name_of=_rival_name))


def _rival_name(name: str) -> str:
    """The rival's name of a parameter of ours."""
    for ours, rival in (("layers.first.", "cell."), ("_l0", ""), ("attention.", ""), ("readout.linear", "readout")):
        name = name.replace(ours, rival)
    return name
