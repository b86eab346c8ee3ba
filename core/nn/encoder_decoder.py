"""Encoder-decoder: many to one, then the context c, then one to many; both lengths are free (notes N10).

Sources: Cho et al., EMNLP 2014; Sutskever et al., NeurIPS 2014; with attention, Bahdanau et al., ICLR 2015.
"""

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder_loop import CarriedState
from core.nn.decoders.token_decoder import TokenDecoder, TokenOutput
from core.nn.decoders.tokens import check_tokens, new_embedding
from core.nn.decoders.vector_decoder import VectorDecoder, VectorOutput
from core.nn.pooling import LastPooling
from core.nn.recurrent import Recurrent, RecurrentConfig


class RecurrentEncoder(nn.Module):
    """Recurrent layers over a sequence of vectors; c is what each direction holds after its last step."""

    def __init__(self, config: RecurrentConfig, *, input_size: int) -> None:
        super().__init__()
        self.recurrent = Recurrent(config, input_size=input_size)
        self.pooling = LastPooling(bidirectional=config.bidirectional)

    @property
    def source_shape(self) -> SourceShape:
        """What a decoder must know to be built for this encoder."""
        size = self.recurrent.output_size
        return SourceShape(output_size=size, summary_size=size, recurrent=self.recurrent.config)

    def forward(self, inputs: Float[Tensor, "batch time features"], lengths: Int[Tensor, "batch"]) -> Source:
        """The encoded sequences.

        Args:
            inputs: padded sequences; what stands in the padding is not read.
            lengths: int64, valid steps of each.
        """
        outputs, state = self.recurrent(inputs, lengths)
        return Source(outputs, lengths, self.pooling(outputs, lengths), state)


class TokenEncoder(nn.Module):
    """Recurrent layers over embedded tokens."""

    def __init__(
        self,
        config: RecurrentConfig,
        *,
        vocabulary_size: int,
        embedding_size: int,
        embedding_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= embedding_dropout < 1.0:
            raise ValueError(f"embedding_dropout must be in [0, 1), got {embedding_dropout}.")
        self.embedding_dropout = embedding_dropout
        self.embedding = new_embedding(vocabulary_size, embedding_size=embedding_size)
        self.encoder = RecurrentEncoder(config, input_size=embedding_size)

    @property
    def source_shape(self) -> SourceShape:
        """What a decoder must know to be built for this encoder."""
        return self.encoder.source_shape

    def forward(self, tokens: Int[Tensor, "batch time"], lengths: Int[Tensor, "batch"]) -> Source:
        """The encoded sequences; see `RecurrentEncoder`.

        Raises:
            ValueError: if a shape or dtype does not fit, or, on CPU, a token is not in the vocabulary.
        """
        tokens = check_tokens(tokens, lengths, vocabulary=self.embedding)
        embedded = F.dropout(self.embedding(tokens), self.embedding_dropout, self.training)
        source: Source = self.encoder(embedded, lengths)
        return source


class EncoderDecoder(nn.Module):
    """An encoder that gives a `Source`, and a decoder built for its `source_shape`."""

    def __init__(self, encoder: nn.Module, decoder: TokenDecoder | VectorDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def start(self, inputs: Shaped[Tensor, "batch time *features"], lengths: Int[Tensor, "batch"]) -> CarriedState:
        """Encode, and give the decoder's state before its first step: what search begins with."""
        return self.decoder.start(self.encoder(inputs, lengths))

    def forward(
        self,
        inputs: Shaped[Tensor, "batch time *features"],
        lengths: Int[Tensor, "batch"],
        targets: Shaped[Tensor, "batch target_time *values"],
        target_lengths: Int[Tensor, "batch"] | None,
        *,
        true_probability: float = 1.0,
    ) -> TokenOutput | VectorOutput:
        """Decode whole targets.

        Args:
            inputs: padded sources, as the encoder takes them.
            lengths: int64, valid steps of each source.
            targets: what the decoder reads at each step: tokens, or the values of the step before.
            target_lengths: int64, valid steps of each target; None where every step is valid.
            true_probability: how often a step reads its target (`core.nn.teacher_forcing`).
        """
        state = self.start(inputs, lengths)
        output: TokenOutput | VectorOutput = self.decoder(
            targets, target_lengths, state, true_probability=true_probability
        )
        return output
