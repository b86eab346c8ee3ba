"""Every form of a corpus of clips, by the names that a config gives."""

from data.videos.checks import PARTS, Part
from data.videos.class_folders import ClassFolders
from data.videos.clip_table import SplitTable
from data.videos.corpus import Clip, VideoCorpus, VideoCorpusConfig
from data.videos.files import VideoProblem
from data.videos.hmdb51 import HMDB51
from data.videos.hugging_face import HuggingFaceVideos
from data.videos.kinetics import Kinetics
from data.videos.listing import VIDEO_ENDINGS, list_videos
from data.videos.ucf101 import UCF101

__all__ = [
    "HMDB51",
    "PARTS",
    "UCF101",
    "VIDEO_ENDINGS",
    "ClassFolders",
    "Clip",
    "HuggingFaceVideos",
    "Kinetics",
    "Part",
    "SplitTable",
    "VideoCorpus",
    "VideoCorpusConfig",
    "VideoProblem",
    "list_videos",
]
