"""Our weights under JoeyNMT's names, so that both sides can be asked for the same sums and the same translations."""

from collections.abc import Mapping

import torch
from torch import Tensor

# Ours: padding, begin, end, unknown. JoeyNMT's: unknown, padding, begin, end.
_SPECIALS = [3, 0, 1, 2]


def as_joeynmt(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of JoeyNMT's recurrent model that computes what our network with these weights computes.

    Args:
        weights: state of a `RecurrentTranslationNetwork` that `benchmarks.translation_process.tie` has tied.
    """
    decoder = "model.decoder.decoder"
    readout = weights[f"{decoder}.readout.linear.weight"]
    size = len(readout)
    bridge_weight, bridge_bias = (weights[f"{decoder}.bridge.dense.{name}"] for name in ("weight", "bias"))
    half = len(bridge_bias) // 2
    assert not weights["model.decoder.output.bias"].any(), "JoeyNMT's output layer has no bias"
    for part in (bridge_weight, bridge_bias):
        assert torch.equal(part[:half], part[half:]), "JoeyNMT's first hidden and cell state are the same"
    renamed = {
        "src_embed.lut.weight": _in_its_order(weights["model.encoder.embedding.weight"]),
        "trg_embed.lut.weight": _in_its_order(weights["model.decoder.embedding.weight"]),
        "decoder.output_layer.weight": _in_its_order(weights["model.decoder.output.weight"]),
        "decoder.attention.key_layer.weight": weights[f"{decoder}.attention.key.weight"],
        "decoder.bridge_layer.weight": bridge_weight[:half],
        "decoder.bridge_layer.bias": bridge_bias[:half],
        # Ours reads the context first, its the state.
        "decoder.att_vector_layer.weight": torch.cat([readout[:, -size:], readout[:, :-size]], dim=1),
        "decoder.att_vector_layer.bias": weights[f"{decoder}.readout.linear.bias"],
    }
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        renamed[f"decoder.rnn.{name}_l0"] = weights[f"{decoder}.layers.first.{name}_l0"]
        for direction in ("", "_reverse"):
            renamed[f"encoder.rnn.{name}_l0{direction}"] = weights[
                f"model.encoder.encoder.recurrent.{name}_l0{direction}"
            ]
    return {name: weight.clone() for name, weight in renamed.items()}


def _in_its_order(table: Tensor) -> Tensor:
    return torch.cat([table[_SPECIALS], table[len(_SPECIALS) :]])
