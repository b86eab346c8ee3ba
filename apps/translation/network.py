"""Networks that translate: a recurrent encoder-decoder (notes N10, N15) and the feed-forward baseline beside it (N1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from jaxtyping import Int
from torch import Tensor, nn

from core.nn.attention import Additive
from core.nn.decoders.decoder_config import AttentionBefore, DecoderConfig
from core.nn.decoders.token_decoder import TokenDecoder, TokenDecoderConfig, TokenOutput
from core.nn.decoders.tokens import check_tokens
from core.nn.encoder_decoder import EncoderDecoder, TokenEncoder
from core.nn.losses import MeanOver, SummedLoss
from core.nn.recurrent import RecurrentConfig
from core.nn.search import BeamConfig, Hypotheses, SpecialTokens, score, search
from data.text import BOS, EOS, PAD, UNK
from data.translation import TranslationBatch

SPECIAL = SpecialTokens(bos=BOS, eos=EOS, pad=PAD, forbidden=(UNK,))
SPECIAL_WITH_UNKNOWN = SpecialTokens(bos=BOS, eos=EOS, pad=PAD)


class TextShape(NamedTuple):
    """What a network must know of the texts."""

    source_vocabulary: int
    """Pieces of the source's vocabulary, special tokens included."""
    target_vocabulary: int
    """Pieces of the target's."""
    is_shared: bool
    """Whether both sides have one vocabulary."""
    max_length: int
    """Most tokens a side of a training pair has, without begin or end."""

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> Self:
        """Read off the preprocessing of the data."""
        source, target = preprocessing["source_text"], preprocessing["target_text"]
        sizes = [None if text is None else len(text["pieces"]) + len((PAD, BOS, EOS, UNK)) for text in (source, target)]
        assert sizes[0] is not None
        return cls(sizes[0], sizes[1] or sizes[0], target is None, preprocessing["max_length"])


class TranslationNetwork(nn.Module, ABC):
    """Gives the loss of pairs in training, and translations."""

    @property
    @abstractmethod
    def has_attention(self) -> bool:
        """Whether translations come with weights over the pieces of their source."""

    @property
    @abstractmethod
    def has_search(self) -> bool:
        """Whether a word depends on those before it, so that there is something to search."""

    @abstractmethod
    def vocabulary_weights(self, side: str) -> tuple[str, ...]:
        """Names of the weights that have a row for each piece of the vocabulary of `source` or `target`."""

    @abstractmethod
    def loss(
        self,
        batch: TranslationBatch,
        *,
        mean: MeanOver,
        label_smoothing: float = 0.0,
        true_probability: float = 1.0,
    ) -> SummedLoss:
        """Cross-entropy of the target's tokens and of its end.

        Args:
            batch: pairs of sentences.
            mean: token, or sequence (notes N4).
            label_smoothing: share of each token's target that is spread over the vocabulary.
            true_probability: how often the decoder reads the true token (notes N7).
        """

    @abstractmethod
    def translate(
        self,
        source: Int[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        *,
        config: BeamConfig,
        allow_unknown: bool = False,
    ) -> Hypotheses:
        """Translations of encoded sentences, best first.

        Args:
            source: int64, each ending in EOS.
            lengths: int64, tokens of each.
            config: how wide and how long is searched.
            allow_unknown: let the unknown word be chosen, which is replaced afterwards.
        """

    @abstractmethod
    def score(
        self,
        source: Int[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        given: Sequence[Sequence[int]],
        *,
        config: BeamConfig,
    ) -> Hypotheses:
        """Given translations, one a sentence, with what a search that found them would say of them.

        Args:
            source: int64, each ending in EOS.
            lengths: int64, tokens of each.
            given: tokens of each translation, without begin and end.
            config: its penalties make the score; nothing else of it is read.
        """


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(ABC):
    """A network that translates."""

    @abstractmethod
    def build(self, shape: TextShape) -> TranslationNetwork:
        """The network for texts of that shape.

        Raises:
            ValueError: where settings and texts do not fit.
        """


_ENCODER = RecurrentConfig(kind="gru", hidden_size=256, bidirectional=True)
_DECODER = DecoderConfig(
    recurrent=RecurrentConfig(kind="gru", hidden_size=256),
    context=AttentionBefore(attention=Additive(num_hidden=256)),
    readout="deep",
)


@dataclass(frozen=True, kw_only=True)
class RecurrentTranslator(NetworkConfig):
    """Encoder, context or attention, decoder; by default that of Bahdanau et al., ICLR 2015."""

    encoder: RecurrentConfig = _ENCODER
    """Recurrent layers over the source."""
    decoder: DecoderConfig = _DECODER
    """Recurrent layers over the target, how the source reaches them, and what scores are made of."""
    embedding_size: int = 256
    """Width of an embedded token, on both sides."""
    embedding_dropout: float = 0.0
    """Probability of zeroing a unit of an embedded token, in [0, 1)."""
    encoder_dropout: float = 0.0
    """Probability of zeroing a unit of what attention reads, in [0, 1)."""
    tie_embeddings: bool = False
    """Score with the target's embeddings (Press & Wolf, EACL 2017)."""
    share_embeddings: bool = False
    """One table of embeddings for both sides; needs data.shared_vocabulary."""

    def build(self, shape: TextShape) -> TranslationNetwork:
        """See the base class."""
        return RecurrentTranslationNetwork(self, shape)


class RecurrentTranslationNetwork(TranslationNetwork):
    """RNN encoder -> context c or attention -> RNN decoder."""

    def __init__(self, config: RecurrentTranslator, shape: TextShape) -> None:
        super().__init__()
        if config.share_embeddings and not shape.is_shared:
            raise ValueError(
                "model.network.share_embeddings needs one vocabulary for both sides. Set data.shared_vocabulary: true or "
                "leave share_embeddings out."
            )
        if not 0.0 <= config.encoder_dropout < 1.0:
            raise ValueError(f"model.network.encoder_dropout must be in [0, 1), got {config.encoder_dropout}.")
        if config.encoder_dropout and config.decoder.context.attention_config is None:
            raise ValueError(
                f"model.network.encoder_dropout is {config.encoder_dropout}, but "
                f"{type(config.decoder.context).__name__} attends to nothing: it would do nothing. Leave it out."
            )
        encoder = TokenEncoder(
            config.encoder,
            vocabulary_size=shape.source_vocabulary,
            embedding_size=config.embedding_size,
            embedding_dropout=config.embedding_dropout,
        )
        decoder = TokenDecoder(
            TokenDecoderConfig(
                decoder=config.decoder,
                embedding_size=config.embedding_size,
                embedding_dropout=config.embedding_dropout,
                tie_embeddings=config.tie_embeddings,
            ),
            vocabulary_size=shape.target_vocabulary,
            source=encoder.source_shape,
        )
        if config.share_embeddings:
            encoder.embedding = decoder.embedding
        self.encoder_dropout = nn.Dropout(config.encoder_dropout)
        self.model = EncoderDecoder(encoder, decoder)

    @property
    def has_attention(self) -> bool:
        """See the base class."""
        return self.decoder.decoder.attention is not None

    @property
    def has_search(self) -> bool:
        """See the base class."""
        return True

    @property
    def decoder(self) -> TokenDecoder:
        """The decoder of tokens, for a search of one's own."""
        assert isinstance(self.model.decoder, TokenDecoder)
        return self.model.decoder

    def embedding_of(self, side: str) -> nn.Embedding:
        """The table of `source` or `target`."""
        table = self.model.encoder.embedding if side == "source" else self.decoder.embedding
        assert isinstance(table, nn.Embedding)
        return table

    def vocabulary_weights(self, side: str) -> tuple[str, ...]:
        """See the base class."""
        if side == "source":
            return ("model.encoder.embedding.weight",)
        return "model.decoder.embedding.weight", "model.decoder.output.weight", "model.decoder.output.bias"

    def start(self, source: Int[Tensor, "batch time"], lengths: Int[Tensor, "batch"]) -> Any:
        """The decoder's state before its first step: what a search begins with."""
        encoded = self.model.encoder(source, lengths)
        return self.decoder.start(encoded._replace(outputs=self.encoder_dropout(encoded.outputs)))

    def forward(
        self,
        source: Int[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        target: Int[Tensor, "batch target_time"],
        target_lengths: Int[Tensor, "batch"],
    ) -> TokenOutput:
        """Scores and attention of whole targets, each read up to the step before (teacher forcing)."""
        output: TokenOutput = self.decoder(target, target_lengths, self.start(source, lengths))
        return output

    def loss(
        self,
        batch: TranslationBatch,
        *,
        mean: MeanOver,
        label_smoothing: float = 0.0,
        true_probability: float = 1.0,
    ) -> SummedLoss:
        """See the base class."""
        return self.decoder.loss(
            batch.target,
            batch.target_lengths,
            self.start(batch.source, batch.source_lengths),
            labels=batch.labels,
            mean=mean,
            weight=batch.weight,
            label_smoothing=label_smoothing,
            true_probability=true_probability,
        )

    def translate(
        self,
        source: Int[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        *,
        config: BeamConfig,
        allow_unknown: bool = False,
    ) -> Hypotheses:
        """See the base class."""
        source = check_tokens(source, lengths, vocabulary=self.embedding_of("source"))
        return search(
            self.decoder,
            state=self.start(source, lengths),
            config=config,
            special=SPECIAL_WITH_UNKNOWN if allow_unknown else SPECIAL,
            source_lengths=lengths,
        )

    def score(
        self,
        source: Int[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        given: Sequence[Sequence[int]],
        *,
        config: BeamConfig,
    ) -> Hypotheses:
        """See the base class."""
        source = check_tokens(source, lengths, vocabulary=self.embedding_of("source"))
        return score(
            self.decoder,
            state=self.start(source, lengths),
            given=given,
            config=config,
            special=SPECIAL,
            source_lengths=lengths,
        )
