"""Classes of video files from a trained module, one file after the other; what cannot be read is skipped and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from apps.video_classification.ensemble import ClassificationEnsemble
from apps.video_classification.module import VideoClassificationModule
from data.images.transforms import ImageTransform
from data.video_io import VideoProblem, probe, read_frames
from data.videos.sampling import SamplingConfig, sampling_from_plain


@dataclass(frozen=True)
class Found:
    """What a video shows."""

    probabilities: Float[np.ndarray, "classes"]
    """Of each class: the mean over the clips of the video."""
    frames: list[int]
    """Numbers of the frames of its first clip."""
    fps: float
    """Frames a second of the video."""
    over_time: Float[np.ndarray, "time classes"] | None = None
    """Of its first clip up to each frame; None where that was not asked for."""


class Classifier:
    """Classifies videos as the test does: the frames that its sampling takes, the mean over its clips.

    Args:
        module: trained, on the device to compute on.
        over_time: whether to tell for every frame, too.
        ensemble: what classifies in the place of the module's network.

    Raises:
        ValueError: over_time of a network that has to have seen the end.
    """

    def __init__(
        self,
        module: VideoClassificationModule,
        *,
        over_time: bool = False,
        ensemble: ClassificationEnsemble | None = None,
    ) -> None:
        assert module.network is not None
        self.module = module.eval()
        self.network = ensemble or module.network
        self.class_names: list[str] = list(module.preprocessing["class_names"])
        self.transform = ImageTransform(**module.preprocessing["transform"])
        self.sampling: SamplingConfig = sampling_from_plain(module.preprocessing["sampling"])
        self.over_time = over_time
        self.problems: list[str] = []
        """What was wrong with each file that was skipped."""
        if over_time and not self.network.is_causal:
            raise ValueError(
                "--over_time: the network reads clips from their end too (bidirectional: true), so nothing can be said before "
                "they end. Leave it out, or train one with bidirectional: false."
            )

    def classify(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Found]]:
        """Each file that can be read with what it shows, in order."""
        for path in paths:
            try:
                found = self._classify(path)
            except VideoProblem as problem:
                self.problems.append(str(problem))
                continue
            yield path, found

    def _classify(self, path: Path) -> Found:
        info = probe(path)
        clips = self.sampling.clips(info.num_frames, info.fps, seed=None)
        wanted, places = np.unique(np.concatenate(clips), return_inverse=True)
        features = self.encode(read_frames(path, wanted))
        probabilities, start, over_time = [], 0, None
        for clip in clips:
            of_clip = features[torch.from_numpy(places[start : start + len(clip)])].unsqueeze(0)
            start += len(clip)
            with torch.no_grad():
                lengths = torch.tensor([len(clip)], device=self.module.device)
                scores = self.network(of_clip, lengths)
                if self.over_time and over_time is None:
                    over_time = _probabilities(self.network.scores_over_time(of_clip)[0])
            probabilities.append(_probabilities(scores[0]))
        return Found(np.mean(probabilities, axis=0), clips[0].tolist(), info.fps, over_time)

    def encode(self, frames: UInt8[np.ndarray, "frames height width 3"]) -> Float[Tensor, "frames regions features"]:
        """Frames of any size as the network reads them."""
        images = torch.stack([self.transform(frame, seed=None) for frame in frames])
        return self.network.encode(images.to(self.module.device))


def _probabilities(scores: Tensor) -> np.ndarray:
    found: np.ndarray = scores.double().softmax(-1).cpu().numpy()
    return found
