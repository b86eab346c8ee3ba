"""python -m apps.captioning {fit,validate,test,predict}; see docs/captioning.md."""

from core.training.process.signals import catch_signals

if __name__ == "__main__":
    catch_signals()  # before the imports below, which take seconds

from apps.captioning.module import CaptioningModule
from apps.captioning.predict import predict
from apps.captioning.report import feed_forward_baseline, report
from core.training.cli import Application, main
from data.captioning import CaptioningData

CAPTIONING = Application(
    name="captioning",
    module=CaptioningModule,
    data=CaptioningData,
    predict=predict,
    baseline=feed_forward_baseline,
    report=report,
    defaults={"checkpoint.monitor": "val/cider_d", "checkpoint.mode": "max"},
)

if __name__ == "__main__":
    main(CAPTIONING)
