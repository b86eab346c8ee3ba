"""python -m apps.translation {fit,validate,test,predict}; see docs/translation.md."""

from core.training.process.signals import catch_signals

if __name__ == "__main__":
    catch_signals()  # before the imports below, which take seconds

from apps.translation.module import TranslationModule
from apps.translation.predict import predict
from apps.translation.report import feed_forward_baseline, report
from core.training.cli import Application, main
from data.translation import TranslationData

TRANSLATION = Application(
    name="translation",
    module=TranslationModule,
    data=TranslationData,
    predict=predict,
    baseline=feed_forward_baseline,
    report=report,
    defaults={"checkpoint.monitor": "val/bleu_lc", "checkpoint.mode": "max"},
)

if __name__ == "__main__":
    main(TRANSLATION)
