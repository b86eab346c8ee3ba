"""Settings of a recurrent decoder: its layers, how the source reaches it, and what its outputs are made of."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

from core.nn.attention import AttentionConfig
from core.nn.decoders.bridge import BridgeKind
from core.nn.decoders.cell_loop import sequence_settings
from core.nn.recurrent import RecurrentConfig

ReadoutKind = Literal["state", "attentional", "deep"]


@dataclass(frozen=True, kw_only=True)
class ContextConfig(ABC):
    """How the source reaches a decoder, beside its first state."""

    @property
    @abstractmethod
    def attention_config(self) -> AttentionConfig | None:
        """The attention, where there is one."""


@dataclass(frozen=True, kw_only=True)
class FirstStateOnly(ContextConfig):
    """In no other way: the bridge hands everything over.

    Source: Sutskever et al., "Sequence to Sequence Learning with Neural Networks", NeurIPS 2014.
    """

    @property
    def attention_config(self) -> None:
        """None: nothing is attended to."""


@dataclass(frozen=True, kw_only=True)
class FixedContext(ContextConfig):
    """The same context c beside the input of every step (notes N5, N10).

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation", EMNLP 2014, section 2.2.
    """

    @property
    def attention_config(self) -> None:
        """None: nothing is attended to."""


@dataclass(frozen=True, kw_only=True)
class AttentionAfter(ContextConfig):
    """The top layer's output of a step attends; the context enters the readout.

    Source: Luong et al., "Effective Approaches to Attention-based Neural Machine Translation", EMNLP 2015, section 3.
    """

    attention: AttentionConfig
    """Kind of attention."""
    input_feeding: bool = True
    """Put the last step's attentional vector beside the input (section 3.3). Without it a whole target is decoded in a
    few large products; with it, step by step."""

    @property
    def attention_config(self) -> AttentionConfig:
        """As set."""
        return self.attention


@dataclass(frozen=True, kw_only=True)
class AttentionBefore(ContextConfig):
    """The top layer's state of the step before attends; the context stands beside the input.

    Source: Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate", ICLR 2015,
    section 3.1.
    """

    attention: AttentionConfig
    """Kind of attention."""
    gated: bool = False
    """Scale the context by sigmoid(f . h + b), h the state that looks: how much of a step's word is to be seen in the source
    (Xu et al., "Show, Attend and Tell", ICML 2015, section 4.2.1)."""

    @property
    def attention_config(self) -> AttentionConfig:
        """As set."""
        return self.attention


@dataclass(frozen=True, kw_only=True)
class AttentionBetween(ContextConfig):
    """The first layer's output of a step attends; the context stands beside the input of every layer above.

    A whole target is decoded in a few large products. Source: Wu et al., "Google's Neural Machine Translation System",
    arXiv:1609.08144, section 3, with the output of the present step in place of the last, as in its later versions.
    """

    attention: AttentionConfig
    """Kind of attention."""

    @property
    def attention_config(self) -> AttentionConfig:
        """As set."""
        return self.attention


@dataclass(frozen=True, kw_only=True)
class TopDown(AttentionBetween):
    """As AttentionBetween, and the first layer reads the summary c and the top layer's last output beside its input.

    Source: Anderson et al., "Bottom-Up and Top-Down Attention for Image Captioning and Visual Question Answering", CVPR
    2018, section 3.2.
    """


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A recurrent decoder."""

    recurrent: RecurrentConfig
    """Its layers, in one direction."""
    context: ContextConfig
    """How the source reaches it, beside the first state."""
    bridge: BridgeKind = "dense"
    """Where the first state comes from: zero (its own), copy (the encoder's last) or dense (tanh of the context)."""
    readout: ReadoutKind = "attentional"
    """What the output layer reads: state (the top layer's output h), attentional (tanh of [context; h], Luong et al. 2015,
    eq. 5) or deep (maxout of [context; h; input], Bahdanau et al. 2015, appendix A.2.2)."""
    readout_size: int | None = None
    """Width of an attentional or deep readout; None for hidden_size."""
    readout_dropout: float = 0.0
    """Probability of zeroing a unit of what the output layer reads, in [0, 1); what is fed back is left whole."""

    def __post_init__(self) -> None:
        if self.readout not in get_args(ReadoutKind):
            raise ValueError(f"readout must be one of {', '.join(get_args(ReadoutKind))}, got {self.readout!r}.")
        self._check_recurrent()
        self._check_context()
        if self.readout == "state" and self.readout_size is not None:
            raise ValueError(
                f"readout_size={self.readout_size} does nothing with readout='state', which is as wide as the top layer. "
                "Remove it."
            )
        if self.readout_size is not None and self.readout_size < 1:
            raise ValueError(f"readout_size must be at least 1, got {self.readout_size}.")
        if not 0.0 <= self.readout_dropout < 1.0:
            raise ValueError(f"readout_dropout must be in [0, 1), got {self.readout_dropout}.")
        if self.bridge not in get_args(BridgeKind):
            raise ValueError(f"bridge must be one of {', '.join(get_args(BridgeKind))}, got {self.bridge!r}.")

    def _check_recurrent(self) -> None:
        if self.recurrent.bidirectional:
            raise ValueError(
                "a decoder reads its own outputs and so has one direction: bidirectional must be false, got true."
            )
        noise = sequence_settings(self.recurrent)
        if self.is_stepped and noise:
            raise ValueError(
                f"a decoder whose next input depends on its last output runs step by step, where {', '.join(noise)} of "
                "recurrent would be drawn anew at every step. Remove it, or take a context without input feeding, "
                "coverage and AttentionBefore."
            )

    def _check_context(self) -> None:
        context = self.context
        if isinstance(context, FirstStateOnly):
            if self.bridge == "zero":
                raise ValueError(
                    "bridge='zero' with FirstStateOnly leaves the decoder nothing of the source. Set bridge to copy or "
                    "dense, or take another context."
                )
            if self.readout == "attentional":
                raise ValueError(
                    "readout='attentional' joins the state with a context, and FirstStateOnly has none. Set readout to "
                    "state or deep."
                )
        if isinstance(context, AttentionAfter):
            if self.readout == "state":
                raise ValueError(
                    "AttentionAfter does nothing with readout='state', which leaves its context out. Set readout to "
                    "attentional or deep."
                )
            if context.input_feeding and self.readout != "attentional":
                raise ValueError(
                    f"input_feeding=true feeds the attentional vector, got readout={self.readout!r}. Set readout to "
                    "attentional or input_feeding to false."
                )
        if isinstance(context, AttentionBetween) and self.recurrent.num_layers == 1:
            raise ValueError(
                f"{type(context).__name__} feeds the layers above the first, got num_layers=1. Add a layer or take "
                "AttentionAfter."
            )

    @property
    def feeds_inputs(self) -> bool:
        """Whether the last attentional vector stands beside the input."""
        return isinstance(self.context, AttentionAfter) and self.context.input_feeding

    @property
    def reads_summary(self) -> bool:
        """Whether the source's summary stands beside the input of every step."""
        return isinstance(self.context, FixedContext | TopDown)

    @property
    def fed_size(self) -> int:
        """Width of what a step hands to the next beside its state: attentional vector or top output; 0 for nothing."""
        if self.feeds_inputs:
            return self.output_size
        return self.recurrent.hidden_size if isinstance(self.context, TopDown) else 0

    @property
    def is_stepped(self) -> bool:
        """Whether a target that is known must be decoded step by step all the same."""
        attention = self.context.attention_config
        looks_back = self.feeds_inputs or isinstance(self.context, AttentionBefore | TopDown)
        return looks_back or (attention is not None and attention.has_coverage)

    @property
    def output_size(self) -> int:
        """Width of what the output layer reads."""
        return self.readout_size or self.recurrent.hidden_size
