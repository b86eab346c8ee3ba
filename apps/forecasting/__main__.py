"""python -m apps.forecasting {fit,validate,test,predict}; see docs/forecasting.md."""

from core.training.process.signals import catch_signals

if __name__ == "__main__":
    catch_signals()  # before the imports below, which take seconds

from apps.forecasting.module import ForecastingModule
from apps.forecasting.predict import predict
from apps.forecasting.report import feed_forward_baseline, report
from core.training.cli import Application, main
from data.forecasting import ForecastingData

FORECASTING = Application(
    name="forecasting",
    module=ForecastingModule,
    data=ForecastingData,
    predict=predict,
    baseline=feed_forward_baseline,
    report=report,
)

if __name__ == "__main__":
    main(FORECASTING)
