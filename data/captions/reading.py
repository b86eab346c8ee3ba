"""Every form of a caption corpus, by the names that a config gives."""

from data.captions.coco import CocoCaptions
from data.captions.corpus import PARTS, CaptionCorpus, CaptionCorpusConfig, Part
from data.captions.flickr import Flickr
from data.captions.hugging_face import HuggingFaceCaptions
from data.captions.karpathy import Karpathy
from data.captions.table import CaptionTable
from data.images.listing import list_images
from data.images.reading import ImageProblem

__all__ = [
    "PARTS",
    "CaptionCorpus",
    "CaptionCorpusConfig",
    "CaptionTable",
    "CocoCaptions",
    "Flickr",
    "HuggingFaceCaptions",
    "ImageProblem",
    "Karpathy",
    "Part",
    "list_images",
]
