"""MLflow: a run of the server that `MLFLOW_TRACKING_URI` names, or of an SQLite file in our run's folder."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
import os
from collections import defaultdict
from collections.abc import Mapping

from vergence import register
from vergence.trackers.lines import LineTracker, now


@register.tracker("mlflow")
class MLflow(LineTracker):
    """One batch of metrics a line; the run is found again by a tag."""

    def open(self) -> defaultdict[str, int]:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or self._own_store())
        experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "vergence").experiment_id
        self.client = mlflow.MlflowClient()
        tag = "vergence.id"
        there = self.client.search_runs([experiment], f"tags.`{tag}` = '{self.identity()}'")
        begun = there[0] if there else self.client.create_run(experiment, tags={tag: self.identity()})
        self.id = begun.info.run_id
        self.client.update_run(self.id, status="RUNNING", name=self.folder.name)
        for name, value in self.settings().items():
            if name not in begun.data.params:
                self.client.log_param(self.id, name, value)
        histories = {name: self.client.get_metric_history(self.id, name) for name in begun.data.metrics}
        return defaultdict(int, {name: max(one.step for one in history) for name, history in histories.items()})

    def add(self, step: int, numbers: Mapping[str, float], states: Mapping[str, str]) -> None:
        from mlflow.entities import Metric, RunTag

        time = round(now() * 1000)
        metrics = [Metric(name, value, time, step) for name, value in numbers.items()]
        self.client.log_batch(self.id, metrics, tags=[RunTag(name, state) for name, state in states.items()])

    def _own_store(self) -> str:
        """Return the address of the file in the run's folder; a new one gets its name when its tables are whole."""
        import mlflow

        path, new = self.folder.resolve() / "mlflow.db", self.folder.resolve() / "mlflow-new.db"
        if not path.exists():
            new.unlink(missing_ok=True)
            mlflow.MlflowClient(f"sqlite:///{new}").search_experiments()
            new.rename(path)
        return f"sqlite:///{path}"

    def stop(self) -> None:
        self.client.set_terminated(self.id)
