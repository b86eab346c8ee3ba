"""python -m apps.video_classification {fit,validate,test,predict}; see docs/video_classification.md."""

from core.training.process.signals import catch_signals

if __name__ == "__main__":
    catch_signals()  # before the imports below, which take seconds

from apps.video_classification.module import VideoClassificationModule
from apps.video_classification.predict import predict
from apps.video_classification.report import feed_forward_baseline, report
from core.training.cli import Application, main
from data.video_classification import VideoClassificationData

VIDEO_CLASSIFICATION = Application(
    name="video_classification",
    module=VideoClassificationModule,
    data=VideoClassificationData,
    predict=predict,
    baseline=feed_forward_baseline,
    report=report,
    defaults={"checkpoint.monitor": "val/top1", "checkpoint.mode": "max"},
)

if __name__ == "__main__":
    main(VIDEO_CLASSIFICATION)
