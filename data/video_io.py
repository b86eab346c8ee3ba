"""Video files: look into one (`probe`), read frames by number or one at a time, choose frames, and check whole folders.

The parts: `data.videos.decoding`, `data.videos.sampling`, `data.videos.scanning`.
"""

from data.videos.decoding import VideoInfo, iterate_frames, probe, read_frames
from data.videos.files import VideoProblem
from data.videos.indexing import FrameIndex, index_frames
from data.videos.listing import VIDEO_ENDINGS, list_videos
from data.videos.manifest import ScanResult, read_manifest, write_manifest
from data.videos.sampling import AtRate, Dense, EveryFrame, RandomSegments, SamplingConfig, Uniform
from data.videos.scanning import scan

__all__ = [
    "VIDEO_ENDINGS",
    "AtRate",
    "Dense",
    "EveryFrame",
    "FrameIndex",
    "RandomSegments",
    "SamplingConfig",
    "ScanResult",
    "Uniform",
    "VideoInfo",
    "VideoProblem",
    "index_frames",
    "iterate_frames",
    "list_videos",
    "probe",
    "read_frames",
    "read_manifest",
    "scan",
    "write_manifest",
]
